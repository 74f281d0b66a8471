/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/*
 * What CPython 3.9 ... 3.13 spell differently.  No other file tests the version
 * of Python, but for the slots of the module definition.
 */
#ifndef SHMDEV_PYTHON_COMPAT_H
#define SHMDEV_PYTHON_COMPAT_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <structmember.h>
#include <structseq.h>
#if PY_VERSION_HEX < 0x030B0000
#include <longintrepr.h>
#endif
#include <stdbool.h>
#include <stdint.h>

/* Types that only this module makes instances of. */
#if PY_VERSION_HEX < 0x030A0000
#define SHMDEV_TPFLAGS_INTERNAL 0
#else
#define SHMDEV_TPFLAGS_INTERNAL \
	(Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE)
#endif

#if PY_VERSION_HEX < 0x030A0000
static inline PyObject *Py_NewRef(PyObject *object)
{
	Py_INCREF(object);
	return object;
}
#endif

#if PY_VERSION_HEX < 0x030B0000
/* Borrowed reference to the module of the first class in the MRO made by @def. */
static inline PyObject *PyType_GetModuleByDef(PyTypeObject *type, PyModuleDef *def)
{
	for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(type->tp_mro); i++) {
		PyObject *base = PyTuple_GET_ITEM(type->tp_mro, i);
		PyObject *module;

		if (!PyType_HasFeature((PyTypeObject *)base, Py_TPFLAGS_HEAPTYPE))
			continue;
		module = ((PyHeapTypeObject *)base)->ht_module;
		if (module && PyModule_GetDef(module) == def)
			return module;
	}
	PyErr_Format(PyExc_TypeError, "%s is not a class of this module", type->tp_name);
	return NULL;
}
#endif

/* Offsets of some members count from the end of the base since 3.12. */
#ifndef Py_RELATIVE_OFFSET
#define Py_RELATIVE_OFFSET 0
#endif

#if PY_VERSION_HEX < 0x030D0000
/* 1 and a new reference, 0 if what @ref refers to is gone, -1 with an exception. */
static inline int PyWeakref_GetRef(PyObject *ref, PyObject **object)
{
	PyObject *found = PyWeakref_GetObject(ref);

	if (!found || found == Py_None) {
		*object = NULL;
		return found ? 0 : -1;
	}
	*object = Py_NewRef(found);
	return 1;
}

/* 1 and a new reference, 0 if @key is not there, -1 with an exception. */
static inline int PyDict_GetItemRef(PyObject *dict, PyObject *key, PyObject **value)
{
	PyObject *found = PyDict_GetItemWithError(dict, key);

	if (!found) {
		*value = NULL;
		return PyErr_Occurred() ? -1 : 0;
	}
	*value = Py_NewRef(found);
	return 1;
}

#define Py_BEGIN_CRITICAL_SECTION(object) {
#define Py_END_CRITICAL_SECTION() }
#endif

/*
 * A lock that is needed only where there is no GIL.  A critical section would not do:
 * it is given up while a thread waits for another one within.
 */
#ifdef Py_GIL_DISABLED
typedef PyMutex gil_lock;
#define gil_lock_acquire(lock)	PyMutex_Lock(lock)
#define gil_lock_release(lock)	PyMutex_Unlock(lock)
#else
typedef struct { char none; } gil_lock;
#define gil_lock_acquire(lock)	((void)(lock))
#define gil_lock_release(lock)	((void)(lock))
#endif

/*
 * The value of an exact int modulo 2**64, which is what ctypes' integer setters
 * start from.  It is read in place: there is no call for it that is fast on ints of
 * more than one digit (30 bits).
 */
static inline uint64_t long_modulo_2_64(PyObject *object)
{
#if PY_VERSION_HEX < 0x030E0000
	const PyLongObject *integer = (const PyLongObject *)object;
#if PY_VERSION_HEX >= 0x030C0000
	const digit *digits = integer->long_value.ob_digit;
	Py_ssize_t nr = integer->long_value.lv_tag >> 3;
	bool negative = (integer->long_value.lv_tag & 3) == 2;
#else
	const digit *digits = integer->ob_digit;
	Py_ssize_t nr = Py_ABS(Py_SIZE(object));
	bool negative = Py_SIZE(object) < 0;
#endif
	uint64_t value = nr > 0 ? digits[0] : 0;

	for (Py_ssize_t i = 1; i < nr && i * PyLong_SHIFT < 64; i++)
		value |= (uint64_t)digits[i] << i * PyLong_SHIFT;
	return negative ? -value : value;
#else
	return PyLong_AsUnsignedLongLongMask(object);
#endif
}

#endif /* SHMDEV_PYTHON_COMPAT_H */
