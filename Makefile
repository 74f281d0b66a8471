# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
#
# make		library, binding and a module for each kernel headers package
# make demo	the main job, stock multiprocessing beside shmdev; on /dev/shmdev in a
#		virtual machine, or with DEVICE=here in this kernel
# make check	all tests; T=part of a name, or a pattern for it, runs some;
#		KERNELS='6.1 6.12' are the virtual machines, as with KERNEL= below
# make check-sanitizers	the library's tests with AddressSanitizer and UBSan, ThreadSanitizer,
#		and Valgrind: check-asan, check-races, check-valgrind; T='names of programs'
# make soak	tests of the raw interface SOAK=20 times as long; T= as above
# make check-pythons	the tests of the binding with each of PYTHONS= (those of pyenv);
#		check-debug: with a debug build of CPython; check-tsan: under ThreadSanitizer;
#		check-extras: with what comes from PyPI, and is installed into build/extras:
#		hypothesis, mypy, today's numpy, torch and so on (tests/extras.txt)
# make check-others	fills and drains, and regions, by what others have to find fault
#		with: fio's verify mode, and liburing's own tests with their buffers
#		in shared memory (fetched, or skipped if there is no network)
# make vm	CMD='a command', as root in a virtual machine with shmdev.ko inserted:
#		KERNEL=6.1|6.12|debug|newest, MEM=3G, TIMEOUT=600 (seconds),
#		MODPARAMS='for the module', INSMOD=0 (do not), APPEND='to the kernel
#		command line', ICOUNT=1 (its clocks count instructions, one a nanosecond),
#		NODES=1 (two, and one of memory that can be taken out)
# make kernel-debug	build the kernel "debug": 6.12 with KASAN, lockdep, kmemleak and
#		so on; KERNEL=newest builds "newest", the same of Debian's newest source
# make bench	measurements; B=name runs one
# make install	library, headers and manual below PREFIX=/usr/local, the package into
#		$(PYTHON)'s own directory, or PY_SITE=directory; all of it below DESTDIR=.
#		install-lib and install-python do one of them; uninstall, and
#		uninstall-lib, undo it
# make fuzz	requests that clang's libFuzzer makes up, for FUZZ_TIME=60 seconds
# make lint	checkpatch, sparse, shellcheck, and both compilers
# make packages	install the Debian packages that all of this takes
# make clean	remove build/
#
# Variables: PYTHON=interpreter (/usr/bin/python3), CC=, CFLAGS=, O=directory (build).
# Kernels are unpacked in SHMDEV_CACHE (~/.cache/shmdev), which nothing here removes.

.DEFAULT_GOAL := all
.DELETE_ON_ERROR:
.SECONDARY:
MAKEFLAGS += --no-builtin-rules

O       := build
VERSION := $(shell cat VERSION)
PYTHON  ?= /usr/bin/python3
CC      := $(if $(filter default,$(origin CC)),gcc,$(CC))
CFLAGS  ?= -O2 -g

# What every C file of the project is compiled with, whatever CFLAGS says.
ALL_CFLAGS = -std=gnu11 -Wall -Wextra -Werror -Iinclude -Iinclude/uapi \
	     -DSHMDEV_VERSION='"$(VERSION)"' -MMD -MP $(CFLAGS)

include $(wildcard kmod/build.mk lib/build.mk lib/python/build.mk tests/build.mk tests/bench/build.mk)

.PHONY: all clean help
all:
clean:
	rm -rf $(O)

help:
	@sed -n '/^# make/,/^$$/s/^# \{0,1\}//p' Makefile
