// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* info(): what the library says of itself. */
#include "shmdevmodule.h"

static PyStructSequence_Field info_fields[] = {
	{ "backend", "where the next region comes from: device, hugetlb, thp or memfd" },
	{ "fill_engine", "how fill() reads: fixed or ring (io_uring), or preadv" },
	{ "page_size", "bytes in a page of such a region" },
	{ "regions", "regions mapped now" },
	{ "region_bytes", "their total size" },
	{ "blocks", "live blocks: arrays and values" },
	{ "block_bytes", "their total size" },
	{ "unavailable", "dict: why each better backend is not in use, best first" },
	{ NULL, NULL },
};

PyStructSequence_Desc info_desc = {
	.name = "shmdev.Info",
	.doc = "What info() found.\n\n"
	       "backend says where the next region comes from (device, hugetlb, thp or memfd),\n"
	       "page_size how many bytes its pages have and fill_engine how fill() reads into it\n"
	       "(fixed or ring: io_uring; preadv).  regions of region_bytes are mapped now, and\n"
	       "blocks of block_bytes, which are arrays and values, live in them.  unavailable is\n"
	       "a dict of why each better backend is not in use, best first.",
	.fields = info_fields,
	.n_in_sequence = sizeof(info_fields) / sizeof(info_fields[0]) - 1,
};

static int probe(int backend, char *reason, size_t size)
{
	int err;

	Py_BEGIN_ALLOW_THREADS
	reason[0] = '\0';
	err = shmdev_backend_probe(backend, reason, size);
	Py_END_ALLOW_THREADS
	return err;
}

/* {backend: reason} of all that are better than @used. */
static PyObject *info_unavailable(int used)
{
	PyObject *reasons = PyDict_New();
	char reason[256];

	for (int backend = 0; reasons && backend < used; backend++) {
		PyObject *text;

		probe(backend, reason, sizeof(reason));
		text = PyUnicode_FromString(reason);
		if (!text || PyDict_SetItemString(reasons, shmdev_backend_name(backend), text) < 0)
			Py_CLEAR(reasons);
		Py_XDECREF(text);
	}
	return reasons;
}

static PyObject *info_get(PyObject *module, PyObject *Py_UNUSED(ignored))
{
	struct shmdev_info info;
	PyObject *result;
	int err;

	Py_BEGIN_ALLOW_THREADS
	err = shmdev_info_get(&info);
	Py_END_ALLOW_THREADS
	if (err)
		return error_set_backend("shmdev_info_get", 0, -err);

	result = PyStructSequence_New(module_state(module)->info_type);
	if (!result)
		return NULL;
	PyObject *const values[] = {
		PyUnicode_FromString(shmdev_backend_name(info.backend)),
		PyUnicode_FromString(shmdev_fill_engine_name(info.fill_engine)),
		PyLong_FromUnsignedLongLong(info.page_size),
		PyLong_FromUnsignedLongLong(info.regions),
		PyLong_FromUnsignedLongLong(info.region_bytes),
		PyLong_FromUnsignedLongLong(info.blocks),
		PyLong_FromUnsignedLongLong(info.block_bytes),
		info_unavailable(info.backend),
	};
	for (size_t i = 0; i < Py_ARRAY_LENGTH(values); i++)
		PyStructSequence_SetItem(result, i, values[i]);
	if (PyErr_Occurred())
		Py_CLEAR(result);
	return result;
}

static PyObject *info_probe(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
	PyObject *list = PyList_New(0);
	char reason[256];

	for (int backend = 0; list && backend < SHMDEV_BACKEND_NR; backend++) {
		int err = probe(backend, reason, sizeof(reason));
		PyObject *entry = Py_BuildValue("(sis)", shmdev_backend_name(backend), -err,
						reason);

		if (!entry || PyList_Append(list, entry) < 0)
			Py_CLEAR(list);
		Py_XDECREF(entry);
	}
	return list;
}

PyDoc_STRVAR(info_doc,
"info()\n--\n\n"
"Tell what memory this process gets, and why none better.\n"
"\n"
"The result has the fields backend, fill_engine, page_size, regions, region_bytes,\n"
"blocks, block_bytes and unavailable; see Info.\n"
"\n"
"Makes no region.  Raises OSError where no backend can serve, with its errno.  Any\n"
"thread may call this; after a fork the child counts what it inherited.\n"
"\n"
"New in version 0.1.");

PyMethodDef info_methods[] = {
	{ "info", info_get, METH_NOARGS, info_doc },
	{ "probe", info_probe, METH_NOARGS,
	  "probe($module, /)\n--\n\n"
	  "[(backend, errno or 0, why not)], best backend first." },
	{ NULL, NULL, 0, NULL },
};
