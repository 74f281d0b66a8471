// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * A region as a Python object: what travels to another process, and what keeps
 * the memory there.  While a Region lives, the same region gives the same object,
 * so that a pickle of many arrays of one region carries one descriptor.
 *
 * A Region can be closed, unless somebody looks at its memory through it: a buffer of
 * it, or a call that is under way in another thread, holds it by a pin.
 */
#include "shmdevmodule.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

struct region {
	PyObject_HEAD
	struct shmdev_region *region;
	long pins;		/* atomic; or CLOSED */
	Py_ssize_t holds;
	PyObject *key;		/* in the table of regions; NULL if it was never there */
	PyObject *weakrefs;
};

#define CLOSED	(-1L)

/* Hold @self open.  -1 with an exception if it is closed. */
static int region_pin(PyObject *self)
{
	struct region *region = (struct region *)self;
	long pins = __atomic_load_n(&region->pins, __ATOMIC_RELAXED);

	do {
		if (pins == CLOSED) {
			PyErr_SetString(PyExc_ValueError, "the region is closed");
			return -1;
		}
	} while (!__atomic_compare_exchange_n(&region->pins, &pins, pins + 1, true,
					      __ATOMIC_ACQUIRE, __ATOMIC_RELAXED));
	return 0;
}

static void region_unpin(PyObject *self)
{
	__atomic_sub_fetch(&((struct region *)self)->pins, 1, __ATOMIC_RELEASE);
}

static bool region_is_closed(const struct region *region)
{
	return __atomic_load_n(&region->pins, __ATOMIC_RELAXED) == CLOSED;
}

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
PyObject *region_wrap(struct module_state *state, struct shmdev_region *found)
{
	struct region *region = PyObject_New(struct region, state->region_type);
	PyObject *object;

	if (!region) {
		shmdev_region_unref(found);
		return NULL;
	}
	region->region = found;
	region->pins = 0;
	region->holds = 0;
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
 * Take the entry of @region, which is gone or about to be closed, out of the table,
 * unless it is another's by now.  Allocates nothing.  What is in *@object is for the
 * caller to drop, once the lock is.  Locked.
 */
static int region_forget(struct module_state *state, const struct region *region,
			 PyObject **object)
{
	int known = region_known(state, region->key, object);

	if (known < 0 || (known && *object != (const PyObject *)region))
		return known < 0 ? -1 : 0;
	/* One that came after it may have gone before it, and the entry with that. */
	if (!known && !PyDict_Contains(state->regions, region->key))
		return 0;
	return PyDict_DelItem(state->regions, region->key);
}

/*
 * Close @region unless it is closed or pinned, and take it out of the table: what is in
 * there is open while the lock is held.
 */
static bool region_begin_close(struct region *region)
{
	struct module_state *state = PyType_GetModuleState(Py_TYPE(region));
	PyObject *type, *value, *traceback;
	PyObject *object = NULL;
	bool closed;
	long pins = 0;
	int err = 0;

	PyErr_Fetch(&type, &value, &traceback);
	if (state)
		gil_lock_acquire(&state->regions_lock);
	closed = __atomic_compare_exchange_n(&region->pins, &pins, CLOSED, false,
					     __ATOMIC_ACQUIRE, __ATOMIC_RELAXED);
	/* Without a state the interpreter is going away. */
	if (closed && region->key && state && state->regions)
		err = region_forget(state, region, &object);
	if (state)
		gil_lock_release(&state->regions_lock);
	if (err)
		PyErr_WriteUnraisable(NULL);
	Py_XDECREF(object);
	PyErr_Restore(type, value, traceback);
	return closed;
}

static void region_end_close(struct region *region)
{
	Py_CLEAR(region->key);
	Py_BEGIN_ALLOW_THREADS
	shmdev_region_unref(region->region);
	Py_END_ALLOW_THREADS
	region->region = NULL;
}

static void region_dealloc(PyObject *self)
{
	struct region *region = (struct region *)self;
	PyTypeObject *type = Py_TYPE(self);

	if (region->weakrefs)
		PyObject_ClearWeakRefs(self);
	if (region_begin_close(region))
		region_end_close(region);
	PyObject_Free(self);
	Py_DECREF(type);
}

static PyObject *region_close(PyObject *self, PyObject *Py_UNUSED(ignored))
{
	struct region *region = (struct region *)self;

	if (region_begin_close(region)) {
		region_end_close(region);
	} else if (!region_is_closed(region)) {
		PyErr_SetString(PyExc_BufferError,
				"cannot close a region while there are views of it");
		return NULL;
	}
	Py_RETURN_NONE;
}

static PyObject *region_enter(PyObject *self, PyObject *Py_UNUSED(ignored))
{
	if (region_pin(self) < 0)
		return NULL;
	region_unpin(self);
	return Py_NewRef(self);
}

static PyObject *region_exit(PyObject *self, PyObject *Py_UNUSED(args))
{
	return region_close(self, NULL);
}

static int region_getbuffer(PyObject *self, Py_buffer *view, int flags)
{
	struct region *region = (struct region *)self;

	if (region_pin(self) < 0) {
		view->obj = NULL;
		return -1;
	}
	if (PyBuffer_FillInfo(view, self, shmdev_region_addr(region->region),
			      shmdev_region_size(region->region),
			      shmdev_region_rdonly(region->region), flags) == 0)
		return 0;
	region_unpin(self);
	return -1;
}

static void region_releasebuffer(PyObject *self, Py_buffer *Py_UNUSED(view))
{
	region_unpin(self);
}

static PyObject *region_fileno(PyObject *self, PyObject *Py_UNUSED(ignored))
{
	int fd;

	if (region_pin(self) < 0)
		return NULL;
	fd = shmdev_region_fd(((struct region *)self)->region);
	region_unpin(self);
	return PyLong_FromLong(fd);
}

/* How it travels is a thing of Python, which is imported when it is needed. */
static PyObject *region_reduce(PyObject *self, PyObject *Py_UNUSED(ignored))
{
	PyObject *classes = PyImport_ImportModule("shmdev._classes");
	PyObject *reduced;

	if (!classes)
		return NULL;
	reduced = PyObject_CallMethod(classes, "reduce_region", "O", self);
	Py_DECREF(classes);
	return reduced;
}

static PyObject *region_get_size(PyObject *self, void *Py_UNUSED(closure))
{
	size_t size;

	if (region_pin(self) < 0)
		return NULL;
	size = shmdev_region_size(((struct region *)self)->region);
	region_unpin(self);
	return PyLong_FromSize_t(size);
}

static PyObject *region_get_backend(PyObject *self, void *Py_UNUSED(closure))
{
	enum shmdev_backend backend;

	if (region_pin(self) < 0)
		return NULL;
	backend = shmdev_region_backend(((struct region *)self)->region);
	region_unpin(self);
	return PyUnicode_FromString(shmdev_backend_name(backend));
}

static PyObject *region_get_page_size(PyObject *self, void *Py_UNUSED(closure))
{
	size_t size;

	if (region_pin(self) < 0)
		return NULL;
	size = shmdev_region_page_size(((struct region *)self)->region);
	region_unpin(self);
	return PyLong_FromSize_t(size);
}

static PyObject *region_get_readonly(PyObject *self, void *Py_UNUSED(closure))
{
	int readonly;

	if (region_pin(self) < 0)
		return NULL;
	readonly = shmdev_region_rdonly(((struct region *)self)->region);
	region_unpin(self);
	return PyBool_FromLong(readonly);
}

static PyObject *region_seal(PyObject *self, PyObject *Py_UNUSED(ignored))
{
	int err;

	if (region_pin(self) < 0)
		return NULL;
	err = shmdev_region_seal(((struct region *)self)->region, SHMDEV_SEAL_FUTURE);
	region_unpin(self);
	if (err)
		return error_set("shmdev_region_seal", -err);
	Py_RETURN_NONE;
}

static PyObject *region_get_closed(PyObject *self, void *Py_UNUSED(closure))
{
	return PyBool_FromLong(region_is_closed((struct region *)self));
}

static PyObject *region_get_huge(PyObject *self, void *Py_UNUSED(closure))
{
	const struct shmdev_region *region;
	uint64_t bytes;
	size_t size;
	int err;

	if (region_pin(self) < 0)
		return NULL;
	region = ((struct region *)self)->region;
	size = shmdev_region_size(region);
	Py_BEGIN_ALLOW_THREADS
	err = shmdev_region_huge_bytes(region, &bytes);
	Py_END_ALLOW_THREADS
	region_unpin(self);
	if (err)
		return error_set("/proc/self/smaps", -err);
	return PyFloat_FromDouble((double)bytes / size);
}

static PyObject *region_repr(PyObject *self)
{
	const struct shmdev_region *region;
	PyObject *repr;

	if (region_pin(self) < 0) {
		PyErr_Clear();
		return PyUnicode_FromString("<shmdev.Region, closed>");
	}
	region = ((struct region *)self)->region;
	repr = PyUnicode_FromFormat("<shmdev.Region of %zu bytes, %s>",
				    shmdev_region_size(region),
				    shmdev_backend_name(shmdev_region_backend(region)));
	region_unpin(self);
	return repr;
}

static PyMethodDef region_type_methods[] = {
	{ "fileno", region_fileno, METH_NOARGS,
	  "fileno($self, /)\n--\n\n"
	  "The region's descriptor.  It stays the region's: do not close it." },
	{ "close", region_close, METH_NOARGS,
	  "close($self, /)\n--\n\n"
	  "Let the region go; once more does nothing.  Arrays and whoever else has the memory\n"
	  "keep it.  BufferError if there are views of the region, such as a memoryview,\n"
	  "numpy.frombuffer() or an array received from another process: then it stays open." },
	{ "seal", region_seal, METH_NOARGS,
	  "seal($self, /)\n--\n\n"
	  "Let nobody have the region for writing who has it not yet, in any process, for ever.\n"
	  "PermissionError if small arrays share it." },
	{ "__enter__", region_enter, METH_NOARGS, NULL },
	{ "__exit__", region_exit, METH_VARARGS, NULL },
	{ "__reduce__", region_reduce, METH_NOARGS, NULL },
	{ NULL, NULL, 0, NULL },
};

static PyGetSetDef region_getset[] = {
	{ "closed", region_get_closed, NULL, "Whether close() was called.", NULL },
	{ "size", region_get_size, NULL, "Its size in bytes.", NULL },
	{ "readonly", region_get_readonly, NULL, "Whether it can only be read here.", NULL },
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
		     "It is a buffer of all its bytes, writable unless it is readonly.  While it or a view of it lives, the\n"
		     "memory does, unless it is closed: by close(), or at the end of a with statement.\n"
		     "All else of a closed region is a ValueError.  Any thread may use it.\n\n"
		     "New in version 0.1." },
	{ Py_tp_repr, region_repr },
	{ Py_tp_dealloc, region_dealloc },
	{ Py_tp_methods, region_type_methods },
	{ Py_tp_getset, region_getset },
	{ Py_tp_members, region_members },
	{ Py_bf_getbuffer, region_getbuffer },
	{ Py_bf_releasebuffer, region_releasebuffer },
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

static PyObject *region_open(PyObject *module, PyObject *args)
{
	struct shmdev_region *region;
	PyObject *arg;
	int fd, readonly = 0;

	if (!PyArg_ParseTuple(args, "O|p:region_open", &arg, &readonly))
		return NULL;
	fd = PyObject_AsFileDescriptor(arg);
	if (fd < 0)
		return NULL;
	region = readonly ? shmdev_region_open_rdonly(fd) : shmdev_region_open(fd);
	if (!region)
		return error_set("shmdev_region_open", errno);
	return region_wrap(module_state(module), region);
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
	shared = shmdev_region_of((void *)address, &offset);
	if (!shared)
		return error_set("shmdev_region_of", errno);
	region = region_wrap(state, shared);
	return region ? Py_BuildValue("(Nn)", region, (Py_ssize_t)offset) : NULL;
}

struct shmdev_region *region_ref(PyObject *object)
{
	struct shmdev_region *region;

	if (region_pin(object) < 0)
		return NULL;
	region = shmdev_region_ref(((struct region *)object)->region);
	region_unpin(object);
	return region;
}

Py_ssize_t *region_holds(PyObject *object)
{
	return &((struct region *)object)->holds;
}

static PyObject *region_handle(PyObject *module, PyObject *arg)
{
	struct shmdev_handle handle;
	int err;

	if (!Py_IS_TYPE(arg, module_state(module)->region_type)) {
		PyErr_SetString(PyExc_TypeError, "not a Region");
		return NULL;
	}
	if (region_pin(arg) < 0)
		return NULL;
	err = shmdev_region_export(((struct region *)arg)->region, &handle);
	region_unpin(arg);
	return err ? error_set("shmdev_region_export", -err) : handle_bytes(&handle);
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
	{ "region_open", region_open, METH_VARARGS,
	  "region_open($module, fd, readonly=False, /)\n--\n\n"
	  "Map the region that descriptor fd stands for; fd stays the caller's." },
	{ "region_handle", region_handle, METH_O,
	  "region_handle($module, region, /)\n--\n\n"
	  "The handle of all of a region, as bytes." },
	{ "region_locate", region_locate, METH_O,
	  "region_locate($module, address, /)\n--\n\n"
	  "The Region that address lies in and its offset there.  A block in it counts\n"
	  "as known to other processes from now on.  OSError (ENOENT) if it lies in none." },
	{ NULL, NULL, 0, NULL },
};
