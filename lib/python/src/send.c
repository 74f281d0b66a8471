// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* Handles as bytes and text. */
#include "shmdevmodule.h"

#include <errno.h>
#include <string.h>

PyObject *handle_bytes(const struct shmdev_handle *handle)
{
	return PyBytes_FromStringAndSize((const char *)handle, sizeof(*handle));
}

int handle_convert(PyObject *object, void *to)
{
	if (!PyBytes_Check(object) ||
	    PyBytes_GET_SIZE(object) != (Py_ssize_t)sizeof(struct shmdev_handle)) {
		PyErr_SetString(PyExc_ValueError, "not a handle of this version of shmdev");
		return 0;
	}
	memcpy(to, PyBytes_AS_STRING(object), sizeof(struct shmdev_handle));
	return 1;
}

/* The caller keeps the memory alive. */
static PyObject *handle_make(PyObject *Py_UNUSED(module), PyObject *arg)
{
	struct shmdev_handle handle;
	void *address = PyLong_AsVoidPtr(arg);
	int err;

	if (!address && PyErr_Occurred())
		return NULL;
	err = shmdev_export(address, &handle);
	return err ? error_set("shmdev_export", -err) : handle_bytes(&handle);
}

static PyObject *handle_attach(PyObject *module, PyObject *args)
{
	struct shmdev_handle handle;
	struct shmdev_region *shared;
	PyObject *region;
	int readonly, err;

	if (!PyArg_ParseTuple(args, "O&p:attach", handle_convert, &handle, &readonly))
		return NULL;
	Py_BEGIN_ALLOW_THREADS
	shared = readonly ? shmdev_region_attach_rdonly(&handle) : shmdev_region_attach(&handle);
	err = shared ? 0 : errno;
	Py_END_ALLOW_THREADS
	if (!shared)
		return error_set("shmdev_region_attach", err);
	region = region_wrap(module_state(module), shared);
	return region ? Py_BuildValue("(Nnn)", region, (Py_ssize_t)handle.offset,
				      (Py_ssize_t)handle.size) : NULL;
}

static PyObject *handle_format(PyObject *Py_UNUSED(module), PyObject *arg)
{
	char text[SHMDEV_HANDLE_TEXT_SIZE];
	struct shmdev_handle handle;
	int len;

	if (!handle_convert(arg, &handle))
		return NULL;
	len = shmdev_handle_format(&handle, text, sizeof(text));
	return len < 0 ? error_set("shmdev_handle_format", -len) :
			 PyUnicode_FromStringAndSize(text, len);
}

static PyObject *handle_parse(PyObject *Py_UNUSED(module), PyObject *arg)
{
	const char *text = PyUnicode_AsUTF8(arg);
	struct shmdev_handle handle;

	if (!text)
		return NULL;
	switch (shmdev_handle_parse(text, &handle)) {
	case 0:
		return handle_bytes(&handle);
	case -EPROTONOSUPPORT:
		PyErr_SetString(PyExc_ValueError, "exported by a later version of shmdev");
		return NULL;
	default:
		PyErr_SetString(PyExc_ValueError, "not what shmdev.export() returns");
		return NULL;
	}
}

static PyObject *address(PyObject *Py_UNUSED(module), PyObject *arg)
{
	PyObject *result;
	Py_buffer view;

	if (PyObject_GetBuffer(arg, &view, PyBUF_SIMPLE) < 0)
		return NULL;
	result = PyLong_FromVoidPtr(view.buf);
	PyBuffer_Release(&view);
	return result;
}

PyMethodDef send_methods[] = {
	{ "handle", handle_make, METH_O,
	  "handle($module, address, /)\n--\n\n"
	  "The handle of the memory at address, as bytes." },
	{ "address", address, METH_O,
	  "address($module, buffer, /)\n--\n\n"
	  "Where the memory of a buffer is." },
	{ "attach", handle_attach, METH_VARARGS,
	  "attach($module, handle, readonly, /)\n--\n\n"
	  "(Region, offset there, size) of what handle stands for." },
	{ "handle_format", handle_format, METH_O,
	  "handle_format($module, handle, /)\n--\n\n"
	  "handle as text." },
	{ "handle_parse", handle_parse, METH_O,
	  "handle_parse($module, text, /)\n--\n\n"
	  "The handle that text is of." },
	{ NULL, NULL, 0, NULL },
};
