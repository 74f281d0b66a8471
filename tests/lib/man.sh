#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
#
# Every call has a page, and the pages are without errors.
set -u

here=$(dirname "$(readlink -f "$0")")
pages=$here/../../lib/man
failed=0

echo 1..2

missing=$(tr '\n' ' ' < "$here/obj/shmdev.h" | grep -o 'SHMDEV_API [^;]*;' |
	grep -o 'shm[a-z_]*(' | tr -d '(' | while read -r call; do
		cat "$pages"/*.3 | sed -n '/^\.SH NAME/,/^\.SH LIBRARY/p' | grep -qw "$call" ||
			echo "# no page has $call in its name section"
	done)
if [ -z "$missing" ]; then
	echo "ok 1 every_call_has_a_page"
else
	echo "$missing"
	echo "not ok 1 every_call_has_a_page"
	failed=1
fi

if ! command -v groff > /dev/null; then
	echo "ok 2 groff_has_no_complaints # SKIP no groff"
	exit $failed
fi
said=$(groff -man -Tutf8 -ww -z "$pages"/*.[347] 2>&1)
if [ -z "$said" ]; then
	echo "ok 2 groff_has_no_complaints"
else
	echo "$said" | sed 's/^/# /'
	echo "not ok 2 groff_has_no_complaints"
	failed=1
fi
exit $failed
