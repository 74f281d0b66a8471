# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT

# --- make bench [B=name], make demo: numbers, side by side -------------------------------

BENCH_TOOLS := $(O)/tests/bench/region $(O)/tests/bench/zero $(O)/tests/bench/fill $(O)/tests/bench/share \
	       $(O)/tests/bench/alloc $(O)/tests/bench/clear

all: $(BENCH_TOOLS)

$(O)/tests/bench/%: tests/bench/%.c $(O)/lib/libshmdev.a
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) $(LDFLAGS) -o $@ $(filter %.c %.a,$^) -luring -pthread

# As the libraries it is beside of: called through the table of a shared object.
$(O)/tests/bench/alloc: tests/bench/alloc.c $(O)/lib/libshmdev.so
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -fno-builtin $(LDFLAGS) -o $@ $(filter %.c %.so,$^) -pthread \
		-Wl,-rpath,'$$ORIGIN/../../lib'

-include $(BENCH_TOOLS:=.d)

.PHONY: bench
bench: all
	@set -e; for program in $(wildcard tests/bench/bench_*$(B)*.py); do \
		PYTHONPATH=$(O)/python PYTHONDONTWRITEBYTECODE=1 $(PYTHON) $$program; done

# DEVICE=here inserts the module into the running kernel instead of a machine of its own.
.PHONY: demo
demo: packages
	@$(MAKE) --no-print-directory all
	@PYTHON=$(PYTHON) O=$(O) DEVICE=$(DEVICE) tests/bench/demo
