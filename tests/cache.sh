# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
# shellcheck shell=sh
#
# What fetch and vm/kernel-debug have in common: Debian's packages, and the cache that
# they are unpacked into.  For sourcing.

cache=${SHMDEV_CACHE:-${XDG_CACHE_HOME:-${HOME:?}/.cache}/shmdev}
SOURCE_SERIES=6.12
NOT_OFFERED=3

say()
{
	echo "${0##*/}: $*" >&2
}

die()
{
	say "$@"
	exit 1
}

tools_require()
{
	for tool in "$@"; do
		PATH=$PATH:/usr/sbin:/sbin command -v "$tool" >/dev/null ||
			die "no $tool here (tests/install installs what is needed, on Debian)"
	done
}

# Only root may, and more than once an hour changes nothing.
lists_update()
{
	[ "$(id -u)" = 0 ] || return 0
	[ -z "$(find /var/lib/apt/lists/partial -maxdepth 0 -mmin -60 2>/dev/null)" ] || return 0
	say "refreshing the package lists"
	apt-get -qq update >&2
}

# download DIRECTORY PACKAGE...
# Not as apt's own user, who need not be able to write into the cache.
download()
{
	(cd "$1" && shift && apt-get -q -o APT::Sandbox::User=root download "$@" >&2)
}

# Lists that are out of date name packages that are gone.
download_surely()
{
	download "$@" && return
	lists_update
	say "trying again"
	download "$@"
}

# new_begin: a directory $new to fill, of which nothing is left if that fails.
new_begin()
{
	mkdir -p "$cache/$1"
	new=$cache/$1/.new
	exec 9>"$cache/$1/.lock"
	flock -n 9 || { say "waiting for another one"; flock 9; }
	rm -rf "$new"
	trap 'rm -rf "$new"' EXIT
	trap 'exit 129' HUP
	trap 'exit 130' INT
	trap 'exit 143' TERM
	mkdir -p "$new/debs"
}

# source_unpack DIRECTORY PACKAGE[=VERSION] [TAR'S ARGUMENTS]: the kernel source of the
# package, or what tar is told of it.  Needs new_begin.
source_unpack()
{
	into=$1
	package=${2%%=*}
	download_surely "$new/debs" "$2"
	shift 2
	dpkg-deb --fsys-tarfile "$new"/debs/*.deb |
		tar -xO "./usr/src/$package.tar.xz" | xz -dc |
		tar -x -C "$into" --strip-components=1 "$@"
	rm -r "$new/debs"
}

# kernel_use SERIES DIRECTORY, of the cache: make it the kernel of that series, and say
# where it is.
kernel_use()
{
	mkdir -p "$cache/series"
	ln -sfnT "../$2" "$cache/series/$1"
	echo "$cache/$2"
}
