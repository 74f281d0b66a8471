// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * A region as a Python object: what travels to another process, and what keeps
 * the memory there.  While a Region lives, the same region gives the same object,
 * so that a pickle of many arrays of one region carries one descriptor.
 */
#include "shmdevmodule.h"

#include <errno.h>

struct region {
	PyObject_HEAD
	struct shmdev_region *region;
	PyObject *weakrefs;
};

/* Wrap @found and take over the caller's reference to it, also on failure. */
static PyObject *region_wrap(struct module_state *state, struct shmdev_region *found)
{
	PyObject *key = PyLong_FromVoidPtr(found);
	PyObject *ref = NULL, *object = NULL;
	struct region *region;

	if (!key)
		goto unref;
	if (PyDict_GetItemRef(state->regions, key, &ref) < 0)
		goto drop_key;
	if (ref && PyWeakref_GetRef(ref, &object) != 0) {
		/* Known (its own reference to @found is enough), or an exception. */
		Py_DECREF(ref);
		goto drop_key;
	}
	Py_XDECREF(ref);

	region = PyObject_New(struct region, state->region_type);
	if (!region)
		goto drop_key;
	region->region = found;
	region->weakrefs = NULL;
	ref = PyWeakref_NewRef((PyObject *)region, NULL);
	if (!ref || PyDict_SetItem(state->regions, key, ref) < 0)
		Py_CLEAR(region);	/* and with it @found */
	Py_XDECREF(ref);
	Py_DECREF(key);
	return (PyObject *)region;

drop_key:
	Py_DECREF(key);
unref:
	shmdev_region_unref(found);
	return object;
}

/* Take the entry of a Region out of the table, unless it is another's by now. */
static void region_forget(struct module_state *state, struct shmdev_region *region)
{
	PyObject *type, *value, *traceback;
	PyObject *key = NULL, *ref = NULL, *object = NULL;

	if (!state || !state->regions)
		return;		/* the interpreter is going away */
	PyErr_Fetch(&type, &value, &traceback);
	key = PyLong_FromVoidPtr(region);
	if (!key || PyDict_GetItemRef(state->regions, key, &ref) < 0 ||
	    (ref && PyWeakref_GetRef(ref, &object) == 0 &&
	     PyDict_DelItem(state->regions, key) < 0))
		PyErr_WriteUnraisable(NULL);
	Py_XDECREF(object);
	Py_XDECREF(ref);
	Py_XDECREF(key);
	PyErr_Restore(type, value, traceback);
}

static void region_dealloc(PyObject *self)
{
	struct region *region = (struct region *)self;
	PyTypeObject *type = Py_TYPE(self);

	if (region->weakrefs)
		PyObject_ClearWeakRefs(self);
	region_forget(PyType_GetModuleState(type), region->region);
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
	{ NULL, NULL, NULL, NULL, NULL },
};

static PyMemberDef region_members[] = {
	{ "__weaklistoffset__", T_PYSSIZET, offsetof(struct region, weakrefs), READONLY,
	  NULL },
	{ NULL, 0, 0, 0, NULL },
};

static PyType_Slot region_slots[] = {
	{ Py_tp_doc, "A region: a file of shared memory, mapped into this process." },
	{ Py_tp_dealloc, region_dealloc },
	{ Py_tp_methods, region_type_methods },
	{ Py_tp_getset, region_getset },
	{ Py_tp_members, region_members },
	{ Py_bf_getbuffer, region_getbuffer },
	{ 0, NULL },
};

PyType_Spec region_spec = {
	.name = "shmdev._shmdev.Region",
	.basicsize = sizeof(struct region),
	.flags = Py_TPFLAGS_DEFAULT | SHMDEV_TPFLAGS_INTERNAL,
	.slots = region_slots,
};

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

PyMethodDef region_methods[] = {
	{ "region_open", region_open, METH_O,
	  "region_open($module, fd, /)\n--\n\n"
	  "Map the region that descriptor fd stands for; fd stays the caller's." },
	{ "region_locate", region_locate, METH_O,
	  "region_locate($module, address, /)\n--\n\n"
	  "The Region that address lies in and its offset there.  A block in it counts\n"
	  "as known to other processes from now on.  OSError (ENOENT) if it lies in none." },
	{ NULL, NULL, 0, NULL },
};
