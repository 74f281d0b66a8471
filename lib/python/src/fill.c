// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* shm_fill() and shm_drain() over buffers. */
#include "shmdevmodule.h"

#include <errno.h>
#include <limits.h>

/* How often somebody is told of progress, and the longest that a signal waits meanwhile. */
#define PROGRESS_MS	50

/* One array of them can be handed to either call. */
union request {
	struct shm_fill fill;
	struct shm_drain drain;
};

_Static_assert(sizeof(union request) == sizeof(struct shm_fill) &&
	       sizeof(union request) == sizeof(struct shm_drain), "requests of one size");

/* What was asked for, and what has come of it: bytes, or -errno. */
struct asked {
	Py_buffer view;
	int64_t offset;
	int fd;
	int64_t result;
};

struct transfer {
	bool drains;
	unsigned int flags;
	struct asked *asked;
	unsigned int nr;	/* of asked: their views are held */

	/* Those that are to be done yet, and which of asked they are. */
	union request *left;
	unsigned int *which;
	unsigned int nr_left;
};

static int transfer_init(struct transfer *transfer, Py_ssize_t nr)
{
	transfer->asked = PyMem_New(struct asked, nr);
	transfer->left = PyMem_New(union request, nr);
	transfer->which = PyMem_New(unsigned int, nr);
	if (transfer->asked && transfer->left && transfer->which)
		return 0;
	PyErr_NoMemory();
	return -1;
}

static void transfer_release(struct transfer *transfer)
{
	while (transfer->nr)
		PyBuffer_Release(&transfer->asked[--transfer->nr].view);
	PyMem_Free(transfer->asked);
	PyMem_Free(transfer->left);
	PyMem_Free(transfer->which);
}

static int offset_from(PyObject *object, int64_t *offset)
{
	PyObject *index = PyNumber_Index(object);

	if (!index)
		return -1;
	*offset = PyLong_AsLongLong(index);
	Py_DECREF(index);
	if (*offset == -1 && PyErr_Occurred())
		return -1;
	/* -1 must not turn into "where the descriptor stands". */
	if (*offset < 0) {
		PyErr_SetString(PyExc_ValueError, "offset must not be negative");
		return -1;
	}
	return 0;
}

/* Number @which of asked, or what is left of it, is to be done. */
static void transfer_queue(struct transfer *transfer, unsigned int which)
{
	const struct asked *asked = &transfer->asked[which];
	union request *req = &transfer->left[transfer->nr_left];
	char *memory = (char *)asked->view.buf + asked->result;
	size_t len = asked->view.len - asked->result;
	int64_t offset = asked->offset;

	if (offset != SHM_FILL_CURRENT)
		offset += asked->result;
	if (transfer->drains)
		req->drain = (struct shm_drain){ .src = memory, .len = len, .offset = offset,
						 .fd = asked->fd, .flags = transfer->flags };
	else
		req->fill = (struct shm_fill){ .dst = memory, .len = len, .offset = offset,
					       .fd = asked->fd, .flags = transfer->flags };
	transfer->which[transfer->nr_left++] = which;
}

/* The next of the requests, from (buffer, fd, offset or None). */
static int transfer_add(struct transfer *transfer, PyObject *request)
{
	struct asked *asked = &transfer->asked[transfer->nr];
	PyObject *buffer, *offset;

	if (!PyArg_ParseTuple(request, transfer->drains ? "OiO:drain" : "OiO:fill", &buffer,
			      &asked->fd, &offset))
		return -1;
	asked->result = 0;
	asked->offset = SHM_FILL_CURRENT;
	if (offset != Py_None && offset_from(offset, &asked->offset) < 0)
		return -1;
	if (PyObject_GetBuffer(buffer, &asked->view,
			       transfer->drains ? PyBUF_SIMPLE : PyBUF_WRITABLE) < 0)
		return -1;
	transfer_queue(transfer, transfer->nr++);
	return 0;
}

/* What came of those that were left.  What was interrupted is left again, in its order. */
static void transfer_collect(struct transfer *transfer)
{
	unsigned int nr = transfer->nr_left;

	transfer->nr_left = 0;
	for (unsigned int i = 0; i < nr; i++) {
		const union request *req = &transfer->left[i];
		int64_t result = transfer->drains ? req->drain.result : req->fill.result;
		size_t done = transfer->drains ? req->drain.done : req->fill.done;
		struct asked *asked = &transfer->asked[transfer->which[i]];

		if (result == -EINTR) {
			asked->result += done;
			transfer_queue(transfer, transfer->which[i]);
		} else if (result >= 0) {
			asked->result += result;
		} else if (result != -EAGAIN || !asked->result) {
			asked->result = result;
		}
	}
}

static const char *transfer_call(const struct transfer *transfer)
{
	return transfer->drains ? "shm_drain" : "shm_fill";
}

/* Do all that is left; Python's handlers of signals run meanwhile, and may end it. */
static int transfer_run(struct transfer *transfer)
{
	int err;

	while (transfer->nr_left) {
		Py_BEGIN_ALLOW_THREADS
		if (transfer->drains)
			err = shm_drain(&transfer->left->drain, transfer->nr_left);
		else
			err = shm_fill(&transfer->left->fill, transfer->nr_left);
		Py_END_ALLOW_THREADS
		if (err) {
			error_set(transfer_call(transfer), -err);
			return -1;
		}
		transfer_collect(transfer);
		/* KeyboardInterrupt is what one may raise. */
		if (transfer->nr_left && PyErr_CheckSignals() < 0)
			return -1;
	}
	return 0;
}

static int progress_tell(PyObject *progress, const struct shmdev_job *job)
{
	PyObject *told = PyObject_CallFunction(progress, "K",
					       (unsigned long long)shmdev_job_bytes(job));

	Py_XDECREF(told);
	return told ? 0 : -1;
}

/*
 * The same as a job of another thread, while @progress is called with the bytes so far.  If
 * it raises, or a handler of a signal does, the job is cancelled, and has ended on return.
 */
static int transfer_watch(struct transfer *transfer, PyObject *progress)
{
	struct shmdev_job *job;
	int err, result = -1;

	if (transfer->drains)
		job = shmdev_drain_start(&transfer->left->drain, transfer->nr_left);
	else
		job = shmdev_fill_start(&transfer->left->fill, transfer->nr_left);
	if (!job) {
		error_set(transfer->drains ? "shmdev_drain_start" : "shmdev_fill_start", errno);
		return -1;
	}
	for (;;) {
		Py_BEGIN_ALLOW_THREADS
		err = shmdev_job_wait(job, PROGRESS_MS);
		Py_END_ALLOW_THREADS
		if (err != -ETIMEDOUT && err != -EINTR)
			break;
		if (PyErr_CheckSignals() < 0)
			goto free_job;
		if (err == -ETIMEDOUT && progress_tell(progress, job) < 0)
			goto free_job;
	}
	if (err) {
		error_set(transfer_call(transfer), -err);
		goto free_job;
	}
	transfer_collect(transfer);
	result = 0;
free_job:
	/* It waits for the end of a job that has not ended. */
	Py_BEGIN_ALLOW_THREADS
	shmdev_job_free(job);
	Py_END_ALLOW_THREADS
	return result;
}

static PyObject *transfer_results(const struct transfer *transfer)
{
	PyObject *list = PyList_New(transfer->nr);

	for (unsigned int i = 0; list && i < transfer->nr; i++) {
		PyObject *result = PyLong_FromLongLong(transfer->asked[i].result);

		if (result)
			PyList_SET_ITEM(list, i, result);
		else
			Py_CLEAR(list);
	}
	return list;
}

static PyObject *transfer_all(struct transfer *transfer, PyObject *arg, PyObject *progress)
{
	PyObject *requests, *results = NULL;
	Py_ssize_t nr;

	/* A tuple of our own: buffers of arbitrary objects are taken meanwhile. */
	requests = PySequence_Tuple(arg);
	if (!requests)
		return NULL;
	nr = PyTuple_GET_SIZE(requests);
	if (nr > UINT_MAX) {
		PyErr_SetString(PyExc_OverflowError, "too many requests");
		goto drop_requests;
	}
	if (transfer_init(transfer, nr) < 0)
		goto release;
	for (Py_ssize_t i = 0; i < nr; i++)
		if (transfer_add(transfer, PyTuple_GET_ITEM(requests, i)) < 0)
			goto release;

	if (progress == Py_None || !nr ? transfer_run(transfer) < 0 :
	    transfer_watch(transfer, progress) < 0)
		goto release;
	results = transfer_results(transfer);
release:
	transfer_release(transfer);
drop_requests:
	Py_DECREF(requests);
	return results;
}

static PyObject *fill_all(PyObject *Py_UNUSED(module), PyObject *args)
{
	struct transfer transfer = { .drains = false };
	PyObject *requests, *progress = Py_None;

	if (!PyArg_ParseTuple(args, "O|O:fill", &requests, &progress))
		return NULL;
	if (progress == Py_None)
		transfer.flags |= SHM_FILL_INTR;
	return transfer_all(&transfer, requests, progress);
}

static PyObject *drain_all(PyObject *Py_UNUSED(module), PyObject *args)
{
	struct transfer transfer = { .drains = true };
	PyObject *requests, *progress = Py_None;
	int sync;

	if (!PyArg_ParseTuple(args, "Op|O:drain", &requests, &sync, &progress))
		return NULL;
	if (progress == Py_None)
		transfer.flags |= SHM_DRAIN_INTR;
	if (sync)
		transfer.flags |= SHM_DRAIN_SYNC;
	return transfer_all(&transfer, requests, progress);
}

PyMethodDef fill_methods[] = {
	{ "fill", fill_all, METH_VARARGS,
	  "fill($module, requests, progress=None, /)\n--\n\n"
	  "Do all of [(dest, fd, offset or None)]; the bytes read or -errno of each." },
	{ "drain", drain_all, METH_VARARGS,
	  "drain($module, requests, sync, progress=None, /)\n--\n\n"
	  "Do all of [(source, fd, offset or None)]; the bytes written or -errno of each." },
	{ NULL, NULL, 0, NULL },
};
