// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * A block of shm_alloc() as a Python object.  Whoever uses the memory holds a
 * buffer of this object; the last one to let go frees the block.
 */
#include "shmdevmodule.h"

#include <errno.h>

struct block *block_new(struct module_state *state, Py_ssize_t size, unsigned int flags)
{
	struct block *block = PyObject_New(struct block, state->block_type);
	/* Arrays of length 0 are arrays too: they have an address and can be sent. */
	size_t bytes = size ? size : 1;

	if (!block)
		return NULL;
	block->size = size;
	if (size < GIL_WORTHWHILE) {
		block->bytes = shmdev_block_alloc(bytes, flags);
	} else {
		Py_BEGIN_ALLOW_THREADS
		block->bytes = shmdev_block_alloc(bytes, flags);
		Py_END_ALLOW_THREADS
	}
	if (!block->bytes) {
		error_set_backend("shm_alloc", bytes, errno);
		Py_DECREF(block);
		return NULL;
	}
	return block;
}

static void block_dealloc(PyObject *self)
{
	struct block *block = (struct block *)self;
	PyTypeObject *type = Py_TYPE(self);

	if (block->size < GIL_WORTHWHILE || !block->bytes) {
		shm_free(block->bytes);
	} else {
		Py_BEGIN_ALLOW_THREADS
		shm_free(block->bytes);
		Py_END_ALLOW_THREADS
	}
	PyObject_Free(self);
	Py_DECREF(type);
}

static int block_getbuffer(PyObject *self, Py_buffer *view, int flags)
{
	struct block *block = (struct block *)self;

	return PyBuffer_FillInfo(view, self, block->bytes, block->size, 0, flags);
}

static PyType_Slot block_slots[] = {
	{ Py_tp_doc, "A block of shared memory; freed with its last buffer." },
	{ Py_tp_dealloc, block_dealloc },
	{ Py_bf_getbuffer, block_getbuffer },
	{ 0, NULL },
};

PyType_Spec block_spec = {
	.name = "shmdev._shmdev.Block",
	.basicsize = sizeof(struct block),
	.flags = Py_TPFLAGS_DEFAULT | SHMDEV_TPFLAGS_INTERNAL,
	.slots = block_slots,
};

static PyObject *block_make(PyObject *module, PyObject *args)
{
	Py_ssize_t size;
	int zeroed = 1;

	if (!PyArg_ParseTuple(args, "n|p:block", &size, &zeroed))
		return NULL;
	if (size < 0) {
		PyErr_SetString(PyExc_ValueError, "size must not be negative");
		return NULL;
	}
	return (PyObject *)block_new(module_state(module), size,
				     zeroed ? 0 : SHMDEV_BLOCK_NOZERO);
}

PyMethodDef block_methods[] = {
	{ "block", block_make, METH_VARARGS,
	  "block($module, size, zeroed=True, /)\n--\n\n"
	  "A Block of size bytes, zeroed or with what this process wrote earlier." },
	{ NULL, NULL, 0, NULL },
};
