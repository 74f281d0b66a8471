# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT

# --- the library's tests with AddressSanitizer, ThreadSanitizer and Valgrind ------------

# Not here: fault, which stands between the library and what a sanitizer stands before, and
# the scripts, which look at the library as it is installed.  Nor job_fork: it forks while
# other threads allocate, and of gcc 12 AddressSanitizer's allocator is then locked in the
# child.
SANITIZED := backend block copy drain fill fork fresh handle heap job/ limits model path region share threads
# For the race detector, what has threads of its own or in the library.  Not job_fork: its
# children start threads, and gcc 12's detector, which after a fork still knows the
# parent's, ends them ("dup thread with used id").
RACED     := block copy drain fill fork fresh handle heap job/ model path share threads
# With Valgrind all is slower by a factor of fifty.
MEMCHECKED := block heap

.PHONY: check-sanitizers check-asan check-races check-valgrind
check-sanitizers: check-asan check-races check-valgrind

# $1: tests, unless T= says which; $2: for the make that runs them.
define sanitizer_run
@tests/install sanitizers
@failed=; for tests in $(or $(T),$(1)); do \
	$(MAKE) --no-print-directory check T=host-memfd/lib/$$tests $(2) || \
		failed="$$failed $$tests"; \
done; [ -z "$$failed" ] || { echo "$@ failed:$$failed" >&2; exit 1; }
endef

check-asan:
	$(call sanitizer_run,$(SANITIZED),O=$(O)/asan LDFLAGS=-fsanitize=address$(,)undefined \
		CFLAGS='-O1 -g -fsanitize=address$(,)undefined -fno-sanitize-recover=undefined')

# The tests fork while there are threads, for that is what they are about.
check-races:
	$(call sanitizer_run,$(RACED),O=$(O)/races LDFLAGS=-fsanitize=thread \
		CFLAGS='-O1 -g -fsanitize=thread')
check-races: export TSAN_OPTIONS := die_after_fork=0 $(TSAN_OPTIONS)

check-valgrind:
	$(call sanitizer_run,$(MEMCHECKED),O=$(O)/valgrind \
		UNDER='valgrind -q --error-exitcode=99')

, := ,
