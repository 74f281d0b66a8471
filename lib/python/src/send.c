// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * Handles as bytes and text, and ledgers: shared memory in which a receiver tells a
 * sender what has arrived; see shmdev._holds.
 */
#include "shmdevmodule.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* --- Handles -------------------------------------------------------------------- */

static PyObject *handle_bytes(const struct shmdev_handle *handle)
{
	return PyBytes_FromStringAndSize((const char *)handle, sizeof(*handle));
}

/* For "O&": a handle from bytes of its size. */
static int handle_convert(PyObject *object, void *to)
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

/* --- Ledgers -------------------------------------------------------------------- */

/*
 * A ledger is shared memory: how many entries were ever made, which is what its owner
 * waits for, and slots of serial numbers.  Others may write nonsense to it.
 */
struct ledger {
	uint32_t entries;
	uint32_t pad;
	uint64_t slots[];
};

/* The ledger in @view, which must have @slot; NULL with an exception. */
static struct ledger *ledger_of(const Py_buffer *view, Py_ssize_t at, Py_ssize_t slot)
{
	if (at < 0 || slot < 0 || at % 8 ||
	    at > view->len - (Py_ssize_t)sizeof(struct ledger) ||
	    slot >= (view->len - at - (Py_ssize_t)sizeof(struct ledger)) / 8) {
		PyErr_SetString(PyExc_ValueError, "no such entry of a ledger");
		return NULL;
	}
	return (struct ledger *)((char *)view->buf + at);
}

static PyObject *ledger_enter(PyObject *Py_UNUSED(module), PyObject *args)
{
	unsigned long long serial;
	struct ledger *ledger;
	Py_ssize_t at, slot;
	Py_buffer view;

	if (!PyArg_ParseTuple(args, "w*nnK:ledger_enter", &view, &at, &slot, &serial))
		return NULL;
	ledger = ledger_of(&view, at, slot);
	if (ledger) {
		__atomic_store_n(&ledger->slots[slot], serial, __ATOMIC_RELEASE);
		__atomic_add_fetch(&ledger->entries, 1, __ATOMIC_RELEASE);
		syscall(SYS_futex, &ledger->entries, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
	}
	PyBuffer_Release(&view);
	if (!ledger)
		return NULL;
	Py_RETURN_NONE;
}

static PyObject *ledger_wait(PyObject *Py_UNUSED(module), PyObject *args)
{
	struct timespec timeout;
	struct ledger *ledger;
	unsigned int seen;
	double seconds;
	Py_buffer view;

	if (!PyArg_ParseTuple(args, "w*Id:ledger_wait", &view, &seen, &seconds))
		return NULL;
	ledger = ledger_of(&view, 0, 0);
	if (ledger) {
		/* Longer than a day is a day: the caller looks and waits again. */
		seconds = seconds < 0 ? 0 : seconds > 86400 ? 86400 : seconds;
		timeout.tv_sec = (time_t)seconds;
		timeout.tv_nsec = (long)((seconds - (double)timeout.tv_sec) * 1e9);
		Py_BEGIN_ALLOW_THREADS
		syscall(SYS_futex, &ledger->entries, FUTEX_WAIT, seen, &timeout, NULL, 0);
		Py_END_ALLOW_THREADS
	}
	PyBuffer_Release(&view);
	if (!ledger)
		return NULL;
	Py_RETURN_NONE;
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
	{ "ledger_enter", ledger_enter, METH_VARARGS,
	  "ledger_enter($module, buffer, offset, slot, serial, /)\n--\n\n"
	  "Store serial in a slot of the ledger at offset of buffer, and wake its owner." },
	{ "ledger_wait", ledger_wait, METH_VARARGS,
	  "ledger_wait($module, ledger, seen, seconds, /)\n--\n\n"
	  "Wait until the ledger has more entries than were seen, or for some seconds." },
	{ NULL, NULL, 0, NULL },
};
