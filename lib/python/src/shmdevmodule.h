/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/*
 * The extension module shmdev._shmdev, seen from the inside.  It does what has to
 * be fast or has to call the library; what is done once a class or once a pickle
 * is Python, in the package beside it.
 */
#ifndef SHMDEV_PYTHON_MODULE_H
#define SHMDEV_PYTHON_MODULE_H

#include "compat.h"
#include "convert.h"

#include <shmdev.h>
#include <time.h>

/* A class that RawArray was asked for not long ago. */
struct recent_class {
	const PyObject *ctype;	/* only compared: it lives as long as the class does */
	Py_ssize_t length;
	PyObject *ref;		/* weak, without a callback; or NULL */
	Py_ssize_t size;
	enum number number;
	bool swapped;
};

#define RECENT_CLASSES	64

struct block;

/* Memory that is held for others to load it. */
struct hold {
	struct hold *next, *prev;
	PyObject *object;		/* its Region, which may be closed by now */
	struct shmdev_region *region;
	size_t size;
	long long deadline;
	uint64_t serial;
	int slot;			/* of the ledger; -1: a later one has it */
	bool sent;
};

/*
 * All that is held, the oldest first, and where receivers say that something has arrived.
 * No code of Python runs while it is being changed: neither a signal's handler nor a
 * finalizer, which may themselves send something, comes in between, and no exception.
 */
struct holds {
	gil_lock lock;
	struct hold list;		/* its ends */
	struct hold *first_slot;	/* the first that has a slot, and so do all that follow */
	size_t bytes;			/* in the regions of all of them */
	uint64_t serial;		/* of the last */
	struct block *block;		/* the ledger, or NULL */
	struct shmdev_handle handle;	/* of that */
	uint16_t *free;			/* slots of it that nothing has */
	unsigned int nr_free;
	uint32_t looked;		/* at so many entries */
	long long next_look;
	size_t enough;			/* to look before that */
};

/* All that one interpreter's instance of the module owns. */
struct module_state {
	PyTypeObject *block_type;
	PyTypeObject *region_type;
	PyTypeObject *fast_type;
	PyTypeObject *lock_type;
	PyTypeObject *info_type;

	/* ctypes.Array, and what its own slots do */
	PyTypeObject *array_type;
	objobjargproc array_ass_subscript;
	ssizeobjargproc array_ass_item;
	initproc array_init;

	/*
	 * How an array is laid over memory without the buffer and the text that
	 * from_buffer() makes for it: by from_address(), and with what it keeps in the
	 * place where ctypes has that.  0: not to be found in this Python.
	 */
	PyObject *array_from_address;
	Py_ssize_t array_objects;

	/* The slots of a class that defines __getitem__ or __iter__ in Python */
	binaryfunc python_subscript;
	getiterfunc python_iter;

	/*
	 * Address of a struct shmdev_region -> weak Region.  What looks an entry up and
	 * then changes it holds the lock; no Python code runs then, and no Region goes.
	 */
	PyObject *regions;
	gil_lock regions_lock;

	/* Of shmdev._classes, which hands them over when it is imported */
	PyObject *typecodes;
	PyObject *classes;
	PyObject *class_entry;
	struct recent_class recent[RECENT_CLASSES];
	gil_lock recent_lock;

	PyObject *name_from_buffer;
	PyObject *key_of_memory;

	struct holds holds;
};

extern PyModuleDef shmdev_module;

static inline struct module_state *module_state(PyObject *module)
{
	return PyModule_GetState(module);
}

/*
 * The state of the module that made @type or the nearest of its bases.  NULL with
 * an exception if there is none.
 */
static inline struct module_state *module_state_of(PyTypeObject *type)
{
	PyObject *module = PyType_GetModuleByDef(type, &shmdev_module);

	return module ? module_state(module) : NULL;
}

/*
 * Copies and allocations of this many bytes are worth letting other threads run.
 * Giving the GIL up may cost a wait of milliseconds to have it back.
 */
#define GIL_WORTHWHILE (1 << 20)

static inline long long monotonic_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000000LL + now.tv_nsec;
}

/* --- error.c --- */

/*
 * The one place where errnos become exceptions: MemoryError for ENOMEM, OSError
 * for all others; both name @call.  @err is positive.  Returns NULL.
 */
PyObject *error_set(const char *call, int err);

/*
 * The same for calls that need a backend for @size bytes (0 if for none): adds the size,
 * and why the backend is not to be had.
 */
PyObject *error_set_backend(const char *call, size_t size, int err);

/* --- block.c: memory of shm_alloc() that lives as long as its buffers --- */

struct block {
	PyObject_HEAD
	char *bytes;
	Py_ssize_t size;
};

extern PyType_Spec block_spec;

/* @flags are SHMDEV_BLOCK_*; @size may be 0. */
struct block *block_new(struct module_state *state, Py_ssize_t size, unsigned int flags);

extern PyMethodDef block_methods[];	/* of the module */

/* --- region.c: a file of shared memory, one object for each in a process --- */

extern PyType_Spec region_spec;
extern PyMethodDef region_methods[];	/* of the module */

/* The Region of @found; takes over the caller's reference to it, also on failure. */
PyObject *region_wrap(struct module_state *state, struct shmdev_region *found);

/* The library's region of @object, with a reference.  NULL with an exception if that is closed. */
struct shmdev_region *region_ref(PyObject *object);

/* How many holds there are of a Region; theirs to count. */
Py_ssize_t *region_holds(PyObject *object);

/* --- send.c: handles --- */

PyObject *handle_bytes(const struct shmdev_handle *handle);

/* For "O&": a handle from bytes of its size. */
int handle_convert(PyObject *object, void *to);

extern PyMethodDef send_methods[];	/* of the module */

/* --- holds.c: memory that is on its way --- */

extern PyMethodDef holds_methods[];	/* of the module */

void holds_init(struct holds *holds);
void holds_clear(struct holds *holds);

/* --- lock.c: recursive locks in shared memory --- */

extern PyType_Spec lock_spec;
extern PyMethodDef lock_methods[];	/* of the module */

/* --- info.c --- */

extern PyStructSequence_Desc info_desc;
extern PyMethodDef info_methods[];
extern PyMethodDef ready_methods[];

/* --- fill.c --- */

extern PyMethodDef fill_methods[];

/* --- fast.c: the base that makes slice assignment fast --- */

extern PyType_Spec fast_spec;

/* Learn the slots of ctypes.Array that elements are stored by. */
void fast_learn(const PyTypeObject *array);

/* Whether ctypes' or our own slot stores items of @type, and nobody else's. */
bool fast_is_plain(const struct module_state *state, const PyTypeObject *type);

/* --- source.c: buffers as sources --- */

struct source {
	Py_buffer view;
	struct column column;
};

/*
 * Open @object as @n numbers that can be stored as @to without looking at each: its
 * buffer holds numbers, and an item of it is to ctypes what the buffer says it is.
 * 1 and the caller closes it; 0 if it must be taken item by item; -1 with an
 * exception.
 */
int source_open(struct module_state *state, PyObject *object, Py_ssize_t n, enum number to,
		struct source *source);
void source_close(struct source *source);

/* Copy from @source to @to; gives up the GIL meanwhile if it pays. */
int source_store(const struct source *source, const struct column *to, Py_ssize_t n);

/* --- items.c: Python objects as sources --- */

/* Where items go: @n items of @array, from @first on, @step apart. */
struct items_target {
	struct module_state *state;
	PyObject *array;	/* a ctypes array */
	struct column column;	/* all of it; of unknown numbers if ctypes must do it */
	Py_ssize_t first, step, n;
};

/*
 * Point @column at the memory of @array, with unknown numbers if it is not an array
 * of plain numbers.  It stays there unless ctypes.resize() moves it.
 */
int array_column(PyObject *array, struct column *column, Py_ssize_t *n);

/*
 * Store the first @n items of the sequence as ctypes would, in order: what comes
 * before one that fails stays written.
 */
int items_store_sequence(struct items_target *target, PyObject *sequence, Py_ssize_t n);

/* Store all items of an iterable, as ctypes' constructor does with its arguments. */
int items_store_iterable(struct items_target *target, PyObject *iterable);

/* --- assign.c: numbers by numpy's rules --- */

/* assign() of FastArray: (source, casting=, overflow=). */
PyObject *array_assign(PyObject *self, PyObject *args, PyObject *names);

/* --- dlpack.c: arrays for other libraries of tensors --- */

extern PyMethodDef dlpack_methods[];	/* of the module */

/* --- array.c: RawArray --- */

/* Find out how arrays are laid over memory, for array_over(). */
int array_learn(struct module_state *state);

extern PyMethodDef array_methods[];

#endif /* SHMDEV_PYTHON_MODULE_H */
