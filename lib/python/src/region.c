// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * A region as a Python object: what travels to another process, and what keeps
 * the memory there.  While a Region lives, the same region gives the same object,
 * so that a pickle of many arrays of one region carries one descriptor.
 */
#include "shmdevmodule.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

struct region {
	PyObject_HEAD
	struct shmdev_region *region;
	PyObject *key;		/* in the table of regions; NULL if it was never there */
	PyObject *weakrefs;
};

/*
 * The Region of @key in the table, if it is alive: 1 and a reference, 0, or -1 with an
 * exception.  Locked.
 */
static int region_known(struct module_state *state, PyObject *key, PyObject **object)
{
	PyObject *ref;
	int known = PyDict_GetItemRef(state->regions, key, &ref);

	if (known <= 0)
		return known;
	known = PyWeakref_GetRef(ref, object);
	Py_DECREF(ref);
	return known;
}

/* Put @region in the table, unless the same one is there by now: as region_known(). */
static int region_publish(struct module_state *state, struct region *region, PyObject **object)
{
	PyObject *key = PyLong_FromVoidPtr(region->region);
	PyObject *ref = PyWeakref_NewRef((PyObject *)region, NULL);
	int known = -1;

	if (key && ref) {
		gil_lock_acquire(&state->regions_lock);
		known = region_known(state, key, object);
		if (!known) {
			known = PyDict_SetItem(state->regions, key, ref);
			if (!known)
				region->key = Py_NewRef(key);
		}
		gil_lock_release(&state->regions_lock);
	}
	Py_XDECREF(ref);
	Py_XDECREF(key);
	return known;
}

/* Wrap @found and take over the caller's reference to it, also on failure. */
static PyObject *region_wrap(struct module_state *state, struct shmdev_region *found)
{
	struct region *region = PyObject_New(struct region, state->region_type);
	PyObject *object;

	if (!region) {
		shmdev_region_unref(found);
		return NULL;
	}
	region->region = found;
	region->key = NULL;
	region->weakrefs = NULL;
	switch (region_publish(state, region, &object)) {
	case 0:
		return (PyObject *)region;
	case 1:
		break;
	default:
		object = NULL;
	}
	Py_DECREF(region);	/* and with it @found */
	return object;
}

/*
 * Take the entry of @region, which is gone, out of the table, unless it is another's by
 * now.  Allocates nothing.
 */
static void region_forget(struct module_state *state, const struct region *region)
{
	PyObject *type, *value, *traceback;
	PyObject *object = NULL;
	int known;

	if (!region->key || !state || !state->regions)
		return;		/* without a state the interpreter is going away */
	PyErr_Fetch(&type, &value, &traceback);
	gil_lock_acquire(&state->regions_lock);
	known = region_known(state, region->key, &object);
	/* One that came after it may have gone before it, and the entry with that. */
	if (!known && PyDict_Contains(state->regions, region->key))
		known = PyDict_DelItem(state->regions, region->key);
	gil_lock_release(&state->regions_lock);
	if (known < 0)
		PyErr_WriteUnraisable(NULL);
	else if (known)
		Py_DECREF(object);
	PyErr_Restore(type, value, traceback);
}

static void region_dealloc(PyObject *self)
{
	struct region *region = (struct region *)self;
	PyTypeObject *type = Py_TYPE(self);

	if (region->weakrefs)
		PyObject_ClearWeakRefs(self);
	region_forget(PyType_GetModuleState(type), region);
	Py_XDECREF(region->key);
	Py_BEGIN_ALLOW_THREADS
	shmdev_region_unref(region->region);
	Py_END_ALLOW_THREADS
	PyObject_Free(self);
	Py_DECREF(type);
}

static int region_getbuffer(PyObject *self, Py_buffer *view, int flags)
{
	struct region *region = (struct region *)self;

	return PyBuffer_FillInfo(view, self, shmdev_region_addr(region->region),
				 shmdev_region_size(region->region), 0, flags);
}

static PyObject *region_fileno(PyObject *self, PyObject *Py_UNUSED(ignored))
{
	return PyLong_FromLong(shmdev_region_fd(((struct region *)self)->region));
}

/* How it travels is multiprocessing's affair, which is imported when it is needed. */
static PyObject *region_reduce(PyObject *self, PyObject *Py_UNUSED(ignored))
{
	PyObject *sharing = PyImport_ImportModule("shmdev._sharing");
	PyObject *reduced;

	if (!sharing)
		return NULL;
	reduced = PyObject_CallMethod(sharing, "reduce_region", "O", self);
	Py_DECREF(sharing);
	return reduced;
}

static PyObject *region_get_size(PyObject *self, void *Py_UNUSED(closure))
{
	return PyLong_FromSize_t(shmdev_region_size(((struct region *)self)->region));
}

static PyObject *region_get_backend(PyObject *self, void *Py_UNUSED(closure))
{
	struct region *region = (struct region *)self;

	return PyUnicode_FromString(
		shmdev_backend_name(shmdev_region_backend(region->region)));
}

static PyObject *region_get_page_size(PyObject *self, void *Py_UNUSED(closure))
{
	return PyLong_FromSize_t(shmdev_region_page_size(((struct region *)self)->region));
}

/*
 * Add up what /proc/self/smaps says of huge pages between @low and @high.  0 or -errno.
 * A region is one mapping or, after a fork or an mprotect(), several neighbours.
 */
static int smaps_huge(uintptr_t low, uintptr_t high, unsigned long long *bytes)
{
	static const char *const fields[] = {
		"FilePmdMapped:", "ShmemPmdMapped:", "Shared_Hugetlb:", "Private_Hugetlb:",
	};
	FILE *smaps = fopen("/proc/self/smaps", "re");
	unsigned long long start, end, kilobytes;
	bool inside = false;
	char line[256];
	int err = 0;

	if (!smaps)
		return -errno;
	*bytes = 0;
	while (fgets(line, sizeof(line), smaps)) {
		if (sscanf(line, "%llx-%llx ", &start, &end) == 2) {
			inside = start >= low && end <= high;
			continue;
		}
		for (size_t i = 0; inside && i < Py_ARRAY_LENGTH(fields); i++)
			if (!strncmp(line, fields[i], strlen(fields[i])) &&
			    sscanf(line + strlen(fields[i]), "%llu", &kilobytes) == 1)
				*bytes += kilobytes << 10;
	}
	if (ferror(smaps))
		err = -EIO;
	fclose(smaps);
	return err;
}

static PyObject *region_get_huge(PyObject *self, void *Py_UNUSED(closure))
{
	const struct shmdev_region *region = ((struct region *)self)->region;
	uintptr_t start = (uintptr_t)shmdev_region_addr(region);
	unsigned long long bytes;
	int err;

	Py_BEGIN_ALLOW_THREADS
	err = smaps_huge(start, start + shmdev_region_size(region), &bytes);
	Py_END_ALLOW_THREADS
	if (err)
		return error_set("/proc/self/smaps", -err);
	return PyFloat_FromDouble((double)bytes / shmdev_region_size(region));
}

static PyObject *region_repr(PyObject *self)
{
	const struct shmdev_region *region = ((struct region *)self)->region;

	return PyUnicode_FromFormat("<shmdev.Region of %zu bytes, %s>",
				    shmdev_region_size(region),
				    shmdev_backend_name(shmdev_region_backend(region)));
}

static PyMethodDef region_type_methods[] = {
	{ "fileno", region_fileno, METH_NOARGS,
	  "fileno($self, /)\n--\n\n"
	  "The region's descriptor.  It stays the region's: do not close it." },
	{ "__reduce__", region_reduce, METH_NOARGS, NULL },
	{ NULL, NULL, 0, NULL },
};

static PyGetSetDef region_getset[] = {
	{ "size", region_get_size, NULL, "Its size in bytes.", NULL },
	{ "backend", region_get_backend, NULL,
	  "Where its memory comes from: device, hugetlb, thp or memfd.", NULL },
	{ "page_size", region_get_page_size, NULL,
	  "The size of its pages, where it got the ones its backend is chosen for.", NULL },
	{ "huge_share", region_get_huge, NULL,
	  "How much of it this process has mapped by huge pages now, from 0.0 to 1.0.\n"
	  "What was not touched yet counts as not mapped, unless the backend maps ahead.", NULL },
	{ NULL, NULL, NULL, NULL, NULL },
};

static PyMemberDef region_members[] = {
	{ "__weaklistoffset__", T_PYSSIZET, offsetof(struct region, weakrefs), READONLY,
	  NULL },
	{ NULL, 0, 0, 0, NULL },
};

static PyType_Slot region_slots[] = {
	{ Py_tp_doc, "A region: a file of shared memory, mapped into this process.\n\n"
		     "It is a writable buffer of all its bytes.  While it or a view of it lives, the\n"
		     "memory does.  Any thread may use it.\n\nNew in version 0.1." },
	{ Py_tp_repr, region_repr },
	{ Py_tp_dealloc, region_dealloc },
	{ Py_tp_methods, region_type_methods },
	{ Py_tp_getset, region_getset },
	{ Py_tp_members, region_members },
	{ Py_bf_getbuffer, region_getbuffer },
	{ 0, NULL },
};

PyType_Spec region_spec = {
	.name = "shmdev.Region",
	.basicsize = sizeof(struct region),
	.flags = Py_TPFLAGS_DEFAULT | SHMDEV_TPFLAGS_INTERNAL,
	.slots = region_slots,
};

static PyObject *region_make(PyObject *module, PyObject *arg)
{
	struct shmdev_region *region;
	size_t size = PyLong_AsSize_t(arg);

	if (size == (size_t)-1 && PyErr_Occurred())
		return NULL;
	Py_BEGIN_ALLOW_THREADS
	region = shmdev_region_create(size, 0);
	Py_END_ALLOW_THREADS
	if (!region)
		return error_set_backend("shmdev_region_create", size, errno);
	return region_wrap(module_state(module), region);
}

static PyObject *region_open(PyObject *module, PyObject *arg)
{
	struct shmdev_region *region;
	int fd = PyObject_AsFileDescriptor(arg);

	if (fd < 0)
		return NULL;
	region = shmdev_region_open(fd);
	if (!region)
		return error_set("shmdev_region_open", errno);
	return region_wrap(module_state(module), region);
}

/* Find @address in a region received from elsewhere: 1 and *@found, 0, or -1. */
static int region_find(struct module_state *state, uintptr_t address, PyObject **found)
{
	PyObject *refs = PyDict_Values(state->regions);
	int result = 0;

	if (!refs)
		return -1;
	for (Py_ssize_t i = 0; !result && i < PyList_GET_SIZE(refs); i++) {
		PyObject *object;
		struct shmdev_region *region;

		result = PyWeakref_GetRef(PyList_GET_ITEM(refs, i), &object);
		if (result <= 0)
			continue;
		region = ((struct region *)object)->region;
		if (address - (uintptr_t)shmdev_region_addr(region) <
		    shmdev_region_size(region)) {
			*found = object;
		} else {
			Py_DECREF(object);
			result = 0;
		}
	}
	Py_DECREF(refs);
	return result;
}

/* The caller keeps the memory at @address alive. */
static PyObject *region_locate(PyObject *module, PyObject *arg)
{
	struct module_state *state = module_state(module);
	uintptr_t address = (uintptr_t)PyLong_AsVoidPtr(arg);
	struct shmdev_region *shared;
	PyObject *region = NULL;
	size_t offset;

	if (!address && PyErr_Occurred())
		return NULL;
	shared = shmdev_block_share((void *)address, &offset);
	if (shared) {
		region = region_wrap(state, shared);
		return region ? Py_BuildValue("(Nn)", region, (Py_ssize_t)offset) : NULL;
	}
	if (errno != ENOENT)
		return error_set("shmdev_block_share", errno);

	switch (region_find(state, address, &region)) {
	case 0:
		return error_set("shmdev_block_share", ENOENT);
	case 1:
		offset = address -
			 (uintptr_t)shmdev_region_addr(((struct region *)region)->region);
		return Py_BuildValue("(Nn)", region, (Py_ssize_t)offset);
	default:
		return NULL;
	}
}

static PyObject *region_forked(PyObject *module, PyObject *Py_UNUSED(ignored))
{
	struct module_state *state = module_state(module);

	state->regions_lock = (gil_lock){ 0 };
	state->recent_lock = (gil_lock){ 0 };
	Py_RETURN_NONE;
}

PyMethodDef region_methods[] = {
	{ "forked", region_forked, METH_NOARGS,
	  "forked($module, /)\n--\n\n"
	  "To be called in a child: another thread of the parent may have held a lock." },
	{ "region_create", region_make, METH_O,
	  "region_create($module, size, /)\n--\n\n"
	  "A new Region of at least size bytes, zeroed." },
	{ "region_open", region_open, METH_O,
	  "region_open($module, fd, /)\n--\n\n"
	  "Map the region that descriptor fd stands for; fd stays the caller's." },
	{ "region_locate", region_locate, METH_O,
	  "region_locate($module, address, /)\n--\n\n"
	  "The Region that address lies in and its offset there.  A block in it counts\n"
	  "as known to other processes from now on.  OSError (ENOENT) if it lies in none." },
	{ NULL, NULL, 0, NULL },
};
