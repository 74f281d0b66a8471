// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * A buffer of numbers as a DLPack tensor, old style and new (DLPack 1.0).  The tensor
 * holds the buffer; whoever consumes it calls its deleter, from any thread, and has
 * renamed the capsule; of a capsule that nobody consumed the destructor does it.
 */
#include "shmdevmodule.h"

/* The layout is DLPack's, fixed for good. */
struct dl_tensor {
	void *data;
	int32_t device_type, device_id;
	int32_t ndim;
	uint8_t code, bits;
	uint16_t lanes;
	int64_t *shape, *strides;
	uint64_t byte_offset;
};

struct dl_managed {
	struct dl_tensor tensor;
	void *manager;
	void (*deleter)(struct dl_managed *managed);
};

struct dl_versioned {
	uint32_t major, minor;
	void *manager;
	void (*deleter)(struct dl_versioned *versioned);
	uint64_t flags;
	struct dl_tensor tensor;
};

#define DL_CPU			1
#define DL_INT			0
#define DL_UINT			1
#define DL_FLOAT		2
#define DL_BOOL			6
#define DL_READ_ONLY		(1U << 0)
#define DL_COPIED		(1U << 1)

#define DL_NAME			"dltensor"
#define DL_VERSIONED_NAME	"dltensor_versioned"

struct tensor {
	union {
		struct dl_managed managed;
		struct dl_versioned versioned;
	};
	Py_buffer view;
	int64_t sizes[];	/* the shape, the strides */
};

static void tensor_free(struct tensor *tensor)
{
	PyBuffer_Release(&tensor->view);
	PyMem_Free(tensor);
}

/* From any thread.  After the interpreter's end there is nothing left to release. */
static void tensor_delete(struct tensor *tensor)
{
	PyGILState_STATE state;

	if (!Py_IsInitialized())
		return;
	state = PyGILState_Ensure();
	tensor_free(tensor);
	PyGILState_Release(state);
}

static void managed_delete(struct dl_managed *managed)
{
	tensor_delete(managed->manager);
}

static void versioned_delete(struct dl_versioned *versioned)
{
	tensor_delete(versioned->manager);
}

static void capsule_destroy(PyObject *capsule)
{
	if (PyCapsule_IsValid(capsule, DL_NAME) || PyCapsule_IsValid(capsule, DL_VERSIONED_NAME))
		tensor_free(PyCapsule_GetPointer(capsule, PyCapsule_GetName(capsule)));
}

static int tensor_describe(struct tensor *tensor, struct dl_tensor *dl)
{
	const Py_buffer *view = &tensor->view;
	struct format format = format_parse(view->format, view->itemsize);
	Py_ssize_t stride = 1;

	if (format.number == NUMBER_UNKNOWN || format.number == NUMBER_CHAR ||
	    format.number == NUMBER_LONG_DOUBLE || format.swapped) {
		PyErr_Format(PyExc_BufferError, "DLPack has no type for items of format '%.100s'",
			     view->format ? view->format : "B");
		return -1;
	}
	if (number_is_integer(format.number))
		dl->code = number_is_signed(format.number) ? DL_INT : DL_UINT;
	else
		dl->code = format.number == NUMBER_BOOL ? DL_BOOL : DL_FLOAT;
	dl->bits = 8 * view->itemsize;
	dl->lanes = 1;
	dl->data = view->buf;
	dl->device_type = DL_CPU;
	dl->ndim = view->ndim;
	dl->shape = tensor->sizes;
	dl->strides = tensor->sizes + view->ndim;
	for (int d = view->ndim - 1; d >= 0; d--) {
		dl->shape[d] = view->shape[d];
		dl->strides[d] = stride;
		stride *= view->shape[d];
	}
	return 0;
}

static PyObject *dlpack(PyObject *Py_UNUSED(module), PyObject *args)
{
	int versioned, copied, err;
	struct tensor *tensor;
	PyObject *object, *capsule;
	Py_buffer view;

	if (!PyArg_ParseTuple(args, "Opp:dlpack", &object, &versioned, &copied))
		return NULL;
	if (PyObject_GetBuffer(object, &view, PyBUF_FORMAT | PyBUF_C_CONTIGUOUS) < 0)
		return NULL;
	tensor = PyMem_Calloc(1, sizeof(*tensor) + 2 * view.ndim * sizeof(int64_t));
	if (!tensor) {
		PyBuffer_Release(&view);
		return PyErr_NoMemory();
	}
	tensor->view = view;
	if (versioned) {
		tensor->versioned.major = 1;
		tensor->versioned.manager = tensor;
		tensor->versioned.deleter = versioned_delete;
		tensor->versioned.flags = (view.readonly ? DL_READ_ONLY : 0) |
					  (copied ? DL_COPIED : 0);
		err = tensor_describe(tensor, &tensor->versioned.tensor);
	} else {
		tensor->managed.manager = tensor;
		tensor->managed.deleter = managed_delete;
		err = tensor_describe(tensor, &tensor->managed.tensor);
	}
	if (err < 0)
		goto free_tensor;
	capsule = PyCapsule_New(tensor, versioned ? DL_VERSIONED_NAME : DL_NAME,
				capsule_destroy);
	if (!capsule)
		goto free_tensor;
	return capsule;

free_tensor:
	tensor_free(tensor);
	return NULL;
}

PyMethodDef dlpack_methods[] = {
	{ "dlpack", dlpack, METH_VARARGS,
	  "dlpack($module, buffer, versioned, copied, /)\n--\n\n"
	  "The capsule of a DLPack tensor over a contiguous buffer." },
	{ NULL, NULL, 0, NULL },
};
