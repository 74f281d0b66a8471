// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* The module itself: what it holds, how it starts and ends. */
#include "shmdevmodule.h"

/* Find out what a class that defines these in Python has in its slots. */
static int module_learn_slots(struct module_state *state)
{
	PyObject *probe = PyObject_CallFunction((PyObject *)&PyType_Type, "s(){sOsO}", "probe",
						"__getitem__", Py_None, "__iter__", Py_None);

	if (!probe)
		return -1;
	state->python_subscript = ((PyTypeObject *)probe)->tp_as_mapping->mp_subscript;
	state->python_iter = ((PyTypeObject *)probe)->tp_iter;
	Py_DECREF(probe);
	return 0;
}

static int module_learn_ctypes(struct module_state *state)
{
	PyObject *ctypes = PyImport_ImportModule("ctypes");
	PyTypeObject *array;

	if (!ctypes)
		return -1;
	array = (PyTypeObject *)PyObject_GetAttrString(ctypes, "Array");
	Py_DECREF(ctypes);
	if (!array)
		return -1;
	state->array_type = array;
	if (!PyType_Check(array) || !array->tp_as_mapping || !array->tp_as_sequence) {
		PyErr_SetString(PyExc_ImportError, "ctypes.Array is not the class it should be");
		return -1;
	}
	state->array_ass_subscript = array->tp_as_mapping->mp_ass_subscript;
	state->array_ass_item = array->tp_as_sequence->sq_ass_item;
	state->array_init = array->tp_init;
	fast_learn(array);
	return array_learn(state);
}

static int module_add_type(PyObject *module, PyType_Spec *spec, PyTypeObject **type)
{
	*type = (PyTypeObject *)PyType_FromModuleAndSpec(module, spec, NULL);
	if (!*type)
		return -1;
#if PY_VERSION_HEX < 0x030A0000
	if (!(spec->flags & Py_TPFLAGS_BASETYPE))
		(*type)->tp_new = NULL;
#endif
	return PyModule_AddType(module, *type);
}

static int module_exec(PyObject *module)
{
	static PyMethodDef *const methods[] = {
		array_methods, block_methods, region_methods,
		fill_methods, info_methods, ready_methods, dlpack_methods, send_methods, lock_methods,
		holds_methods,
	};
	struct module_state *state = module_state(module);

	holds_init(&state->holds);
	state->regions = PyDict_New();
	state->name_from_buffer = PyUnicode_InternFromString("from_buffer");
	if (!state->regions || !state->name_from_buffer || module_learn_ctypes(state) < 0 ||
	    module_learn_slots(state) < 0 ||
	    module_add_type(module, &block_spec, &state->block_type) < 0 ||
	    module_add_type(module, &region_spec, &state->region_type) < 0 ||
	    module_add_type(module, &fast_spec, &state->fast_type) < 0 ||
	    module_add_type(module, &lock_spec, &state->lock_type) < 0)
		return -1;
	state->info_type = PyStructSequence_NewType(&info_desc);
	if (!state->info_type || PyModule_AddType(module, state->info_type) < 0)
		return -1;
	for (size_t i = 0; i < Py_ARRAY_LENGTH(methods); i++)
		if (PyModule_AddFunctions(module, methods[i]) < 0)
			return -1;
	if (PyModule_AddIntConstant(module, "NUMBER_UNKNOWN", NUMBER_UNKNOWN) < 0)
		return -1;
	return PyModule_AddStringConstant(module, "__version__", SHMDEV_VERSION);
}

static int module_traverse(PyObject *module, visitproc visit, void *arg)
{
	struct module_state *state = module_state(module);

	Py_VISIT(state->block_type);
	Py_VISIT(state->region_type);
	Py_VISIT(state->fast_type);
	Py_VISIT(state->lock_type);
	Py_VISIT(state->info_type);
	Py_VISIT(state->array_type);
	Py_VISIT(state->regions);
	Py_VISIT(state->classes);
	Py_VISIT(state->class_entry);
	Py_VISIT(state->typecodes);
	Py_VISIT(state->array_from_address);
	for (size_t i = 0; i < RECENT_CLASSES; i++)
		Py_VISIT(state->recent[i].ref);
	return 0;
}

static int module_clear(PyObject *module)
{
	struct module_state *state = module_state(module);

	holds_clear(&state->holds);
	Py_CLEAR(state->block_type);
	Py_CLEAR(state->region_type);
	Py_CLEAR(state->fast_type);
	Py_CLEAR(state->lock_type);
	Py_CLEAR(state->info_type);
	Py_CLEAR(state->array_type);
	Py_CLEAR(state->regions);
	Py_CLEAR(state->classes);
	Py_CLEAR(state->class_entry);
	Py_CLEAR(state->typecodes);
	Py_CLEAR(state->array_from_address);
	for (size_t i = 0; i < RECENT_CLASSES; i++)
		Py_CLEAR(state->recent[i].ref);
	Py_CLEAR(state->name_from_buffer);
	Py_CLEAR(state->key_of_memory);
	return 0;
}

static void module_free(void *module)
{
	module_clear(module);
}

static PyModuleDef_Slot module_slots[] = {
	{ Py_mod_exec, module_exec },
#if PY_VERSION_HEX >= 0x030D0000
	/* From 3.13 on ctypes itself allows an interpreter with a GIL of its own. */
	{ Py_mod_multiple_interpreters, Py_MOD_PER_INTERPRETER_GIL_SUPPORTED },
	{ Py_mod_gil, Py_MOD_GIL_NOT_USED },
#elif PY_VERSION_HEX >= 0x030C0000
	{ Py_mod_multiple_interpreters, Py_MOD_MULTIPLE_INTERPRETERS_SUPPORTED },
#endif
	{ 0, NULL },
};

PyModuleDef shmdev_module = {
	PyModuleDef_HEAD_INIT,
	.m_name = "shmdev._shmdev",
	.m_doc = "The part of shmdev that is written in C; private to the package.",
	.m_size = sizeof(struct module_state),
	.m_slots = module_slots,
	.m_traverse = module_traverse,
	.m_clear = module_clear,
	.m_free = module_free,
};

PyMODINIT_FUNC PyInit__shmdev(void)
{
	return PyModuleDef_Init(&shmdev_module);
}
