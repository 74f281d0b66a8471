# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT

# --- make lint: what other eyes find --------------------------------------------------

CHECKPATCH := $(SHMDEV_CACHE)/source/6.12/scripts/checkpatch.pl

$(CHECKPATCH): | $(KSFT)/lib.mk

# Version tests are what a header of kmod/compat is for, and nothing else may have them.
LINT_IGNORE_compat := LINUX_VERSION_CODE,CONSTANT_COMPARISON
LINT_COMPAT  := $(wildcard kmod/compat/*.h)
LINT_KERNEL  := $(wildcard kmod/*.[ch]) include/uapi/linux/shmdev.h
LINT_SCRIPTS = $(shell grep -rlE '^\#!/bin/(ba|busybox )?sh' .ci tests lib)
LINT_PYTHON  = $(shell grep -rlE '^\#!/usr/bin/(env )?python3' tests lib) \
	       $(wildcard tests/*.py tests/*/*.py lib/python/*.py lib/python/shmdev/*.py)

.PHONY: lint lint-packages lint-checkpatch lint-sparse lint-shell lint-python \
	lint-header lint-gcc lint-clang
lint: lint-packages
	@$(MAKE) --no-print-directory -k lint-checkpatch lint-sparse lint-shell lint-python \
		lint-header lint-gcc lint-clang
	@echo "lint: nothing found"

lint-packages:
	@tests/install lint

# These files are no patch to a kernel tree, and stand in none.
lint-checkpatch: $(CHECKPATCH)
	perl $(CHECKPATCH) --no-tree --strict --quiet --show-types -f $(LINT_KERNEL)
	perl $(CHECKPATCH) --no-tree --strict --quiet --show-types \
		--ignore $(LINT_IGNORE_compat) -f $(LINT_COMPAT)

# The kernel's own headers are not all clean: only what is said of our files counts.
LINT_SPARSE := $(KMODS:$(O)/kmod/%/shmdev.ko=lint-sparse-%)
lint-sparse: $(LINT_SPARSE)
.PHONY: $(LINT_SPARSE)
$(LINT_SPARSE): lint-sparse-%: $(O)/kmod/%/shmdev.ko
	@echo "SPARSE	$*"
	@$(MAKE) -s C=2 $(KBUILD_$*) >$(<D)/sparse.log 2>&1 || { cat $(<D)/sparse.log; exit 1; }
	@! grep -E '/(kmod|uapi/linux)/[^:/]*:[0-9]+:.*(warning|error):' $(<D)/sparse.log

lint-shell:
	shellcheck -x $(LINT_SCRIPTS)

lint-python:
	@$(PYTHON) -c 'import sys; \
	[compile(open(name, encoding="utf-8").read(), name, "exec") for name in sys.argv[1:]]; \
	print(f"PYTHON	{len(sys.argv) - 1} files")' $(sort $(LINT_PYTHON))

# The kernel's contract, alone, in every language and of one layout in every word size.
LINT_HEADER := '-x c -std=c99' '-x c -std=gnu11 -m32' '-x c++ -std=c++11' '-x c++ -std=c++20 -m32'
LINT_LAYOUT := query:128 alloc:64 attach:64 stat:64 export:64 seal:32
lint-header:
	@for options in $(LINT_HEADER); do \
		{ echo '#include <linux/shmdev.h>'; for struct in $(LINT_LAYOUT); do \
			echo "typedef char size_$${struct%:*}[sizeof(struct shmdev_$${struct%:*})" \
				"== $${struct#*:} ? 1 : -1];"; \
		done; } | $(CC) $$options -fsyntax-only -Wall -Wextra -Wpedantic -Werror \
			-Iinclude/uapi -isystem /usr/include/$$($(CC) -print-multiarch) - || exit; \
	done
	@echo "HEADER	include/uapi/linux/shmdev.h"

lint-gcc lint-clang: lint-%:
	$(MAKE) --no-print-directory O=$(O)/lint/$* CC=$* lib lib-tests python kselftest
