#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
#
# fio's verify mode: blocks that fio wrote, each with its checksum and place in it, go
# through shared memory into another file, in which fio looks for them; and fio's own I/O
# from and to a region.  Prints TAP.  B= is the directory with what was built.
set -u

region=${B:-build}/tests/others/region
work=$(mktemp -d "${TMPDIR:-/var/tmp}/shmdev-fio-XXXXXX")
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
		sed 's/^/# /' "$work/said"
	fi
}

skip() {	# <name> <reason>
	count=$((count + 1))
	echo "ok $count $1 # SKIP $2"
}

if ! command -v fio > /dev/null; then
	echo "1..0 # SKIP fio is not installed"
	exit 0
fi

blocks() {	# <file> <block size> [...]: what write and verify have in common
	file=$1 size=$2
	shift 2
	fio --name=blocks --filename="$file" --size=24m --rw=randwrite --bs="$size" \
		--verify=crc32c --verify_state_save=0 --verify_fatal=1 "$@" >> "$work/said" 2>&1
}

direct=direct
dd if=/dev/zero of="$work/probe" oflag=direct bs=4096 count=1 2> /dev/null || direct=

for size in 512 4k 64k 1m; do
	for how in buffered direct; do
		for piece in 4099 65536 1000001; do
			name="blocks_of_${size}_${how}_in_requests_of_$piece"
			if [ $how = direct ] && [ -z "$direct" ]; then
				skip "$name" "no O_DIRECT there"
				continue
			fi
			flag=
			[ $how = buffered ] || flag=direct
			: > "$work/said"
			rm -f "$work/from" "$work/to"
			# shellcheck disable=SC2086	# none or one
			blocks "$work/from" $size --do_verify=0 &&
				"$region" through "$work/from" "$work/to" $piece $flag \
					>> "$work/said" 2>&1 &&
				blocks "$work/to" $size --verify_only
			result $? "$name"
		done
	done
done

# Or it would have noticed nothing above.
: > "$work/said"
printf x | dd of="$work/to" bs=1 seek=7000001 conv=notrunc 2> /dev/null
! blocks "$work/to" 1m --verify_only
result $? fio_notices_one_byte

# fio's buffers are a region: it writes from there, and reads into it to verify.
for engine in psync io_uring; do
	for size in 4k 64k; do
		name="its_buffers_in_a_region_${engine}_$size"
		: > "$work/said"
		rm -f "$work/from"
		mkfifo "$work/go"
		"$region" hold 4194304 < "$work/go" > "$work/path" 2>> "$work/said" &
		holder=$!
		exec 7> "$work/go"
		rm "$work/go"
		while [ ! -s "$work/path" ] && kill -0 $holder 2> /dev/null; do sleep 0.1; done
		if ! fio --name=probe --filename="$work/from" --size=4k --rw=write --bs=4k \
			--ioengine=$engine > "$work/probe" 2>&1; then
			skip "$name" "fio has no $engine here"
			exec 7>&-
			wait $holder
			continue
		fi
		rm -f "$work/from"
		blocks "$work/from" $size --ioengine=$engine --iodepth=16 \
			--mem="mmapshared:$(cat "$work/path")"
		status=$?
		exec 7>&-
		wait $holder || status=1
		result $status "$name"
	done
done

echo "1..$count"
exit $failed
