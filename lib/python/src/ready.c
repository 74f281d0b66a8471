// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* The library's thread that has memory ready; what _ready.py is made of. */
#include "shmdevmodule.h"

#include <limits.h>

static PyObject *ready_start(PyObject *Py_UNUSED(module), PyObject *args)
{
	struct shmdev_ready_options options = { .limit = 0 };
	Py_ssize_t limit, size;
	int err;

	if (!PyArg_ParseTuple(args, "nn:ready_start", &limit, &size))
		return NULL;
	if (limit <= 0 || size < 0) {
		PyErr_SetString(PyExc_ValueError, "limit must be positive, and size not negative");
		return NULL;
	}
	options.limit = limit;
	options.size = size;
	Py_BEGIN_ALLOW_THREADS
	err = shmdev_ready_start(&options);
	Py_END_ALLOW_THREADS
	if (err == -EINVAL) {
		PyErr_Format(PyExc_ValueError, "a limit of %zd bytes with a size of %zd: the size "
			     "must be 0 or at least 256 KiB and, rounded up, within the limit",
			     limit, size);
		return NULL;
	}
	if (err)
		return error_set("ready_start", -err);
	Py_RETURN_NONE;
}

static PyObject *ready_stop(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
	Py_BEGIN_ALLOW_THREADS
	shmdev_ready_stop();
	Py_END_ALLOW_THREADS
	Py_RETURN_NONE;
}

/* True, or False after @milliseconds; a caller who is patient calls again. */
static PyObject *ready_wait(PyObject *Py_UNUSED(module), PyObject *milliseconds)
{
	long timeout = PyLong_AsLong(milliseconds);
	int err;

	if (timeout == -1 && PyErr_Occurred())
		return NULL;
	if (timeout < 0 || timeout > INT_MAX)
		timeout = INT_MAX;
	Py_BEGIN_ALLOW_THREADS
	err = shmdev_ready_wait(timeout);
	Py_END_ALLOW_THREADS
	if (err == -ETIMEDOUT)
		Py_RETURN_FALSE;
	if (err == -EINVAL) {
		PyErr_SetString(PyExc_RuntimeError, "nothing is made ready: see ready_start()");
		return NULL;
	}
	if (err)
		return error_set("ready_wait", -err);
	Py_RETURN_TRUE;
}

static PyObject *ready_get(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
	struct shmdev_ready_info info;

	Py_BEGIN_ALLOW_THREADS
	shmdev_ready_get(&info);
	Py_END_ALLOW_THREADS
	return Py_BuildValue("(KKKKKKKd)", (unsigned long long)info.limit,
			     (unsigned long long)info.bytes, (unsigned long long)info.regions,
			     (unsigned long long)info.hits, (unsigned long long)info.misses,
			     (unsigned long long)info.made_bytes,
			     (unsigned long long)info.dropped_bytes, info.cpu_ns / 1e9);
}

PyMethodDef ready_methods[] = {
	{ "ready_start", ready_start, METH_VARARGS, NULL },
	{ "ready_stop", ready_stop, METH_NOARGS, NULL },
	{ "ready_wait", ready_wait, METH_O, NULL },
	{ "ready_get", ready_get, METH_NOARGS, NULL },
	{ NULL, NULL, 0, NULL },
};
