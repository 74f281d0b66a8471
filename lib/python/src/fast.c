// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * FastArray: first base of the arrays, in front of a ctypes array of numbers.  It
 * has no data and one slot, assignment to a subscript; slices are stored here, all
 * else goes on to ctypes.  Its one method is assign().
 */
#include "shmdevmodule.h"

/* Two slots of ctypes.Array: functions, the same in all interpreters. */
static binaryfunc ctypes_subscript;
static objobjargproc ctypes_ass_subscript;

void fast_learn(const PyTypeObject *array)
{
	__atomic_store_n(&ctypes_ass_subscript, array->tp_as_mapping->mp_ass_subscript,
			 __ATOMIC_RELAXED);
	__atomic_store_n(&ctypes_subscript, array->tp_as_mapping->mp_subscript, __ATOMIC_RELEASE);
}

static int fast_assign_slice(struct module_state *state, PyObject *array, PyObject *slice,
			     PyObject *value)
{
	struct items_target target = { .state = state, .array = array };
	Py_ssize_t start, stop, step, length, other;
	struct source source;
	struct column to;
	int result;

	if (PySlice_Unpack(slice, &start, &stop, &step) < 0)
		return -1;
	other = PySequence_Size(value);
	if (other < 0)
		PyErr_Clear();	/* told below, as in ctypes */
	if (array_column(array, &target.column, &length) < 0)
		return -1;
	target.n = PySlice_AdjustIndices(length, &start, &stop, step);
	/* a[3::sys.maxsize] is one item; the distance to the next must not overflow. */
	if (target.n <= 1)
		step = 1;
	target.first = start;
	target.step = step;
	if (other != target.n) {
		PyErr_SetString(PyExc_ValueError, "Can only assign sequence of same size");
		return -1;
	}

	result = source_open(state, value, target.n, target.column.format.number, &source);
	if (result < 0)
		return -1;
	if (!result)
		return items_store_sequence(&target, value, target.n);

	/* Opening may have run code of the source's class, and that ctypes.resize(). */
	result = array_column(array, &to, &length);
	if (!result) {
		to.first += start * to.stride;
		to.stride *= step;
		result = source_store(&source, &to, target.n);
	}
	source_close(&source);
	return result;
}

/* All but an element of a ctypes array. */
static __attribute__((noinline)) int fast_ass_other(PyObject *self, PyObject *key,
						    PyObject *value)
{
	struct module_state *state = module_state_of(Py_TYPE(self));

	if (!state)
		return -1;
	if (!PyObject_TypeCheck(self, state->array_type)) {
		PyErr_Format(PyExc_TypeError, "'%.200s' object is not a ctypes array",
			     Py_TYPE(self)->tp_name);
		return -1;
	}
	if (!value || !PySlice_Check(key))
		return state->array_ass_subscript(self, key, value);
	return fast_assign_slice(state, self, key, value);
}

/*
 * An element goes to ctypes the short way, by two jumps and nothing on the stack: it is
 * to cost what it costs without us.  Only ctypes' arrays have its mp_subscript.
 */
static int fast_ass_subscript(PyObject *self, PyObject *key, PyObject *value)
{
	if (__builtin_expect(value && !PySlice_Check(key) &&
			     Py_TYPE(self)->tp_as_mapping->mp_subscript ==
				     __atomic_load_n(&ctypes_subscript, __ATOMIC_ACQUIRE), 1))
		return ctypes_ass_subscript(self, key, value);
	return fast_ass_other(self, key, value);
}

bool fast_is_plain(const struct module_state *state, const PyTypeObject *type)
{
	objobjargproc slot = type->tp_as_mapping->mp_ass_subscript;

	return type->tp_init == state->array_init &&
	       (slot == fast_ass_subscript || slot == state->array_ass_subscript);
}

PyDoc_STRVAR(assign_doc,
"assign($self, source, /, *, casting='same_kind', overflow='wrap')\n--\n\n"
"Store the items of source, a buffer of numbers, by numpy's rules.\n"
"\n"
"source has as many items as the array, in any number of dimensions; they are taken\n"
"in C order.  If it overlaps with the array, it is copied first.\n"
"\n"
"casting says which conversions are meant, as in numpy.copyto(): 'no', 'equiv',\n"
"'safe', 'same_kind' or 'unsafe'.  With 'unsafe' floats become integers; they lose\n"
"their fractions.\n"
"\n"
"overflow says what becomes of a value that is out of the array's range: 'wrap' stores\n"
"an integer modulo two to its bits, and an infinity for a float; 'saturate' stores the\n"
"nearest value there is; 'raise' is an OverflowError.  A NaN has no nearest integer:\n"
"'saturate' makes 0 of it, the others raise ValueError, as 'wrap' does for infinities.\n"
"\n"
"Raises TypeError for a casting that is not allowed or a source of no numbers,\n"
"ValueError for another number of items, OverflowError, BufferError and MemoryError;\n"
"then nothing has been stored.  Large assignments let other threads run.\n"
"\n"
"New in version 0.1.");

static PyMethodDef fast_methods[] = {
	{ "assign", (PyCFunction)(void (*)(void))array_assign, METH_VARARGS | METH_KEYWORDS,
	  assign_doc },
	{ NULL, NULL, 0, NULL },
};

static PyType_Slot fast_slots[] = {
	{ Py_tp_doc, "Base of ctypes arrays that makes assignment to a slice fast." },
	{ Py_mp_ass_subscript, fast_ass_subscript },
	{ Py_tp_methods, fast_methods },
	{ 0, NULL },
};

PyType_Spec fast_spec = {
	.name = "shmdev._shmdev.FastArray",
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
	.slots = fast_slots,
};
