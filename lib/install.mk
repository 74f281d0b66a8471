# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
#
# make install-lib, make uninstall-lib: headers, both libraries, what pkg-config is to
# know, and the manual, below $(DESTDIR)$(PREFIX).  No more is made here than was built.

PREFIX     ?= /usr/local
LIBDIR     ?= $(PREFIX)/lib
INCLUDEDIR ?= $(PREFIX)/include
MANDIR     ?= $(PREFIX)/share/man

# A prefix that is moved takes with it what lies below it.
below_prefix = $(patsubst $(PREFIX)/%,$${prefix}/%,$1)

# A page is found under each of the names it has: <name>:<page> of those that are not its
# file's.
man_links = $(foreach page,$(wildcard lib/man/*.3),$(foreach name,$(filter-out \
	$(basename $(notdir $(page))),$(shell sed -n '/^\.SH NAME/,/^\.SH LIBRARY/p' $(page) | \
	tr ', ' '\n\n' | grep -x 'shm[a-z_]*')),$(name):$(notdir $(page))))

.PHONY: install install-lib uninstall uninstall-lib
install: install-lib
uninstall: uninstall-lib

install-lib: lib $(LIB_MAN)
	install -d $(DESTDIR)$(INCLUDEDIR)/linux $(DESTDIR)$(LIBDIR)/pkgconfig \
		$(sort $(foreach page,$(LIB_MAN),$(DESTDIR)$(MANDIR)/man$(subst .,,$(suffix $(page)))))
	install -m 644 include/shmdev.h $(DESTDIR)$(INCLUDEDIR)
	install -m 644 include/uapi/linux/shmdev.h $(DESTDIR)$(INCLUDEDIR)/linux
	install -m 644 $(O)/lib/libshmdev.a $(DESTDIR)$(LIBDIR)
	install -m 755 $(O)/lib/libshmdev.so.$(VERSION) $(DESTDIR)$(LIBDIR)
	ln -sf libshmdev.so.$(VERSION) $(DESTDIR)$(LIBDIR)/$(LIB_SONAME)
	ln -sf $(LIB_SONAME) $(DESTDIR)$(LIBDIR)/libshmdev.so
	sed -e 's|@prefix@|$(PREFIX)|; s|@version@|$(VERSION)|; s|@libs@|$(LIB_LIBS)|' \
		-e 's|@libdir@|$(call below_prefix,$(LIBDIR))|' \
		-e 's|@includedir@|$(call below_prefix,$(INCLUDEDIR))|' \
		lib/shmdev.pc.in > $(DESTDIR)$(LIBDIR)/pkgconfig/shmdev.pc
	chmod 644 $(DESTDIR)$(LIBDIR)/pkgconfig/shmdev.pc
	$(foreach page,$(LIB_MAN),install -m 644 $(page) \
		$(DESTDIR)$(MANDIR)/man$(subst .,,$(suffix $(page))) &&) true
	for link in $(man_links); do \
		ln -sf $${link#*:} $(DESTDIR)$(MANDIR)/man3/$${link%:*}.3 || exit; done

uninstall-lib:
	rm -f $(DESTDIR)$(INCLUDEDIR)/shmdev.h $(DESTDIR)$(INCLUDEDIR)/linux/shmdev.h \
		$(DESTDIR)$(LIBDIR)/libshmdev.a $(DESTDIR)$(LIBDIR)/libshmdev.so \
		$(DESTDIR)$(LIBDIR)/$(LIB_SONAME) $(DESTDIR)$(LIBDIR)/libshmdev.so.$(VERSION) \
		$(DESTDIR)$(LIBDIR)/pkgconfig/shmdev.pc \
		$(foreach page,$(LIB_MAN),$(DESTDIR)$(MANDIR)/man$(subst .,,$(suffix $(page)))/$(notdir $(page))) \
		$(foreach link,$(man_links),$(DESTDIR)$(MANDIR)/man3/$(firstword $(subst :, ,$(link))).3)
