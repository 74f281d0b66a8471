// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* shm_fill() over buffers. */
#include "shmdevmodule.h"

#include <limits.h>

struct fill {
	unsigned int nr;	/* requests that are prepared: their views are held */
	struct shm_fill *reqs;
	Py_buffer *views;
};

static void fill_release(struct fill *fill)
{
	while (fill->nr)
		PyBuffer_Release(&fill->views[--fill->nr]);
	PyMem_Free(fill->views);
	PyMem_Free(fill->reqs);
}

static int fill_offset(PyObject *object, int64_t *offset)
{
	PyObject *index = PyNumber_Index(object);

	if (!index)
		return -1;
	*offset = PyLong_AsLongLong(index);
	Py_DECREF(index);
	if (*offset == -1 && PyErr_Occurred())
		return -1;
	/* -1 must not turn into "where the descriptor stands". */
	if (*offset < 0) {
		PyErr_SetString(PyExc_ValueError, "offset must not be negative");
		return -1;
	}
	return 0;
}

/* Prepare the next of the requests from (dest, fd, offset or None). */
static int fill_add(struct fill *fill, PyObject *request)
{
	struct shm_fill *req = &fill->reqs[fill->nr];
	Py_buffer *view = &fill->views[fill->nr];
	PyObject *dest, *offset;
	int fd;

	if (!PyArg_ParseTuple(request, "OiO:fill", &dest, &fd, &offset))
		return -1;
	*req = (struct shm_fill){ .fd = fd, .offset = SHM_FILL_CURRENT };
	if (offset != Py_None && fill_offset(offset, &req->offset) < 0)
		return -1;
	if (PyObject_GetBuffer(dest, view, PyBUF_WRITABLE) < 0)
		return -1;
	req->dst = view->buf;
	req->len = view->len;
	fill->nr++;
	return 0;
}

static PyObject *fill_results(const struct fill *fill)
{
	PyObject *list = PyList_New(fill->nr);

	for (unsigned int i = 0; list && i < fill->nr; i++) {
		PyObject *result = PyLong_FromLongLong(fill->reqs[i].result);

		if (result)
			PyList_SET_ITEM(list, i, result);
		else
			Py_CLEAR(list);
	}
	return list;
}

static PyObject *fill_all(PyObject *Py_UNUSED(module), PyObject *arg)
{
	struct fill fill = { .nr = 0 };
	PyObject *requests, *results = NULL;
	Py_ssize_t nr;
	int err;

	/* A tuple of our own: buffers of arbitrary objects are taken meanwhile. */
	requests = PySequence_Tuple(arg);
	if (!requests)
		return NULL;
	nr = PyTuple_GET_SIZE(requests);
	if (nr > UINT_MAX) {
		PyErr_SetString(PyExc_OverflowError, "too many requests");
		goto drop_requests;
	}
	fill.reqs = PyMem_New(struct shm_fill, nr);
	fill.views = PyMem_New(Py_buffer, nr);
	if (!fill.reqs || !fill.views) {
		PyErr_NoMemory();
		goto release;
	}
	for (Py_ssize_t i = 0; i < nr; i++)
		if (fill_add(&fill, PyTuple_GET_ITEM(requests, i)) < 0)
			goto release;

	Py_BEGIN_ALLOW_THREADS
	err = shm_fill(fill.reqs, fill.nr);
	Py_END_ALLOW_THREADS
	if (err)
		error_set("shm_fill", -err);
	else
		results = fill_results(&fill);
release:
	fill_release(&fill);
drop_requests:
	Py_DECREF(requests);
	return results;
}

PyMethodDef fill_methods[] = {
	{ "fill", fill_all, METH_O,
	  "fill($module, requests, /)\n--\n\n"
	  "Do all of [(dest, fd, offset or None)]; the bytes read or -errno of each." },
	{ NULL, NULL, 0, NULL },
};
