# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT

# --- what it takes --------------------------------------------------------------------

.PHONY: packages
packages:
	@tests/install check

# --- make vm CMD='...': a command in a virtual machine with the module inserted -------

KERNEL  ?= 6.12
MEM     ?= 3G
TIMEOUT ?= 600
INSMOD  ?= 1

# As it was typed: $ is for the guest's shell and not for make.
unexport CMD
vm: export VM_COMMAND = $(value CMD)

# What fetch brings was not there when this file was read, hence the second make.
.PHONY: vm
vm: packages
	@: $${VM_COMMAND:?"usage: make vm CMD='...' [KERNEL=$(KERNEL)] [MEM=$(MEM)] [TIMEOUT=$(TIMEOUT)] [INSMOD=0] [MODPARAMS='...'] [APPEND='...']"}
	@kernel=$$(tests/fetch kernel $(KERNEL)) && \
	module=$(O)/kmod/$$(cat $$kernel/release)/shmdev.ko && \
	$(MAKE) --no-print-directory -s $$module >&2 && \
	exec tests/vm/run --kernel $$kernel --memory $(MEM) --timeout $(TIMEOUT) \
		$(if $(filter-out 0,$(INSMOD)),--module $$module --modparams '$(MODPARAMS)') \
		--append '$(APPEND)' --log $(O)/vm/$(KERNEL).log "$$VM_COMMAND"

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
	@tests/run --build $(O) --python $(PYTHON) --kernels '$(KERNELS)' --match '$(T)'
