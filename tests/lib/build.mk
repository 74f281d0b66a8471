# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
#
# $(B)/tests/lib/<name>: one program for each topic, which prints TAP.

LIBTEST_PROGRAMS := $(filter-out util,$(patsubst tests/lib/%.c,%,$(wildcard tests/lib/*.c)))
LIBTEST_SCRIPTS  := $(patsubst tests/lib/%.sh,%,$(wildcard tests/lib/*.sh))
LIBTESTS         := $(addprefix $(B)/tests/lib/,$(LIBTEST_PROGRAMS) $(LIBTEST_SCRIPTS))

.PHONY: lib-tests
lib-tests: $(LIBTESTS)

$(B)/tests/lib/obj/%.o: tests/lib/%.c
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -pthread -c -o $@ $<

# With the shared library, as a program would have it; found where it was built.
$(B)/tests/lib/%: $(B)/tests/lib/obj/%.o $(B)/tests/lib/obj/util.o $(B)/lib/libshmdev.so
	$(CC) $(ALL_CFLAGS) -pthread -o $@ $(filter %.o,$^) $(B)/lib/libshmdev.so \
		-Wl,-rpath,'$$ORIGIN/../../lib' $(LDFLAGS)

# With the static one, and between it and all that it calls.
LIBTEST_WRAPPED := calloc reallocarray mmap memfd_create ftruncate fstat fstatfs fcntl open \
		   read ioctl poll pthread_atfork io_uring_queue_init_params \
		   io_uring_register_buffers io_uring_submit_and_wait

$(B)/tests/lib/fault: $(B)/tests/lib/obj/fault.o $(B)/tests/lib/obj/util.o $(B)/lib/libshmdev.a
	$(CC) $(ALL_CFLAGS) -o $@ $^ $(LIBTEST_WRAPPED:%=-Wl,--wrap=%) $(LIB_LIBS) $(LDFLAGS)

$(LIBTEST_SCRIPTS:%=$(B)/tests/lib/%): $(B)/tests/lib/%: tests/lib/%.sh
	@mkdir -p $(@D)
	install -m 755 $< $@

# What the scripts look at.
$(B)/tests/lib/abi: $(B)/lib/libshmdev.so $(B)/lib/libshmdev.a $(B)/tests/lib/obj/shmdev.h
$(B)/tests/lib/examples: $(LIB_EXAMPLES)
$(B)/tests/lib/man: $(LIB_MAN) $(B)/tests/lib/obj/shmdev.h
$(B)/tests/lib/obj/shmdev.h: include/shmdev.h
	@mkdir -p $(@D)
	install -m 644 $< $@

-include $(patsubst %,$(B)/tests/lib/obj/%.d,$(LIBTEST_PROGRAMS) util)
