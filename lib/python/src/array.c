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

/* The class of arrays of @length items of @ctype. */
static int class_get(struct module_state *state, PyObject *ctype, PyObject *length,
		     struct array_class *class)
{
	PyObject *key, *entry;
	int known;

	key = PyTuple_Pack(2, ctype, length);
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
	return known < 0 ? -1 : 0;
}

/* The array over @block, which keeps it from then on. */
static PyObject *array_over(struct module_state *state, const struct array_class *class,
			    struct block *block)
{
	return PyObject_CallMethodOneArg(class->type, state->name_from_buffer,
					 (PyObject *)block);
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
	if (source_store(source, &to, n) == 0)
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
	struct array_class class;
	PyObject *length, *array;
	Py_ssize_t n;

	if (PyLong_CheckExact(data)) {
		if (class_get(state, ctype, data, &class) < 0)
			return NULL;
		array = array_new(state, &class);
		Py_DECREF(class.type);
		return array;
	}

	/* True is 1; a subclass of int may have an __eq__ or __hash__ of its own. */
	n = PyLong_Check(data) ? PyLong_AsSsize_t(data) : PyObject_Size(data);
	if (n == -1 && PyErr_Occurred())
		return NULL;
	length = PyLong_FromSsize_t(n);
	if (!length)
		return NULL;
	if (PyLong_Check(data)) {
		array = array_make(state, ctype, length);
	} else if (class_get(state, ctype, length, &class) < 0) {
		array = NULL;
	} else {
		array = array_from_data(state, &class, data, n);
		Py_DECREF(class.type);
	}
	Py_DECREF(length);
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
