#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
#
# The examples run as printed, and are printed in the manual as they are.
set -u

here=$(dirname "$(readlink -f "$0")")
examples=$here/../../lib/examples
pages=$here/../../lib/man
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
count=0
failed=0

result() {	# <name> <said> <wanted>
	count=$((count + 1))
	if [ "$2" = "$3" ]; then
		echo "ok $count $1"
	else
		echo "$2" | sed 's/^/# /'
		echo "not ok $count $1"
		failed=1
	fi
}

echo 1..9

printf 'Hello, shared memory.\n' > "$work/text"
said=$("$examples/hello" "$work/text" 2>&1)
result hello "$said" '22 bytes: HELLO, SHARED MEMORY.'

# Two processes that know nothing of each other but the text.
mkfifo "$work/go"
"$examples/share" < "$work/go" > "$work/said" &
exec 3> "$work/go"
while ! grep -q '^shmdev1-' "$work/said" && kill -0 $!; do
	sleep 0.01
done
"$examples/share" "$(cat "$work/said")"
exec 3>&-
wait $!
result share "$(sed 1d "$work/said")" 'Hello from over there.'

said=$("$examples/send" 2>&1)
result send "$said" '1048576 bytes: It was under way when its maker ended.'

said=$("$examples/ready" 2>&1)
result ready "$said" 'It was ready.'

if [ -e /dev/shmdev ]; then
	said=$("$examples/device" 2>&1)
	result device "$said" '2097152 bytes: Hello from the device.'
else
	count=$((count + 1))
	echo "ok $count device # SKIP no /dev/shmdev"
fi

for name in share send ready device; do
	case $name in
	device)	page=shmdev.4 ;;
	ready)	page=shmdev_ready_start.3 ;;
	share)	page=shmdev_export.3 ;;
	*)	page=shmdev_send.3 ;;
	esac
	sed -n '/^\.EX/,/^\.EE/p' "$pages/$page" | sed '1d;$d;s/\\e/\\/g' > "$work/printed"
	result "${name}_as_printed" \
		"$(sed 1d "$here/obj/examples/$name.c" | diff - "$work/printed")" ''
done
exit $failed
