// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * Python objects into a ctypes array.  Exact ints, bools and floats are stored by
 * a loop in which no Python code can run; every other object goes to ctypes' own
 * setter, which may run any code (__index__, __float__, __bool__), so that nothing
 * that was read before is believed afterwards.
 */
#include "shmdevmodule.h"

#define ALWAYS_INLINE inline __attribute__((always_inline))

int array_column(PyObject *array, struct column *column, Py_ssize_t *n)
{
	Py_buffer view;

	if (PyObject_GetBuffer(array, &view, PyBUF_RECORDS) < 0)
		return -1;
	*n = view.ndim ? view.shape[0] : 0;
	*column = (struct column){
		.first = view.buf,
		.stride = view.itemsize,
		.format = format_parse(view.format, view.itemsize),
	};
	if (view.ndim != 1)
		column->format.number = NUMBER_UNKNOWN;
	/* ctypes does not count exports: @array itself is what keeps the memory. */
	PyBuffer_Release(&view);
	return 0;
}

/*
 * Store an exact int, bool or float.  1, or 0 if @item is anything else, or -1 with
 * an exception.  No Python code runs.  @number is constant: one branch is compiled.
 */
static ALWAYS_INLINE int store_exact(enum number number, char *to, PyObject *item)
{
	bool is_integer = PyLong_CheckExact(item) || PyBool_Check(item);
	uint64_t integer;
	double value;

	switch (number) {
	case NUMBER_U8:
	case NUMBER_U16:
	case NUMBER_U32:
	case NUMBER_U64:
		if (!is_integer)
			return 0;
		integer = long_modulo_2_64(item);
		/* Low bytes of the word; the compiler makes one store of it. */
		switch (number) {
		case NUMBER_U8:
			*(uint8_t *)to = integer;
			break;
		case NUMBER_U16:
			memcpy(to, &(uint16_t){ integer }, 2);
			break;
		case NUMBER_U32:
			memcpy(to, &(uint32_t){ integer }, 4);
			break;
		default:
			memcpy(to, &integer, 8);
		}
		return 1;
	case NUMBER_F32:
	case NUMBER_F64:
	case NUMBER_LONG_DOUBLE:
		if (PyFloat_CheckExact(item)) {
			value = PyFloat_AS_DOUBLE(item);
		} else if (is_integer) {
			value = PyLong_AsDouble(item);
			if (value == -1.0 && PyErr_Occurred())
				return -1;
		} else {
			return 0;
		}
		if (number == NUMBER_F32)
			memcpy(to, &(float){ value }, sizeof(float));
		else if (number == NUMBER_F64)
			memcpy(to, &value, sizeof(double));
		else
			memcpy(to, &(long double){ value }, sizeof(long double));
		return 1;
	case NUMBER_BOOL:
		if (!is_integer && !PyFloat_CheckExact(item))
			return 0;
		*(_Bool *)to = PyObject_IsTrue(item);	/* cannot fail for these */
		return 1;
	default:
		return 0;
	}
}

static ALWAYS_INLINE Py_ssize_t store_run(enum number number, char *to, ptrdiff_t stride,
					  PyObject *const *items, Py_ssize_t n)
{
	for (Py_ssize_t i = 0; i < n; i++) {
		int stored = store_exact(number, to, items[i]);

		if (stored <= 0)
			return stored < 0 ? -1 : i;
		to += stride;
	}
	return n;
}

/*
 * Store the first of @items to @at and further on, up to the first that is not
 * exact.  Their number, or -1 with an exception.
 */
static Py_ssize_t target_store_run(const struct items_target *target, Py_ssize_t at,
				   PyObject *const *items, Py_ssize_t n)
{
	const struct column *column = &target->column;
	ptrdiff_t stride = target->step * column->stride;
	char *to;

	if (column->format.swapped || column->format.number == NUMBER_UNKNOWN)
		return 0;
	to = column->first + (target->first + at * target->step) * column->stride;
	switch (column->format.number) {
	case NUMBER_BOOL:
		return store_run(NUMBER_BOOL, to, stride, items, n);
	case NUMBER_I8:
	case NUMBER_U8:
		return store_run(NUMBER_U8, to, stride, items, n);
	case NUMBER_I16:
	case NUMBER_U16:
		return store_run(NUMBER_U16, to, stride, items, n);
	case NUMBER_I32:
	case NUMBER_U32:
		return store_run(NUMBER_U32, to, stride, items, n);
	case NUMBER_I64:
	case NUMBER_U64:
		return store_run(NUMBER_U64, to, stride, items, n);
	case NUMBER_F32:
		return store_run(NUMBER_F32, to, stride, items, n);
	case NUMBER_F64:
		return store_run(NUMBER_F64, to, stride, items, n);
	case NUMBER_LONG_DOUBLE:
		return store_run(NUMBER_LONG_DOUBLE, to, stride, items, n);
	default:
		return 0;
	}
}

/* Any Python code may have run, and called ctypes.resize() on the array. */
static int target_refresh(struct items_target *target)
{
	struct column column;
	Py_ssize_t n;

	if (target->column.format.number == NUMBER_UNKNOWN)
		return 0;
	if (array_column(target->array, &column, &n) < 0)
		return -1;
	target->column.first = column.first;
	return 0;
}

/* Store any object as item @at, by ctypes' setter. */
static int target_store_any(struct items_target *target, Py_ssize_t at, PyObject *item)
{
	Py_ssize_t index = target->first + at * target->step;

	if (target->state->array_ass_item(target->array, index, item) < 0)
		return -1;
	return target_refresh(target);
}

/* Store an item of a sequence that is neither list nor tuple. */
static int target_store_item(struct items_target *target, PyObject *sequence, Py_ssize_t at,
			     PyObject *item)
{
	Py_ssize_t stored;

	if (!PyRange_Check(sequence) && target_refresh(target) < 0)
		return -1;
	stored = target_store_run(target, at, &item, 1);
	if (stored)
		return stored < 0 ? -1 : 0;
	return target_store_any(target, at, item);
}

/* target_store_run() over what a list has from @at on, and at most @room of it. */
static Py_ssize_t target_store_list(const struct items_target *target, Py_ssize_t at,
				    PyObject *list, Py_ssize_t room)
{
	Py_ssize_t stored = 0;

	Py_BEGIN_CRITICAL_SECTION(list);
	if (at < PyList_GET_SIZE(list))
		stored = target_store_run(target, at, &PyList_GET_ITEM(list, at),
					  Py_MIN(PyList_GET_SIZE(list) - at, room));
	Py_END_CRITICAL_SECTION();
	return stored;
}

int items_store_sequence(struct items_target *target, PyObject *sequence, Py_ssize_t n)
{
	bool is_list = PyList_CheckExact(sequence);
	bool is_tuple = PyTuple_CheckExact(sequence);
	Py_ssize_t at = 0;

	while (at < n) {
		Py_ssize_t room = Py_MAX(target->n - at, 0);
		Py_ssize_t stored = 0;
		PyObject *item;
		int err;

		if (is_list)
			stored = target_store_list(target, at, sequence, room);
		else if (is_tuple)
			stored = target_store_run(target, at, &PyTuple_GET_ITEM(sequence, at),
						  Py_MIN(PyTuple_GET_SIZE(sequence) - at, room));
		if (stored < 0)
			return -1;
		at += stored;
		if (at == n)
			return 0;

		item = PySequence_GetItem(sequence, at);
		if (!item)
			return -1;
		if (is_list || is_tuple || !room)
			err = target_store_any(target, at, item);
		else
			err = target_store_item(target, sequence, at, item);
		Py_DECREF(item);
		if (err)
			return -1;
		at++;
	}
	return 0;
}

int items_store_iterable(struct items_target *target, PyObject *iterable)
{
	PyObject *items;
	Py_ssize_t at = 0;
	int err;

	/*
	 * The items are those of this moment, whatever a setter does to the iterable.
	 * The exact ones at the front of a list run no setter and need no copy.
	 */
	if (PyList_CheckExact(iterable)) {
		at = target_store_list(target, 0, iterable, target->n);
		if (at < 0)
			return -1;
		if (at == PyList_GET_SIZE(iterable))
			return 0;
		items = PyList_GetSlice(iterable, at, PY_SSIZE_T_MAX);
	} else {
		items = PySequence_Tuple(iterable);
	}
	if (!items)
		return -1;
	target->first += at * target->step;
	target->n -= at;
	err = items_store_sequence(target, items, PySequence_Fast_GET_SIZE(items));
	Py_DECREF(items);
	return err;
}
