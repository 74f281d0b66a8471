#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
#
# The examples run as printed.
set -u

here=$(dirname "$(readlink -f "$0")")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

echo 1..1
printf 'Hello, shared memory.\n' > "$work/text"
said=$("$here/../../lib/examples/hello" "$work/text" 2>&1)
status=$?
if [ $status -eq 0 ] && [ "$said" = "22 bytes: HELLO, SHARED MEMORY." ]; then
	echo "ok 1 hello"
else
	echo "# status $status: $said"
	echo "not ok 1 hello"
	exit 1
fi
