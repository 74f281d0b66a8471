// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * Which buffers may be read as numbers, without asking for item after item.
 *
 * multiprocessing asks the source for its items and lets ctypes convert those, so
 * the answer hangs on what the items are, not only on the bytes: an item of a
 * numpy array of bool is no integer to ctypes while that of a memoryview is, and an
 * mmap of bytes has items that are not ints.  The buffer's format is believed where
 * the source's first item is of the kind it promises; what ctypes would refuse goes
 * to ctypes item by item and is refused there.
 */
#include "shmdevmodule.h"

#include <string.h>

/* numpy.memmap defines __getitem__ only to name the class of what it returns. */
static int source_is_memmap(PyObject *object)
{
	PyObject *numpy, *memmap;
	PyObject *name;
	int result;

	name = PyUnicode_FromString("numpy");
	if (!name)
		return -1;
	numpy = PyImport_GetModule(name);
	Py_DECREF(name);
	if (!numpy)
		return PyErr_Occurred() ? -1 : 0;
	memmap = PyObject_GetAttrString(numpy, "memmap");
	Py_DECREF(numpy);
	if (!memmap) {
		if (!PyErr_ExceptionMatches(PyExc_AttributeError))
			return -1;
		PyErr_Clear();
		return 0;
	}
	result = (PyObject *)Py_TYPE(object) == memmap;
	Py_DECREF(memmap);
	return result;
}

/* Whether Python code of the source's class makes its items. */
static int source_is_scripted(struct module_state *state, PyObject *object)
{
	PyTypeObject *type = Py_TYPE(object);
	PyMappingMethods *mapping = type->tp_as_mapping;
	int memmap;

	if (!PyType_HasFeature(type, Py_TPFLAGS_HEAPTYPE))
		return 0;
	if (type->tp_iter != state->python_iter &&
	    (!mapping || mapping->mp_subscript != state->python_subscript))
		return 0;
	memmap = source_is_memmap(object);
	return memmap < 0 ? -1 : !memmap;
}

/* Whether ctypes would see in @item, stored as @to, what format @from promises. */
static bool item_is_as_promised(PyObject *item, enum number from, enum number to)
{
	PyNumberMethods *methods = Py_TYPE(item)->tp_as_number;

	if (to == NUMBER_CHAR)
		return (PyBytes_Check(item) && PyBytes_GET_SIZE(item) == 1) ||
		       (from == NUMBER_U8 && PyLong_Check(item));
	if (from == NUMBER_BOOL && !PyBool_Check(item) && number_is_integer(to))
		return false;
	if (from == NUMBER_BOOL && to == NUMBER_BOOL)
		return methods && methods->nb_bool;
	if (number_is_float(from) || from == NUMBER_BOOL)
		return methods && methods->nb_float;
	return PyIndex_Check(item);
}

/* numpy's own arrays: what their items are follows from the format. */
static bool object_is_ndarray(PyObject *object)
{
	PyTypeObject *type = Py_TYPE(object);

	return !PyType_HasFeature(type, Py_TPFLAGS_HEAPTYPE) &&
	       !strcmp(type->tp_name, "numpy.ndarray");
}

static int source_keeps_promise(PyObject *object, enum number from, enum number to)
{
	PyObject *item;
	bool kept;

	/* Its items are made from the format alone, if at all: it knows few formats. */
	if (PyMemoryView_Check(object))
		return 1;
	/* numpy's bool is no integer to ctypes, or just about to be none. */
	if (to != NUMBER_CHAR && !(from == NUMBER_BOOL && number_is_integer(to)) &&
	    object_is_ndarray(object))
		return 1;
	item = PySequence_GetItem(object, 0);
	if (!item) {
		/* ctypes will ask the same and get the same exception. */
		if (!PyErr_ExceptionMatches(PyExc_Exception))
			return -1;
		PyErr_Clear();
		return 0;
	}
	kept = item_is_as_promised(item, from, to);
	Py_DECREF(item);
	return kept;
}

int source_open(struct module_state *state, PyObject *object, Py_ssize_t n, enum number to,
		struct source *source)
{
	Py_buffer *view = &source->view;
	struct column *column = &source->column;
	int result;

	if (!PyObject_CheckBuffer(object))
		return 0;
	result = source_is_scripted(state, object);
	if (result)
		return result < 0 ? -1 : 0;

	if (PyObject_GetBuffer(object, view, PyBUF_RECORDS_RO) < 0) {
		/* No buffer after all (numpy: of dates), but perhaps items. */
		if (!PyErr_ExceptionMatches(PyExc_Exception))
			return -1;
		PyErr_Clear();
		return 0;
	}
	if (view->ndim != 1 || view->shape[0] != n)
		goto item_by_item;
	column->format = format_parse(view->format, view->itemsize);
	if (!convert_is_defined(to, column->format.number))
		goto item_by_item;
	column->first = view->buf;
	/* ctypes leaves strides out, whatever is asked for. */
	column->stride = view->strides ? view->strides[0] : view->itemsize;
	if (n) {
		result = source_keeps_promise(object, column->format.number, to);
		if (result <= 0)
			goto release;
	}
	return 1;

item_by_item:
	result = 0;
release:
	PyBuffer_Release(view);
	return result;
}

void source_close(struct source *source)
{
	PyBuffer_Release(&source->view);
}

int source_store(const struct source *source, const struct column *to, Py_ssize_t n)
{
	size_t bytes = (size_t)n * (number_size(source->column.format.number) +
				    number_size(to->format.number));
	int err;

	if (bytes < GIL_WORTHWHILE) {
		err = convert_column(to, &source->column, n);
	} else {
		Py_BEGIN_ALLOW_THREADS
		err = convert_column(to, &source->column, n);
		Py_END_ALLOW_THREADS
	}
	if (err) {
		PyErr_NoMemory();
		return -1;
	}
	return 0;
}
