# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
#
# build/kmod/<kernel release>/shmdev.ko for every tree of kernel headers there is:
# installed ones, and those that tests/fetch unpacked into the cache.

export SHMDEV_CACHE ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/shmdev

# A tree that lacks one of these was never configured, or removed by half.
kmod_tree_complete = $(and $(wildcard $1/Makefile),$(wildcard $1/include/generated/autoconf.h),\
		     $(wildcard $1/Module.symvers),$(wildcard $1/include/generated/utsrelease.h))

KMOD_TREES := $(foreach tree,$(wildcard $(SHMDEV_CACHE)/series/*/build /lib/modules/*/build),\
		$(if $(call kmod_tree_complete,$(tree)),$(tree)))

KMOD_SOURCES := Kbuild VERSION $(wildcard kmod/*.[ch] kmod/*/*.[ch]) include/uapi/linux/shmdev.h

# kbuild writes beside the sources, so each release gets links to them in a directory of
# its own; nothing of one build is in the way of another.
define kmod_rule
$(O)/kmod/$1/shmdev.ko: $(KMOD_SOURCES) $2/Module.symvers
	@echo "KMOD	$1"
	@mkdir -p $$(@D)
	@find $$(@D) -type l -delete
	@for file in $(KMOD_SOURCES); do \
		mkdir -p $$(@D)/$$$$(dirname $$$$file) && \
		ln -s $(CURDIR)/$$$$file $$(@D)/$$$$file || exit; \
	done
	@$$(MAKE) $$(KBUILD_$1)
KBUILD_$1 := --no-print-directory -C $(realpath $2) O= M=$(CURDIR)/$(O)/kmod/$1 \
	CONFIG_DEBUG_INFO_BTF_MODULES= modules
KMODS += $(O)/kmod/$1/shmdev.ko
endef

# The first tree of a release is the one that is used.
KMODS :=
$(foreach tree,$(KMOD_TREES),\
	$(eval kmod_release := $(patsubst "%",%,$(word 3,$(file <$(tree)/include/generated/utsrelease.h))))\
	$(if $(filter $(O)/kmod/$(kmod_release)/shmdev.ko,$(KMODS)),,\
		$(eval $(call kmod_rule,$(kmod_release),$(tree)))))

.PHONY: kmod
all: kmod
kmod: $(KMODS)
ifeq ($(KMODS),)
	@echo "no kernel headers in /lib/modules/*/build or $(SHMDEV_CACHE): no shmdev.ko" >&2
endif
