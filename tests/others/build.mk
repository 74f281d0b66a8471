# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT

# --- make check-others: what others have to find fault with -----------------------------

$(O)/tests/others/region: tests/others/region.c $(O)/lib/libshmdev.so
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -o $@ $< $(O)/lib/libshmdev.so -Wl,-rpath,'$$ORIGIN/../../lib' $(LDFLAGS)

$(O)/tests/others/blocks.o: tests/others/blocks.c
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -fno-builtin -c -o $@ $<

OTHERS := fio liburing

.PHONY: check-others
check-others: $(O)/tests/others/region $(O)/tests/others/blocks.o
	@tests/install others
	@failed=; for others in $(OTHERS); do \
		B=$(O) tests/others/$$others.sh || failed="$$failed $$others"; \
	done; [ -z "$$failed" ] || { echo "failed:$$failed" >&2; exit 1; }
