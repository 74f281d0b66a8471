#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
#
# What the libraries export is what the header declares; the header is C and C++.
# Run where it was built: $(O)/tests/lib/abi.
set -u

here=$(dirname "$(readlink -f "$0")")
lib=$here/../../lib
header=$here/obj/shmdev.h		# a copy of the one it was built from
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
count=0
failed=0

result() {	# <status> <name>
	count=$((count + 1))
	if [ "$1" -eq 0 ]; then
		echo "ok $count $2"
	else
		failed=1
		echo "not ok $count $2"
	fi
}

skip() {	# <name> <reason>
	count=$((count + 1))
	echo "ok $count $1 # SKIP $2"
}

# The rest of a pipe as comments.
as_notes() {
	sed 's/^/# /'
}

echo 1..8

# A declaration begins with SHMDEV_API; the name is the last word before the first
# parenthesis that follows a name of ours.
tr '\n' ' ' < "$header" | grep -o 'SHMDEV_API [^;]*;' | grep -o 'shm[a-z_]*(' |
	tr -d '(' | sort > "$work/declared"
[ "$(wc -l < "$work/declared")" -ge 43 ]
result $? the_header_declares_the_calls

if ! command -v nm > /dev/null; then
	skip the_shared_library_exports_them_and_no_more "no nm"
	skip the_version_script_names_each "no nm"
	skip the_static_library_defines_them_and_no_more "no nm"
else
	nm -D --defined-only "$lib/libshmdev.so" | awk '$2 == "T" || $2 == "B" || $2 == "D" || $2 == "R" || $2 == "W" { print $3 }' |
		sort > "$work/exported"
	sed 's/$/@@SHMDEV_0.1/' "$work/declared" | diff - "$work/exported" > "$work/diff"
	result $? the_shared_library_exports_them_and_no_more
	as_notes < "$work/diff"

	# What a program may rely on is written down name by name, never as a pattern.
	sed -n '/global:/,/local:/s/^\t\([^*]*\);$/\1/p' "$here/obj/shmdev.map" | sort |
		diff "$work/declared" - > "$work/diff"
	result $? the_version_script_names_each
	as_notes < "$work/diff"

	nm -g --defined-only "$lib/libshmdev.a" | awk 'NF == 3 { print $3 }' | sort > "$work/defined"
	diff "$work/declared" "$work/defined" > "$work/diff"
	result $? the_static_library_defines_them_and_no_more
	as_notes < "$work/diff"
fi

if ! command -v readelf > /dev/null; then
	skip the_soname_is_libshmdev.so.0 "no readelf"
else
	readelf -d "$lib/libshmdev.so" | grep -q 'SONAME.*\[libshmdev\.so\.0\]'
	result $? the_soname_is_libshmdev.so.0
fi

try() {		# <name> <compiler> <options...>
	name=$1 compiler=$2
	shift 2
	if ! command -v "$compiler" > /dev/null; then
		skip "$name" "no $compiler"
		return
	fi
	cat > "$work/use.c" <<-EOF
	#include "shmdev.h"
	int main(void)
	{
		struct shm_fill fill = { 0, 0, SHM_FILL_CURRENT, -1, 0, 0, 0 };
		struct shmdev_info info;
		void *block = shm_alloc(100);

		if (!block || shm_fill(&fill, 1) || fill.result || shmdev_info_get(&info))
			return 1;
		shmdev_job_free(shmdev_fill_start(&fill, 1));
		shm_free(block);
		return 0;
	}
	EOF
	# Both are words for the command line, or none.
	# shellcheck disable=SC2086
	"$compiler" "$@" -Wall -Wextra -Wpedantic -Werror -I"$here/obj" -o "$work/use" \
		$last_of "$work/use.c" $language_off "$lib/libshmdev.so" \
		-Wl,-rpath,"$lib" > "$work/said" 2>&1 &&
		SHMDEV_BACKEND=memfd "$work/use" >> "$work/said" 2>&1
	result $? "$name"
	as_notes < "$work/said"
}

last_of='' language_off=''
try a_c99_program_uses_it gcc -std=c99
try a_c23_program_uses_it gcc -std=c2x
last_of='-x c++' language_off='-x none'
try a_cplusplus_program_uses_it g++ -std=c++11

exit $failed
