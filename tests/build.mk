# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT

# --- what it takes --------------------------------------------------------------------

.PHONY: packages
packages:
	@tests/install check

# --- make kernel-debug [KERNEL=newest] ------------------------------------------------

.PHONY: kernel-debug
kernel-debug: packages
	@tests/vm/kernel-debug $(KERNEL)

# --- make vm CMD='...': a command in a virtual machine with the module inserted -------

KERNEL  ?= 6.12
MEM     ?= 3G
TIMEOUT ?= 600
INSMOD  ?= 1
ICOUNT  ?= 0
NODES   ?= 0

# As it was typed: $ is for the guest's shell and not for make.
unexport CMD
vm-run: export VM_COMMAND = $(value CMD)

VM_KERNEL := $(SHMDEV_CACHE)/series/$(KERNEL)

# The status goes the long way round for the sake of vm/exit.c.  Where that cannot be had,
# as before there is a compiler, make prints it and exits with 2.
ifneq ($(filter vm,$(MAKECMDGOALS)),)
VM_STATUS := $(O)/vm/status.$(shell echo $$PPID)
-load $(O)/vm/exit.so
endif

$(O)/vm/exit.so: tests/vm/exit.c
	@mkdir -p $(@D)
	-@$(CC) $(filter-out -MMD -MP,$(ALL_CFLAGS)) -shared -fPIC -o $@ $<  2>/dev/null || true

vm_exit = $(if $(filter-out 0,$1),$(exit $1)exit $1,:)

.PHONY: vm vm-run
vm: vm-run
	@$(call vm_exit,$(shell cat $(VM_STATUS); rm $(VM_STATUS)))

# What fetch brings was not there when this file was read, hence the second make.
vm-run: packages
	@: $${VM_COMMAND:?"usage: make vm CMD='...' [KERNEL=$(KERNEL)] [MEM=$(MEM)] [TIMEOUT=$(TIMEOUT)] [INSMOD=0] [MODPARAMS='...'] [APPEND='...'] [ICOUNT=1] [NODES=1]"}
	@tests/fetch kernel $(KERNEL) >/dev/null
	@$(MAKE) --no-print-directory -s $(O)/kmod/$$(cat $(VM_KERNEL)/release)/shmdev.ko >&2
	@mkdir -p $(O)/vm
	@tests/vm/run --kernel $(VM_KERNEL) --memory $(MEM) --timeout $(TIMEOUT) \
		$(if $(filter-out 0,$(INSMOD)),--modparams '$(MODPARAMS)' \
			--module $(O)/kmod/$$(cat $(VM_KERNEL)/release)/shmdev.ko) \
		$(if $(filter-out 0,$(ICOUNT)),--icount) \
		$(if $(filter-out 0,$(NODES)),--nodes) --append '$(APPEND)' --log $(O)/vm/$(KERNEL).log "$$VM_COMMAND"; \
		echo $$? >$(VM_STATUS)

# --- the raw interface's tests --------------------------------------------------------

# kselftest's own headers and rules, of Debian's kernel source.
KSFT := $(SHMDEV_CACHE)/source/6.12/tools/testing/selftests

$(KSFT)/lib.mk:
	tests/fetch source >/dev/null

# The directory's own Makefile knows what depends on what; it names all its programs.
KSELFTESTS := $(patsubst tests/kselftest/%.c,$(O)/tests/kselftest/%,$(wildcard tests/kselftest/*.c))
.PHONY: kselftest
kselftest: $(KSFT)/lib.mk
	@mkdir -p $(O)/tests/kselftest
	@$(MAKE) --no-print-directory -C tests/kselftest KSFT=$(KSFT) \
		OUTPUT=$(CURDIR)/$(O)/tests/kselftest CC=$(CC)
$(KSELFTESTS): kselftest

# --- make check [T=name] --------------------------------------------------------------

KERNELS ?= 6.1 6.12

# All that is built is built by makes of its own: what was installed or fetched a moment
# ago was not there when this one read its files.
.PHONY: check
check: packages
	@tests/run --build $(O) --python $(PYTHON) --kernels '$(KERNELS)' --match '$(T)' \
		--under '$(UNDER)'

# --- make soak [T=name] [SOAK=20]: the same for long -----------------------------------

SOAK ?= 20

.PHONY: soak
soak: packages
	@tests/run --build $(O) --python $(PYTHON) --kernels '$(KERNELS)' --soak $(SOAK) \
		--match '$(or $(T),kselftest)'

include tests/sanitizers.mk tests/pythons.mk tests/lint.mk tests/others/build.mk
