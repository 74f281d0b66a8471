// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* RawArray. */
#include "shmdevmodule.h"

/* What shmdev._classes.entry() says of the class of an array. */
struct array_class {
	PyObject *type;		/* a reference of the user's own */
	Py_ssize_t size;
	enum number number;	/* of its items, if they may be stored without asking it */
	bool swapped;
};

/* Unpack (class or weak reference to it, size, number, swapped). */
static int class_unpack(PyObject *entry, struct array_class *class)
{
	PyObject *type = PyTuple_GET_ITEM(entry, 0);

	if (PyWeakref_CheckRef(type)) {
		int alive = PyWeakref_GetRef(type, &class->type);

		if (alive <= 0)
			return alive;
	} else {
		class->type = Py_NewRef(type);
	}
	class->size = PyLong_AsSsize_t(PyTuple_GET_ITEM(entry, 1));
	class->number = PyLong_AsLong(PyTuple_GET_ITEM(entry, 2));
	class->swapped = PyTuple_GET_ITEM(entry, 3) == Py_True;
	return 1;
}

static struct recent_class *recent_slot(struct module_state *state, const PyObject *ctype,
					Py_ssize_t n)
{
	size_t hash = (uintptr_t)ctype / 16 + n * 0x9E3779B97F4A7C15u;

	return &state->recent[(hash ^ hash >> 32) % RECENT_CLASSES];
}

/* A class that was asked for lately: 1 and a reference, 0, or -1 with an exception. */
static int recent_find(struct module_state *state, const PyObject *ctype, Py_ssize_t n,
		       struct array_class *class)
{
	struct recent_class *recent = recent_slot(state, ctype, n);
	PyObject *ref = NULL;
	int alive;

	gil_lock_acquire(&state->recent_lock);
	if (recent->ref && recent->ctype == ctype && recent->length == n) {
		ref = Py_NewRef(recent->ref);
		class->size = recent->size;
		class->number = recent->number;
		class->swapped = recent->swapped;
	}
	gil_lock_release(&state->recent_lock);
	if (!ref)
		return 0;
	alive = PyWeakref_GetRef(ref, &class->type);
	Py_DECREF(ref);
	return alive;
}

/* 0, or -1 with an exception. */
static int recent_put(struct module_state *state, const PyObject *ctype, Py_ssize_t n,
		      const struct array_class *class)
{
	struct recent_class *recent = recent_slot(state, ctype, n);
	PyObject *ref = PyWeakref_NewRef(class->type, NULL), *old;

	if (!ref)
		return -1;
	gil_lock_acquire(&state->recent_lock);
	old = recent->ref;
	*recent = (struct recent_class){
		.ctype = ctype,
		.length = n,
		.ref = ref,
		.size = class->size,
		.number = class->number,
		.swapped = class->swapped,
	};
	gil_lock_release(&state->recent_lock);
	Py_XDECREF(old);
	return 0;
}

/*
 * The class of arrays of @n items of @ctype.  A recent one that is alive is the right
 * one, as the class keeps its ctype.
 */
static int class_get(struct module_state *state, PyObject *ctype, Py_ssize_t n,
		     struct array_class *class)
{
	int known = recent_find(state, ctype, n, class);
	PyObject *length, *key = NULL, *entry;

	if (known)
		return known < 0 ? -1 : 0;
	length = PyLong_FromSsize_t(n);
	if (length)
		key = PyTuple_Pack(2, ctype, length);
	Py_XDECREF(length);
	if (!key)
		return -1;
	known = PyDict_GetItemRef(state->classes, key, &entry);
	if (known > 0) {
		known = class_unpack(entry, class);
		Py_DECREF(entry);
	}
	if (!known) {
		entry = PyObject_Call(state->class_entry, key, NULL);
		known = entry ? class_unpack(entry, class) : -1;
		Py_XDECREF(entry);
	}
	Py_DECREF(key);
	if (known < 0)
		return -1;
	if (recent_put(state, ctype, n, class) < 0) {
		Py_DECREF(class->type);
		return -1;
	}
	return 0;
}

/* Where ctypes objects have what they keep, by the member that shows it; 0: unknown. */
static Py_ssize_t objects_offset(PyObject *array)
{
	PyObject *member = PyObject_GetAttrString(array, "_objects");
	Py_ssize_t offset = 0;

	if (!member) {
		PyErr_Clear();
		return 0;
	}
	if (Py_TYPE(member) == &PyMemberDescr_Type) {
		const PyMemberDef *def = ((PyMemberDescrObject *)member)->d_member;

		if (def->type == T_OBJECT && !(def->flags & Py_RELATIVE_OFFSET))
			offset = def->offset;
	}
	Py_DECREF(member);
	return offset;
}

int array_learn(struct module_state *state)
{
	PyObject *array = (PyObject *)state->array_type;

	state->array_objects = objects_offset(array);
	state->array_from_address = PyObject_GetAttrString((PyObject *)Py_TYPE(array),
							   "from_address");
	/* What ctypes' own from_buffer() keeps its buffer by. */
	state->key_of_memory = PyUnicode_InternFromString("ffffffff");
	return state->array_from_address && state->key_of_memory ? 0 : -1;
}

/* Let @array, which is new, keep @block.  Its memory is the block's already. */
static int array_keep(struct module_state *state, PyObject *array, struct block *block)
{
	PyObject **kept = (PyObject **)((char *)array + state->array_objects);
	PyObject *objects = PyDict_New();

	if (!objects || PyDict_SetItem(objects, state->key_of_memory, (PyObject *)block) < 0) {
		Py_XDECREF(objects);
		return -1;
	}
	Py_XSETREF(*kept, objects);
	return 0;
}

/* The array over @block, which keeps it from then on. */
static PyObject *array_over(struct module_state *state, const struct array_class *class,
			    struct block *block)
{
	PyObject *args[2], *array;

	if (!state->array_objects)
		return PyObject_CallMethodOneArg(class->type, state->name_from_buffer,
						 (PyObject *)block);
	args[0] = class->type;
	args[1] = PyLong_FromVoidPtr(block->bytes);
	if (!args[1])
		return NULL;
	array = PyObject_Vectorcall(state->array_from_address, args, 2, NULL);
	Py_DECREF(args[1]);
	if (array && array_keep(state, array, block) < 0)
		Py_CLEAR(array);
	return array;
}

/* An array of zeros. */
static PyObject *array_new(struct module_state *state, const struct array_class *class)
{
	struct block *block = block_new(state, class->size, 0);
	PyObject *array;

	if (!block)
		return NULL;
	array = array_over(state, class, block);
	Py_DECREF(block);
	return array;
}

/* An array of the numbers of @source, which fill all of it. */
static PyObject *array_from_source(struct module_state *state, const struct array_class *class,
				   const struct source *source, Py_ssize_t n)
{
	/* Every byte is about to be written: it need not be zero before. */
	struct block *block = block_new(state, class->size, SHMDEV_BLOCK_NOZERO);
	PyObject *array = NULL;
	struct column to;

	if (!block)
		return NULL;
	to = (struct column){
		.first = block->bytes,
		.stride = number_size(class->number),
		.format = { class->number, class->swapped },
	};
	/* Nobody sees the array before its numbers are there. */
	if (source_store(source, &to, n) >= 0)
		array = array_over(state, class, block);
	Py_DECREF(block);
	return array;
}

/* As ctypes fills an array: its constructor with the items as arguments. */
static int array_init(PyObject *array, PyObject *iterable)
{
	PyObject *items = PySequence_Tuple(iterable);
	int err;

	if (!items)
		return -1;
	err = Py_TYPE(array)->tp_init(array, items, NULL);
	Py_DECREF(items);
	return err;
}

static int array_fill(struct module_state *state, const struct array_class *class,
		      PyObject *array, PyObject *iterable)
{
	struct items_target target = { .state = state, .array = array, .step = 1 };

	if (!fast_is_plain(state, Py_TYPE(array)))
		return array_init(array, iterable);
	if (array_column(array, &target.column, &target.n) < 0)
		return -1;
	/* The format does not tell: that of a union is "B", whatever is in it. */
	target.column.format.number = class->number;
	return items_store_iterable(&target, iterable);
}

static PyObject *array_from_data(struct module_state *state, const struct array_class *class,
				 PyObject *data, Py_ssize_t n)
{
	struct source source;
	PyObject *array;
	int opened = 0;

	if (class->number != NUMBER_UNKNOWN)
		opened = source_open(state, data, n, class->number, &source);
	if (opened < 0)
		return NULL;
	if (opened) {
		array = array_from_source(state, class, &source, n);
		source_close(&source);
		return array;
	}
	array = array_new(state, class);
	if (array && array_fill(state, class, array, data) < 0)
		Py_CLEAR(array);
	return array;
}

static PyObject *array_make(struct module_state *state, PyObject *ctype, PyObject *data)
{
	/* True is 1; a subclass of int may have an __index__ of its own: it is not asked. */
	bool is_length = PyLong_Check(data);
	Py_ssize_t n = is_length ? PyLong_AsSsize_t(data) : PyObject_Size(data);
	struct array_class class;
	PyObject *array;

	if (n == -1 && PyErr_Occurred())
		return NULL;
	if (class_get(state, ctype, n, &class) < 0)
		return NULL;
	if (is_length)
		array = array_new(state, &class);
	else
		array = array_from_data(state, &class, data, n);
	Py_DECREF(class.type);
	return array;
}

static int rawarray_parse(PyObject *const *args, Py_ssize_t nargs, PyObject *names,
			  PyObject *parsed[2])
{
	static const char *const parameters[] = { "typecode_or_type", "size_or_initializer" };
	Py_ssize_t given = nargs + (names ? PyTuple_GET_SIZE(names) : 0);

	if (given != 2) {
		PyErr_Format(PyExc_TypeError, "RawArray() takes 2 arguments (%zd given)", given);
		return -1;
	}
	parsed[0] = nargs > 0 ? args[0] : NULL;
	parsed[1] = nargs > 1 ? args[1] : NULL;
	for (Py_ssize_t i = nargs; i < given; i++) {
		PyObject *name = PyTuple_GET_ITEM(names, i - nargs);
		int p = PyUnicode_CompareWithASCIIString(name, parameters[0]) ? 1 : 0;

		if (p && PyUnicode_CompareWithASCIIString(name, parameters[1])) {
			PyErr_Format(PyExc_TypeError,
				     "RawArray() got an unexpected keyword argument '%U'", name);
			return -1;
		}
		if (parsed[p]) {
			PyErr_Format(PyExc_TypeError,
				     "RawArray() got multiple values for argument '%U'", name);
			return -1;
		}
		parsed[p] = args[i];
	}
	return 0;
}

static PyObject *rawarray(PyObject *module, PyObject *const *args, Py_ssize_t nargs,
			  PyObject *names)
{
	struct module_state *state = module_state(module);
	PyObject *parsed[2], *ctype, *array;

	if (rawarray_parse(args, nargs, names, parsed) < 0)
		return NULL;
	if (!state->class_entry) {
		PyErr_SetString(PyExc_RuntimeError, "shmdev._classes has not been imported");
		return NULL;
	}
	switch (PyDict_GetItemRef(state->typecodes, parsed[0], &ctype)) {
	case 0:
		ctype = Py_NewRef(parsed[0]);
		break;
	case -1:
		return NULL;
	}
	array = array_make(state, ctype, parsed[1]);
	Py_DECREF(ctype);
	return array;
}

static PyObject *classes_from(PyObject *module, PyObject *args)
{
	struct module_state *state = module_state(module);
	PyObject *typecodes, *entries, *entry;

	if (!PyArg_ParseTuple(args, "O!O!O:classes_from", &PyDict_Type, &typecodes, &PyDict_Type,
			      &entries, &entry))
		return NULL;
	Py_XSETREF(state->typecodes, Py_NewRef(typecodes));
	Py_XSETREF(state->classes, Py_NewRef(entries));
	Py_XSETREF(state->class_entry, Py_NewRef(entry));
	Py_RETURN_NONE;
}

static PyObject *format_number(PyObject *Py_UNUSED(module), PyObject *args)
{
	struct format found;
	const char *format;
	Py_ssize_t itemsize;

	if (!PyArg_ParseTuple(args, "sn:format_number", &format, &itemsize))
		return NULL;
	found = format_parse(format, itemsize);
	return Py_BuildValue("(iO)", found.number, found.swapped ? Py_True : Py_False);
}

static PyObject *kernels(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
	PyObject *names = PyList_New(0);
	const char *name = NULL;

	while (names && (name = convert_kernels_next(name))) {
		PyObject *entry = PyUnicode_FromString(name);

		if (!entry || PyList_Append(names, entry) < 0)
			Py_CLEAR(names);
		Py_XDECREF(entry);
	}
	return names;
}

static PyObject *kernels_use(PyObject *Py_UNUSED(module), PyObject *arg)
{
	const char *name = PyUnicode_AsUTF8(arg);

	if (!name)
		return NULL;
	if (convert_kernels_use(name) < 0)
		return PyErr_Format(PyExc_ValueError, "no kernels '%s' for this machine", name);
	Py_RETURN_NONE;
}

PyDoc_STRVAR(rawarray_doc,
"RawArray(typecode_or_type, size_or_initializer)\n--\n\n"
"A ctypes array in shared memory, without a lock.\n"
"\n"
"typecode_or_type is a typecode of multiprocessing (one of c u b B h H i I l L q Q\n"
"f d) or any ctypes type.  size_or_initializer is an int, the length of an array of\n"
"zeros, or an iterable that has a length: the items.\n"
"\n"
"The array is an instance of a subclass of typecode_or_type * length and behaves as\n"
"one; only type(a) is another class.  Items are converted as ctypes converts them:\n"
"integers wrap, a float does not become an integer.  Where the initializer is a\n"
"one-dimensional buffer of numbers (numpy array, array.array, bytes, memoryview,\n"
"another ctypes array), all is converted at once; so does a[i:j:k] = buffer.\n"
"\n"
"The array can be an argument of a multiprocessing.Process under every start method;\n"
"child and parent then see each other's writes, as they do after os.fork().  The\n"
"memory lives as long as the array or a view of it does, in any process.\n"
"\n"
"Raises TypeError (unknown type, an initializer without length, an item that cannot\n"
"be converted), ValueError (negative length), OverflowError (length beyond an address\n"
"space), MemoryError, and OSError where no backend can serve, with its errno.\n"
"\n"
"Any thread may call this.  Assigning to one array from several threads is as safe\n"
"as with ctypes: items are not torn, but large assignments let other threads run in\n"
"between.\n"
"\n"
"New in version 0.1.");

PyMethodDef array_methods[] = {
	{ "RawArray", (PyCFunction)(void (*)(void))rawarray, METH_FASTCALL | METH_KEYWORDS,
	  rawarray_doc },
	{ "classes_from", classes_from, METH_VARARGS,
	  "classes_from($module, typecodes, entries, entry, /)\n--\n\n"
	  "Tell RawArray() where its classes come from; see shmdev._classes." },
	{ "format_number", format_number, METH_VARARGS,
	  "format_number($module, format, itemsize, /)\n--\n\n"
	  "(number, swapped) of a PEP 3118 format; NUMBER_UNKNOWN if it is not one number." },
	{ "kernels", kernels, METH_NOARGS,
	  "kernels($module, /)\n--\n\n"
	  "Names of the sets of conversion kernels this machine can run, best first." },
	{ "kernels_use", kernels_use, METH_O,
	  "kernels_use($module, name, /)\n--\n\n"
	  "Use a set other than the best, in all of the process; for tests." },
	{ NULL, NULL, 0, NULL },
};
