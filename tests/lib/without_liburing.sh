#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
#
# The library as it is built where there is no liburing: the same programs, with this one
# in place of the other, which the loader takes for it because it has the same name.
set -u

here=$(dirname "$(readlink -f "$0")")
library=$here/none/libshmdev.so.0
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
	sed 's/^/# /' "$said"
}

# A program's own tests; one that is skipped is named in a comment.
run() {		# <program>
	LD_PRELOAD=$library "$here/$1" > "$said" 2>&1
	status=$?
	[ "$(grep -c '^ok' "$said")" -gt 0 ] || status=1
	sed -i '/^ok/{/# SKIP/!d;}; /^1\.\./d' "$said"
	result "$status" "$1"
}

said=$(mktemp)
trap 'rm -f "$said"' EXIT

echo 1..8

# What it says is missing has to be missing, or the rest is about the other library.
readelf -d "$library" > "$said" && grep -q "NEEDED.*libc" "$said" && ! grep -q uring "$said"
status=$?
: > "$said"
result $status it_needs_no_liburing

# Also where the kernel has io_uring; then that test of the other library does not pass.
LD_PRELOAD=$library "$here/fill_engine" the_best_engine_is_used > "$said" 2>&1
grep -q '^# engine: preadv' "$said"
result $? it_reads_by_system_calls

run fill
run fill_stream
run drain
run job
run job_fork
run path

exit $failed
