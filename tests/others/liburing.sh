#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
#
# liburing's own tests of reads, writes and registered buffers, of the version that is
# installed here, with all buffers in memory of ours.  A test that fails with malloc(3)
# as well is of no use here, and skipped; so are all without a network, or the source in the
# cache.  Prints TAP.  B= is the directory with what was built.
set -u

build=${B:-build}
library=$(readlink -f "$build/lib")
blocks=$(readlink -f "$build/tests/others/blocks.o")
tests='read-write fixed-buf-iter fixed-reuse fixed-link short-read file-verify fsync
	ringbuf-read buf-ring submit-reuse rsrc_tags'

if ! source=$(tests/fetch liburing); then
	echo "1..0 # SKIP no source of liburing is to be had (network?)"
	echo "liburing: skipped: no source of liburing is to be had (network?)" >&2
	exit 0
fi
source=$(echo "$source" | tail -n 1)

work=$(mktemp -d "${TMPDIR:-/var/tmp}/shmdev-liburing-XXXXXX")
trap 'rm -rf "$work"' EXIT
cp -r "$source" "$work/source"
(cd "$work/source" && ./configure --cc="${CC:-gcc}") > "$work/said" 2>&1 || {
	cat "$work/said"
	exit 1
}

# @1: a test; @2...: more for the linker.  Their warnings are theirs.
compile() {
	name=$1
	shift
	(cd "$work/source/test" && "${CC:-gcc}" -D_GNU_SOURCE -D__SANE_USERSPACE_TYPES__ -w -O1 -g \
		-I../src/include -include ../config-host.h "$name.c" helpers.c "$@" \
		-luring -pthread) > "$work/said" 2>&1
}

run() {		# <program>
	(cd "$work" && BLOCKS_SERVED="$work/served" timeout 120 "$1") > "$work/said" 2>&1
}

wrap='-Wl,--wrap=malloc,--wrap=calloc,--wrap=posix_memalign,--wrap=aligned_alloc,--wrap=free,--wrap=setrlimit'
count=0
failed=0
for name in $tests; do
	count=$((count + 1))
	rm -f "$work/served"
	if ! [ -e "$work/source/test/$name.c" ]; then
		echo "ok $count $name # SKIP this liburing has no such test"
		continue
	fi
	if ! compile "$name" "$blocks" "$wrap" -o "$work/ours" "$library/libshmdev.so" \
		"-Wl,-rpath,$library"; then
		failed=1
		echo "not ok $count $name"
		sed 's/^/# /' "$work/said"
		continue
	fi
	run "$work/ours"
	status=$?
	if [ $status = 77 ]; then
		echo "ok $count $name # SKIP as it says itself"
	elif [ $status != 0 ]; then
		cp "$work/said" "$work/ours.said"
		if compile "$name" -o "$work/theirs" && ! run "$work/theirs"; then
			echo "ok $count $name # SKIP fails on this machine with malloc, too"
		else
			failed=1
			echo "not ok $count $name"
			echo "# status $status"
			sed 's/^/# /' "$work/ours.said"
		fi
	elif ! grep -q '^[1-9]' "$work/served"; then
		failed=1
		echo "not ok $count $name"
		echo "# nothing that it allocated was ours"
	else
		echo "ok $count $name"
		echo "# $(awk '{ sum += $1 } END { print sum }' "$work/served") blocks"
	fi
done

echo "1..$count"
exit $failed
