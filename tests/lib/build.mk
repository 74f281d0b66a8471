# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
#
# $(O)/tests/lib/<name>: one program for each topic, which prints TAP.

# What the programs share: a linker takes of it what one needs.
LIBTEST_SHARED   := util fill_checks handle_checks job_checks
LIBTEST_PROGRAMS := $(filter-out $(LIBTEST_SHARED),$(patsubst tests/lib/%.c,%,$(wildcard tests/lib/*.c)))
LIBTEST_SCRIPTS  := $(patsubst tests/lib/%.sh,%,$(wildcard tests/lib/*.sh))
LIBTESTS         := $(addprefix $(O)/tests/lib/,$(LIBTEST_PROGRAMS) $(LIBTEST_SCRIPTS))

.PHONY: lib-tests
lib-tests: $(LIBTESTS)

$(O)/tests/lib/obj/%.o: tests/lib/%.c
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -pthread -c -o $@ $<

$(O)/tests/lib/obj/shared.a: $(LIBTEST_SHARED:%=$(O)/tests/lib/obj/%.o)
	rm -f $@
	$(AR) rcs $@ $^

# With the shared library, as a program would have it; found where it was built.
$(O)/tests/lib/%: $(O)/tests/lib/obj/%.o $(O)/tests/lib/obj/shared.a $(O)/lib/libshmdev.so
	$(CC) $(ALL_CFLAGS) -pthread -o $@ $(filter %.o %.a,$^) $(O)/lib/libshmdev.so \
		-Wl,-rpath,'$$ORIGIN/../../lib' $(LDFLAGS)

# With the static one, and between it and all that it calls.
LIBTEST_WRAPPED := calloc reallocarray mmap memfd_create ftruncate fstat fstatfs fcntl open openat \
		   read ioctl poll pthread_atfork pthread_create eventfd \
		   io_uring_queue_init_params io_uring_register_buffers \
		   io_uring_submit_and_wait fopen fallocate madvise

$(O)/tests/lib/fault: $(O)/tests/lib/obj/fault.o $(O)/tests/lib/obj/util.o $(O)/lib/libshmdev.a
	$(CC) $(ALL_CFLAGS) -o $@ $^ $(LIBTEST_WRAPPED:%=-Wl,--wrap=%) $(LIB_LIBS) $(LDFLAGS)

$(LIBTEST_SCRIPTS:%=$(O)/tests/lib/%): $(O)/tests/lib/%: tests/lib/%.sh
	@mkdir -p $(@D)
	install -m 755 $< $@

# What the scripts look at.
$(O)/tests/lib/abi: $(O)/lib/libshmdev.so $(O)/lib/libshmdev.a \
		$(O)/tests/lib/obj/shmdev.h $(O)/tests/lib/obj/shmdev.map
$(O)/tests/lib/examples: $(LIB_EXAMPLES) $(LIB_MAN) \
	$(patsubst lib/examples/%,$(O)/tests/lib/obj/examples/%,$(wildcard lib/examples/*.c))
$(O)/tests/lib/obj/examples/%: lib/examples/%
	@mkdir -p $(@D)
	install -m 644 $< $@
$(O)/tests/lib/man: $(LIB_MAN) $(O)/tests/lib/obj/shmdev.h

# The library as it is where there is no liburing, which it cannot be linked with either.
LIBTEST_NONE := $(O)/tests/lib/none/libshmdev.so.0
$(O)/tests/lib/without_liburing: $(LIBTEST_NONE) \
	$(addprefix $(O)/tests/lib/,fill fill_stream fill_engine drain job job_fork path)
$(LIBTEST_NONE): $(filter-out $(O)/lib/obj/ring.o,$(LIB_OBJECTS)) $(O)/lib/obj/ring_none.o \
		lib/shmdev.map
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -shared -Wl,-soname,$(LIB_SONAME) -Wl,-z,defs -Wl,-z,nodelete \
		-Wl,--version-script,lib/shmdev.map $(LDFLAGS) -o $@ $(filter %.o,$^) -pthread

# The library as it would be installed, in a place of its own.
$(O)/tests/lib/installed: $(O)/tests/lib/installed.stamp
$(O)/tests/lib/installed.stamp: $(O)/lib/libshmdev.so $(O)/lib/libshmdev.a $(LIB_MAN) lib/install.mk \
		lib/shmdev.pc.in include/shmdev.h include/uapi/linux/shmdev.h
	@rm -rf $(O)/tests/lib/root
	@$(MAKE) --no-print-directory -s install-lib PREFIX=$(abspath $(O))/tests/lib/root DESTDIR= \
		LIBDIR=$(abspath $(O))/tests/lib/root/lib INCLUDEDIR=$(abspath $(O))/tests/lib/root/include \
		MANDIR=$(abspath $(O))/tests/lib/root/share/man
	@touch $@

$(O)/tests/lib/obj/shmdev.h: include/shmdev.h
	@mkdir -p $(@D)
	install -m 644 $< $@
$(O)/tests/lib/obj/shmdev.map: lib/shmdev.map
	@mkdir -p $(@D)
	install -m 644 $< $@

-include $(patsubst %,$(O)/tests/lib/obj/%.d,$(LIBTEST_PROGRAMS) $(LIBTEST_SHARED))

# --- make fuzz [FUZZ_TIME=60]: by clang's libFuzzer, until something is found -----------

FUZZ_TIME ?= 60

.PHONY: fuzz
fuzz:
	@$(MAKE) --no-print-directory O=$(O)/fuzz CC=clang \
		CFLAGS='-O1 -g -fsanitize=address,undefined,fuzzer-no-link' $(O)/fuzz/lib/libshmdev.a
	@mkdir -p $(O)/fuzz/corpus
	clang $(ALL_CFLAGS) -DFUZZER -O1 -fsanitize=address,undefined,fuzzer -pthread \
		-o $(O)/fuzz/fuzz_fill tests/lib/fuzz_fill.c tests/lib/util.c \
		$(O)/fuzz/lib/libshmdev.a $(LIB_LIBS)
	$(O)/fuzz/fuzz_fill -max_total_time=$(FUZZ_TIME) -max_len=400 $(O)/fuzz/corpus
	@mkdir -p $(O)/fuzz/corpus_handle
	clang $(ALL_CFLAGS) -DFUZZER -O1 -fsanitize=address,undefined,fuzzer -pthread \
		-o $(O)/fuzz/fuzz_handle tests/lib/fuzz_handle.c tests/lib/util.c \
		$(O)/fuzz/lib/libshmdev.a $(LIB_LIBS)
	$(O)/fuzz/fuzz_handle -max_total_time=$(FUZZ_TIME) -max_len=400 $(O)/fuzz/corpus_handle
