# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
#
# make          library, binding and a module for each kernel headers package
# make demo     the main job, stock multiprocessing beside shmdev
# make check    all tests; T=name runs one
# make help     the rest

.DEFAULT_GOAL := all
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules

O       := build
B       := $(O)
VERSION := $(shell cat VERSION)
PYTHON  ?= /usr/bin/python3
CC      := $(if $(filter default,$(origin CC)),gcc,$(CC))
CFLAGS  ?= -O2 -g

# What every C file of the project is compiled with, whatever CFLAGS says.
ALL_CFLAGS = -std=gnu11 -Wall -Wextra -Werror -Iinclude -Iinclude/uapi \
	     -DSHMDEV_VERSION='"$(VERSION)"' -MMD -MP $(CFLAGS)

include $(wildcard kmod/build.mk lib/build.mk lib/python/build.mk tests/build.mk tests/bench/build.mk)

.PHONY: all clean
all:
clean:
	rm -rf $(O)
