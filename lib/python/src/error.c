// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
#include "shmdevmodule.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static PyObject *error_set_because(const char *call, int err, const char *reason)
{
	PyObject *text, *error;

	text = PyUnicode_FromFormat("%s: %s%s%s", call, strerror(err), *reason ? ": " : "",
				    reason);
	if (!text)
		return NULL;
	if (err == ENOMEM) {
		PyErr_SetObject(PyExc_MemoryError, text);
	} else {
		/* OSError chooses its subclass, PermissionError and so on, itself. */
		error = PyObject_CallFunction(PyExc_OSError, "iO", err, text);
		if (error)
			PyErr_SetObject((PyObject *)Py_TYPE(error), error);
		Py_XDECREF(error);
	}
	Py_DECREF(text);
	return NULL;
}

PyObject *error_set(const char *call, int err)
{
	return error_set_because(call, err, "");
}

PyObject *error_set_backend(const char *call, size_t size, int err)
{
	const char *forced = getenv("SHMDEV_BACKEND");
	char reason[256], sized[64];
	int backend;

	if (size) {
		PyOS_snprintf(sized, sizeof(sized), "%s(%zu)", call, size);
		call = sized;
	}
	/* Where any backend would do, no single one has the reason. */
	if (err == ENOMEM && !forced)
		return error_set(call, err);
	/* Sizes and flags are ours and right: only the name can be wrong. */
	if (err == EINVAL && forced) {
		PyOS_snprintf(reason, sizeof(reason), "SHMDEV_BACKEND is '%.100s'", forced);
		return error_set_because(call, err, reason);
	}
	for (backend = 0; backend < SHMDEV_BACKEND_NR; backend++)
		if (shmdev_backend_probe(backend, reason, sizeof(reason)) == -err)
			return error_set_because(call, err, reason);
	return error_set(call, err);
}
