# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
#
# The CPython binding: $(O)/python/shmdev, a package for $(PYTHON).
# Extensions of several interpreters can stand in it side by side.

PY_TAG     := $(shell $(PYTHON) -c 'import sysconfig; print(sysconfig.get_config_var("EXT_SUFFIX"))')
PY_INCLUDE := $(shell $(PYTHON) -c 'import sysconfig; print(sysconfig.get_path("include"))')
PY_MACHINE := $(shell $(CC) -dumpmachine)

PY_OUT := $(O)/python/shmdev
PY_OBJ := $(O)/obj/python$(basename $(PY_TAG))
PY_EXT := $(PY_OUT)/_shmdev$(PY_TAG)

PY_SRC     := $(filter-out %/kernels.c,$(wildcard lib/python/src/*.c))
PY_PACKAGE := $(patsubst lib/python/shmdev/%,$(PY_OUT)/%, \
		$(wildcard $(addprefix lib/python/shmdev/,*.py *.pyi py.typed)))

# kernels.c once for each instruction set that convert.c chooses from.
PY_KERNELS := base
ifneq ($(filter x86_64-%,$(PY_MACHINE)),)
PY_KERNELS += avx2 avx512
endif
PY_KERNEL_FLAGS_avx2   := -mavx2
PY_KERNEL_FLAGS_avx512 := -mavx512f -mavx512bw -mavx512dq -mavx512vl -mprefer-vector-width=512

PY_OBJS := $(PY_SRC:lib/python/src/%.c=$(PY_OBJ)/%.o) $(PY_KERNELS:%=$(PY_OBJ)/kernels_%.o)

# Expanded where something is compiled: make clean and others need no interpreter.
PY_CHECK = $(if $(wildcard $(PY_INCLUDE)/Python.h),,$(error \
	PYTHON=$(PYTHON) cannot be run or comes without Python.h (Debian: python3-dev)))

.PHONY: python
all: python
python: $(PY_EXT) $(PY_PACKAGE)
	@rm -f $(filter-out $(PY_PACKAGE),$(wildcard $(PY_OUT)/*.py $(PY_OUT)/*.pyi))

# Where this interpreter looks for what does not come with it.
PY_SITE = $(shell $(PYTHON) -c 'import sysconfig; print(sysconfig.get_path("platlib"))')

.PHONY: install install-python uninstall uninstall-python
install: install-python
install-python: python
	install -d $(DESTDIR)$(PY_SITE)/shmdev
	install -m 755 $(PY_EXT) $(DESTDIR)$(PY_SITE)/shmdev
	install -m 644 $(PY_PACKAGE) $(DESTDIR)$(PY_SITE)/shmdev

uninstall: uninstall-python
uninstall-python:
	rm -rf $(DESTDIR)$(PY_SITE)/shmdev

$(PY_OBJ)/%.o: lib/python/src/%.c
	$(PY_CHECK)@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -fPIC -fvisibility=hidden -isystem $(PY_INCLUDE) -c -o $@ $<

$(PY_OBJ)/kernels_%.o: lib/python/src/kernels.c
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -O3 -fPIC -fvisibility=hidden $(PY_KERNEL_FLAGS_$*) \
		-DKERNELS=kernels_$* -c -o $@ $<

$(PY_EXT): $(PY_OBJS) $(O)/lib/libshmdev.a
	@mkdir -p $(@D)
	$(CC) -shared $(LDFLAGS) -Wl,--exclude-libs,ALL -o $@ $^ -luring

$(PY_OUT)/%: lib/python/shmdev/%
	@mkdir -p $(@D)
	cp $< $@

-include $(wildcard $(PY_OBJ)/*.d)
