// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* What the library says of itself; shmdev/_info.py makes a class of it. */
#include "shmdevmodule.h"

static PyObject *info_get(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
	struct shmdev_info info;
	int err;

	Py_BEGIN_ALLOW_THREADS
	err = shmdev_info_get(&info);
	Py_END_ALLOW_THREADS
	if (err)
		return error_set_backend("shmdev_info_get", -err);
	return Py_BuildValue("(ssKKKKK)", shmdev_backend_name(info.backend),
			     shmdev_fill_engine_name(info.fill_engine),
			     (unsigned long long)info.page_size,
			     (unsigned long long)info.regions,
			     (unsigned long long)info.region_bytes,
			     (unsigned long long)info.blocks,
			     (unsigned long long)info.block_bytes);
}

static PyObject *info_probe(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
	PyObject *list = PyList_New(0);
	char reason[256];

	for (int backend = 0; list && backend < SHMDEV_BACKEND_NR; backend++) {
		PyObject *entry;
		int err;

		Py_BEGIN_ALLOW_THREADS
		reason[0] = '\0';
		err = shmdev_backend_probe(backend, reason, sizeof(reason));
		Py_END_ALLOW_THREADS
		entry = Py_BuildValue("(sis)", shmdev_backend_name(backend), -err, reason);
		if (!entry || PyList_Append(list, entry) < 0)
			Py_CLEAR(list);
		Py_XDECREF(entry);
	}
	return list;
}

PyMethodDef info_methods[] = {
	{ "info", info_get, METH_NOARGS,
	  "info($module, /)\n--\n\n"
	  "(backend, fill_engine, page_size, regions, region_bytes, blocks, block_bytes)" },
	{ "probe", info_probe, METH_NOARGS,
	  "probe($module, /)\n--\n\n"
	  "[(backend, errno or 0, why not)], best backend first." },
	{ NULL, NULL, 0, NULL },
};
