// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* assign(): numbers into an array by numpy's rules, from a source of any dimensions. */
#include "shmdevmodule.h"
#include "cast.h"

#include <string.h>

/* A source, row by row in C order. */
struct rows {
	Py_buffer view;
	struct format format;
	PyObject *copied;	/* bytes that are read in the buffer's place, or NULL */
};

static void rows_close(struct rows *rows)
{
	Py_XDECREF(rows->copied);
	PyBuffer_Release(&rows->view);
}

static int rows_open(struct rows *rows, PyObject *source, Py_ssize_t n)
{
	Py_ssize_t items;

	if (PyObject_GetBuffer(source, &rows->view, PyBUF_RECORDS_RO) < 0)
		return -1;
	rows->copied = NULL;
	/* An array of ctypes without items has items of no size in Python 3.9. */
	items = rows->view.len ? rows->view.len / rows->view.itemsize : 0;
	if (items != n) {
		PyErr_Format(PyExc_ValueError, "cannot assign %zd items to an array of %zd",
			     items, n);
		goto close;
	}
	rows->format = format_parse(rows->view.format, rows->view.itemsize);
	if (n && (rows->format.number == NUMBER_UNKNOWN || rows->format.number == NUMBER_CHAR)) {
		PyErr_Format(PyExc_TypeError, "cannot assign from a buffer of format '%.100s'",
			     rows->view.format);
		goto close;
	}
	return 0;

close:
	rows_close(rows);
	return -1;
}

/* Read a copy: the target may be the same memory. */
static int rows_copy(struct rows *rows)
{
	rows->copied = PyBytes_FromStringAndSize(NULL, rows->view.len);
	if (!rows->copied)
		return -1;
	return PyBuffer_ToContiguous(PyBytes_AS_STRING(rows->copied), &rows->view,
				     rows->view.len, 'C');
}

static bool rows_overlap(const struct rows *rows, const struct column *to, Py_ssize_t n)
{
	const Py_buffer *view = &rows->view;
	uintptr_t low = (uintptr_t)view->buf, high = low + view->itemsize;
	uintptr_t first = (uintptr_t)to->first;

	for (int d = 0; view->strides && d < view->ndim; d++) {
		Py_ssize_t extent = (view->shape[d] - 1) * view->strides[d];

		if (extent < 0)
			low += extent;
		else
			high += extent;
	}
	if (!view->strides)
		high = low + view->len;
	return low < first + n * to->stride && first < high;
}

/*
 * Call @each for each row, in order: its column, its length, and where it begins, until
 * one of them returns other than 0; that is returned.
 */
static unsigned int rows_each(const struct rows *rows, Py_ssize_t n,
			      unsigned int (*each)(const struct column *row, Py_ssize_t length,
						   Py_ssize_t at, const void *arg),
			      const void *arg)
{
	const Py_buffer *view = &rows->view;
	struct column row = {
		.first = rows->copied ? PyBytes_AS_STRING(rows->copied) : view->buf,
		.stride = view->itemsize,
		.format = rows->format,
	};
	Py_ssize_t index[PyBUF_MAX_NDIM] = { 0 };
	int last = view->ndim - 1;
	unsigned int result;
	Py_ssize_t length;

	if (rows->copied || PyBuffer_IsContiguous(view, 'C') || !view->strides)
		return each(&row, n, 0, arg);
	length = view->shape[last];
	row.stride = view->strides[last];
	for (Py_ssize_t at = 0; at < n; at += length) {
		int d = last - 1;

		result = each(&row, length, at, arg);
		if (result)
			return result;
		/* As an odometer: the next index, and the bytes that lie between. */
		for (; d >= 0; d--) {
			row.first += view->strides[d];
			if (++index[d] < view->shape[d])
				break;
			row.first -= view->shape[d] * view->strides[d];
			index[d] = 0;
		}
	}
	return 0;
}

struct assignment {
	struct column to;
	enum overflow overflow;
};

static unsigned int row_check(const struct column *row, Py_ssize_t length,
			      Py_ssize_t Py_UNUSED(at), const void *arg)
{
	const struct assignment *assignment = arg;

	return cast_check(assignment->to.format.number, row, length, assignment->overflow);
}

static unsigned int row_store(const struct column *row, Py_ssize_t length, Py_ssize_t at,
			      const void *arg)
{
	const struct assignment *assignment = arg;
	struct column to = assignment->to;

	to.first += at * to.stride;
	cast_store(&to, row, length, assignment->overflow);
	return 0;
}

static int assign_rows(const struct assignment *assignment, const struct rows *rows,
		       Py_ssize_t n)
{
	PyThreadState *thread = NULL;
	unsigned int flags;

	if (rows->view.len >= GIL_WORTHWHILE)
		thread = PyEval_SaveThread();
	flags = rows_each(rows, n, row_check, assignment);
	if (!flags)
		rows_each(rows, n, row_store, assignment);
	if (thread)
		PyEval_RestoreThread(thread);

	if (flags & CAST_NO_INTEGER)
		PyErr_SetString(PyExc_ValueError, "NaN or infinity to an integer");
	else if (flags)
		PyErr_SetString(PyExc_OverflowError, "an item is out of the array's range");
	return flags ? -1 : 0;
}

/* The place of @name in a list of names; -1 with an exception. */
static int choice(const char *what, const char *all, const char *name,
		  const char *const *names)
{
	for (int i = 0; names[i]; i++)
		if (!strcmp(name, names[i]))
			return i;
	PyErr_Format(PyExc_ValueError, "%s must be %s, not '%.100s'", what, all, name);
	return -1;
}

PyObject *array_assign(PyObject *self, PyObject *args, PyObject *names)
{
	static const char *const castings[] = {
		[CASTING_NO] = "no", [CASTING_EQUIV] = "equiv", [CASTING_SAFE] = "safe",
		[CASTING_SAME_KIND] = "same_kind", [CASTING_UNSAFE] = "unsafe", NULL,
	};
	static const char *const overflows[] = {
		[OVERFLOW_WRAP] = "wrap", [OVERFLOW_RAISE] = "raise",
		[OVERFLOW_SATURATE] = "saturate", NULL,
	};
	static char *parameters[] = { "", "casting", "overflow", NULL };
	const char *casting_name = "same_kind", *overflow_name = "wrap";
	struct assignment assignment;
	int casting, overflow, err = 0;
	PyObject *source;
	struct rows rows;
	Py_ssize_t n;

	if (!PyArg_ParseTupleAndKeywords(args, names, "O|$ss:assign", parameters, &source,
					 &casting_name, &overflow_name))
		return NULL;
	casting = choice("casting", "no, equiv, safe, same_kind or unsafe", casting_name,
			 castings);
	overflow = casting < 0 ? -1 : choice("overflow", "wrap, raise or saturate",
							 overflow_name, overflows);
	if (overflow < 0 || array_column(self, &assignment.to, &n) < 0 ||
	    rows_open(&rows, source, n) < 0)
		return NULL;
	assignment.overflow = overflow;

	/* The source may have run code to make its buffer, and that ctypes.resize(). */
	if (array_column(self, &assignment.to, &n) < 0) {
		err = -1;
	} else if (!n) {
		;	/* nothing to store, whatever the types */
	} else if (assignment.to.format.number == NUMBER_CHAR ||
		   assignment.to.format.number == NUMBER_UNKNOWN) {
		PyErr_SetString(PyExc_TypeError, "the array holds no numbers");
		err = -1;
	} else if (!cast_is_allowed(casting, &assignment.to.format, &rows.format)) {
		PyErr_Format(PyExc_TypeError, "cannot assign from format '%.100s' by casting '%s'",
			     rows.view.format ? rows.view.format : "B", casting_name);
		err = -1;
	} else if (rows_overlap(&rows, &assignment.to, n) && rows_copy(&rows) < 0) {
		err = -1;
	} else {
		err = assign_rows(&assignment, &rows, n);
	}
	rows_close(&rows);
	if (err)
		return NULL;
	Py_RETURN_NONE;
}
