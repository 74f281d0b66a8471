# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
#
# $(O)/lib/libshmdev.so (a link to libshmdev.so.0) and $(O)/lib/libshmdev.a

LIB_SONAME  := libshmdev.so.0
LIB_LIBS    := -luring -pthread
# ring_none.c is for builds without liburing, which are not made here.
LIB_SOURCES := $(filter-out lib/ring_none.c,$(sort $(wildcard lib/*.c)))
LIB_OBJECTS := $(LIB_SOURCES:lib/%.c=$(O)/lib/obj/%.o)

.PHONY: lib
lib: $(O)/lib/libshmdev.so $(O)/lib/libshmdev.a
all: lib

$(O)/lib/obj/%.o: lib/%.c
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -fPIC -fvisibility=hidden -pthread -c -o $@ $<

# It cannot be unloaded: the thread of a job may be in it.
$(O)/lib/libshmdev.so.$(VERSION): $(LIB_OBJECTS) lib/shmdev.map
	$(CC) $(ALL_CFLAGS) -shared -Wl,-soname,$(LIB_SONAME) -Wl,-z,defs -Wl,-z,nodelete \
		-Wl,--version-script,lib/shmdev.map $(LDFLAGS) -o $@ $(LIB_OBJECTS) $(LIB_LIBS)

$(O)/lib/$(LIB_SONAME): $(O)/lib/libshmdev.so.$(VERSION)
	ln -sf $(<F) $@

$(O)/lib/libshmdev.so: $(O)/lib/$(LIB_SONAME)
	ln -sf $(<F) $@

# One object, in which all but the API is local: the library's own names cannot clash
# with those of a program that it is linked into.  Position-independent, so that a
# shared object can take it in.  Its user links $(LIB_LIBS).
$(O)/lib/obj/libshmdev.whole.o: $(LIB_OBJECTS)
	$(LD) -r -o $@ $(LIB_OBJECTS)
	objcopy --localize-hidden $@

$(O)/lib/libshmdev.a: $(O)/lib/obj/libshmdev.whole.o
	rm -f $@
	$(AR) rcs $@ $<

# The examples, as a program of somebody else's would be built.
LIB_EXAMPLES := $(patsubst lib/examples/%.c,$(O)/lib/examples/%,$(wildcard lib/examples/*.c))
all: $(LIB_EXAMPLES)

$(O)/lib/examples/%: lib/examples/%.c $(O)/lib/libshmdev.so
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) -Wall -Wextra -Werror -Iinclude -Iinclude/uapi -o $@ $< -L$(O)/lib -lshmdev \
		-Wl,-rpath,'$$ORIGIN/..'

# The manual, as it would be installed: man -l $(O)/lib/man/shmdev.7
LIB_MAN := $(patsubst lib/man/%,$(O)/lib/man/%,$(wildcard lib/man/*.[347]))
all: $(LIB_MAN)

$(O)/lib/man/%: lib/man/%
	@mkdir -p $(@D)
	install -m 644 $< $@

include lib/install.mk
-include $(LIB_OBJECTS:.o=.d)
include $(wildcard tests/lib/build.mk)
