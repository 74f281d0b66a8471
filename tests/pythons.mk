# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT

# --- the binding with other interpreters, and what comes from PyPI -----------------------

T_PYTHON := host-memfd/python/

# Those of pyenv, or name some: make check-pythons PYTHONS='python3.9 /opt/3.13/bin/python3'
PYTHONS ?= $(foreach minor,9 10 11 12 13 14,$(lastword $(sort \
		$(wildcard $(HOME)/.pyenv/versions/3.$(minor).*/bin/python3))))

.PHONY: check-pythons check-debug check-tsan check-extras
check-pythons: packages
	@failed=; for python in $(PYTHONS); do \
		echo "== $$($$python -VV)"; \
		$(MAKE) --no-print-directory check PYTHON=$$python T='$(or $(T),$(T_PYTHON))' || \
			failed="$$failed $$python"; \
	done; [ -z "$$failed" ] || { echo "failed:$$failed" >&2; exit 1; }

# A build of CPython with its assertions.
check-debug:
	@tests/install pythons
	@$(MAKE) --no-print-directory check PYTHON=/usr/bin/python3-dbg T='$(or $(T),$(T_PYTHON))'

# Library and binding are compiled for the race detector.
check-tsan:
	@tests/install pythons
	@set -e; for tests in $(or $(T),threads convert/Threads guarded fill); do \
		$(MAKE) --no-print-directory check PYTHON=tests/python/tsan O=$(O)/tsan \
			CFLAGS='-O1 -g -fsanitize=thread' LDFLAGS=-fsanitize=thread \
			T="$(T_PYTHON)$$tests"; done

# What the tests and examples skip where it is missing is installed, and then is not to be
# skipped.  EXTRAS=directory is a virtual environment to make or to bring up to date.
EXTRAS := $(O)/extras

$(EXTRAS)/installed: tests/extras.txt
	@tests/install pythons
	$(PYTHON) -m venv $(EXTRAS)
	$(EXTRAS)/bin/pip install --quiet --disable-pip-version-check -r $<
	@touch $@

.PHONY: extras
extras: $(EXTRAS)/installed
check-extras: extras
	@SHMDEV_EXTRAS=1 $(MAKE) --no-print-directory check \
		PYTHON=$(abspath $(EXTRAS))/bin/python T='$(or $(T),$(T_PYTHON))'
