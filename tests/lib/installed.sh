#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
#
# The installed library, used by programs that know of it what pkg-config says and no
# more.  Run where it was built, $(O)/tests/lib/installed, beside which root/ is the
# installed copy, and in the project's directory, for make.
set -u

here=$(dirname "$(readlink -f "$0")")
root=$here/root
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
count=0
failed=0
export PKG_CONFIG_PATH="$root/lib/pkgconfig"
unset LD_LIBRARY_PATH

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

echo 1..10

# --- what is there --------------------------------------------------------------------

version=$(pkg-config --modversion shmdev 2> "$work/said")
cat > "$work/expected" <<-EOF2
include/linux/shmdev.h
include/shmdev.h
lib/libshmdev.a
lib/libshmdev.so
lib/libshmdev.so.0
lib/libshmdev.so.$version
lib/pkgconfig/shmdev.pc
EOF2
(cd "$root" && find . ! -type d ! -path './share/man/*' | sed 's|^\./||' | LC_ALL=C sort) > "$work/found"
[ -n "$version" ] && diff "$work/expected" "$work/found" >> "$work/said"
result $? nothing_is_missing_and_nothing_too_much
as_notes < "$work/said"

[ "$(readlink "$root/lib/libshmdev.so.0")" = "libshmdev.so.$version" ] &&
	[ "$(pkg-config --libs shmdev | xargs)" = "-L$root/lib -lshmdev" ]
result $? a_shared_link_names_no_other_library

missing=$(tr '\n' ' ' < "$root/include/shmdev.h" | grep -o 'SHMDEV_API [^;]*;' |
	grep -o 'shm[a-z_]*(' | tr -d '(' | while read -r call; do
		[ -f "$root/share/man/man3/$call.3" ] || echo "no page is found as $call"
	done)
[ -z "$missing" ] && [ -f "$root/share/man/man7/shmdev.7" ] &&
	[ -f "$root/share/man/man4/shmdev.4" ]
result $? a_page_for_each_call
[ -z "$missing" ] || echo "$missing" | as_notes

# --- programs -------------------------------------------------------------------------

cat > "$work/use.c" <<'EOF2'
#include <linux/shmdev.h>
#include <shmdev.h>
#include <stdio.h>
#include <string.h>

int main(void)
{
	struct shmdev_info info;
	char *block = (char *)shm_alloc(100);
	int good;

	if (!block || shmdev_info_get(&info))
		return 1;
	strcpy(block, shmdev_backend_name(info.backend));
	good = info.blocks == 1 && SHMDEV_ABI_VERSION;
	puts(block);
	shm_free(block);
	return !good;
}
EOF2

# Build it and run it; $5...: more options.
try() {		# <name> <compiler> <language> <shared|static> [...]
	name=$1 compiler=$2 language=$3 kind=$4
	shift 4
	if ! command -v "$compiler" > /dev/null; then
		skip "$name" "no $compiler"
		return
	fi
	static='' path=''
	if [ "$kind" = static ]; then
		static=--static
	else
		path=$root/lib
	fi
	# All that pkg-config says are words.
	# shellcheck disable=SC2046
	"$compiler" "$@" -Wall -Wextra -Wpedantic -Werror $(pkg-config --cflags shmdev) \
		-x "$language" "$work/use.c" -x none -o "$work/use" -Wl,-z,defs \
		$(pkg-config $static --libs shmdev) > "$work/said" 2>&1 &&
		LD_LIBRARY_PATH=$path SHMDEV_BACKEND=memfd "$work/use" >> "$work/said" 2>&1 &&
		[ "$(cat "$work/said")" = memfd ]
	result $? "$name"
	as_notes < "$work/said"
}

try a_c_program gcc c shared -std=c99
try a_static_c_program gcc c static -std=c99 -static
try a_cplusplus_program g++ c++ shared -std=c++11
try a_static_cplusplus_program g++ c++ static -std=c++11 -static

# A shared object that takes the library in, as Python's extension does.
take_in() {
	# shellcheck disable=SC2046
	gcc -shared -fPIC -Wall -Wextra -Werror $(pkg-config --cflags shmdev) -Dmain=run \
		"$work/use.c" "$root/lib/libshmdev.a" -o "$work/libtaken.so" -Wl,-z,defs \
		-Wl,--exclude-libs,ALL -luring -pthread &&
		echo 'int run(void); int main(void) { return run(); }' > "$work/main.c" &&
		gcc "$work/main.c" "$work/libtaken.so" -o "$work/main" "-Wl,-rpath,$work" &&
		SHMDEV_BACKEND=memfd "$work/main" > "$work/printed" &&
		[ "$(nm -D --defined-only "$work/libtaken.so" | grep -c ' shm')" = 0 ]
}
if command -v gcc nm > /dev/null; then
	take_in > "$work/said" 2>&1
	result $? a_shared_object_takes_it_in
	as_notes < "$work/said"
else
	skip a_shared_object_takes_it_in "no gcc or nm"
fi

# --- make -----------------------------------------------------------------------------

# All of it below a place that it will not be used in, and away again.
staged() {
	make -s O="$here/../.." install-lib DESTDIR="$work/stage" PREFIX=/opt/it LIBDIR=/opt/it/lib64 &&
		[ -f "$work/stage/opt/it/lib64/libshmdev.so.$version" ] &&
		[ "$(ls "$work/stage")" = opt ] &&
		! grep -r "$work" "$work/stage" &&
		grep -q '^prefix=/opt/it$' "$work/stage/opt/it/lib64/pkgconfig/shmdev.pc" &&
		[ "$(PKG_CONFIG_PATH="$work/stage/opt/it/lib64/pkgconfig" PKG_CONFIG_SYSROOT_DIR="$work/stage" \
			pkg-config --variable=libdir shmdev)" != '' ]
}
unstaged() {
	make -s O="$here/../.." uninstall-lib DESTDIR="$work/stage" PREFIX=/opt/it LIBDIR=/opt/it/lib64 &&
		[ "$(find "$work/stage" ! -type d | wc -l)" = 0 ]
}
if ! command -v make > /dev/null || ! [ -f lib/install.mk ]; then
	skip a_staged_installation "no make, or not in the project's directory"
	skip nothing_is_left_behind "no make, or not in the project's directory"
else
	staged > "$work/said" 2>&1
	result $? a_staged_installation
	as_notes < "$work/said"
	unstaged > "$work/said" 2>&1
	result $? nothing_is_left_behind
	as_notes < "$work/said"
fi

exit $failed
