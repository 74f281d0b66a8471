// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * A recursive lock in shared memory, for threads of all processes that have it.  It takes
 * the place of the semaphore in multiprocessing's RLock, whose methods it has.
 *
 * The word is what the kernel's own robust locks have: who holds it, as a thread, and
 * whether others wait.  Who waits for long looks whether the holder is alive, and takes
 * the lock over from one that is not.
 */
#include "shmdevmodule.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* In shared memory, the same for all versions.  Zero is free. */
struct lock_memory {
	uint32_t word;		/* FUTEX_TID_MASK, FUTEX_WAITERS */
	uint32_t count;		/* how often it is held; the holder's */
	uint64_t holder;	/* since when it holds locks, and its program; or 0 for a moment */
	uint64_t namespace;	/* of the numbers and times; since it was made */
	uint64_t reserved;
};

_Static_assert(sizeof(struct lock_memory) == 32, "the layout is for ever");

struct lock {
	PyObject_HEAD
	Py_buffer view;
	struct lock_memory *memory;
};

/* So long a holder is believed to be alive. */
#define LOOK_NS		1000000000LL

#define NO_TIMEOUT	LLONG_MAX
#define AT_ONCE		LLONG_MIN

/* What /proc says of a thread. */
struct thread_stat {
	char state;
	uint64_t began;		/* ticks since boot, rounded down */
	uint64_t stack;		/* where that of its program begins; 0 if it is not said */
};

/* Of a file in /proc, what goes into @text; false: nothing. */
static bool proc_read(const char *path, char *text, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t len;

	if (fd < 0)
		return false;
	len = read(fd, text, size - 1);
	close(fd);
	text[len < 0 ? 0 : len] = '\0';
	return len > 0;
}

static bool thread_look(const char *path, struct thread_stat *stat)
{
	char text[1024], *at;

	if (!proc_read(path, text, sizeof(text)))
		return false;
	/* Behind the second word, a name, which may have anything in it. */
	at = strrchr(text, ')');
	if (!at || at[1] != ' ')
		return false;
	stat->state = at[2];
	for (int word = 2; at && word < 22; word++)
		at = strchr(at + 1, ' ');
	if (!at)
		return false;
	stat->began = strtoull(at, NULL, 10);
	for (int word = 22; at && word < 28; word++)
		at = strchr(at + 1, ' ');
	stat->stack = at ? strtoull(at, NULL, 10) : 0;
	return true;
}

/*
 * This thread: its number, and what another thread of this number does not have, which is
 * when it first asked, and in the low bits what program it is of: another one that it
 * executes has its stack elsewhere.
 */
static __thread uint32_t self_number;
static __thread uint64_t self_since;

#define PROGRAM_BITS	20
#define PROGRAM_MASK	((1ULL << PROGRAM_BITS) - 1)

/* Of a stack that begins at @stack; 0 if that is not known. */
static uint64_t program_of(uint64_t stack)
{
	/* Random are the page and, on some machines, what is below; never 0. */
	return stack ? ((stack >> 12 ^ stack >> 4) & PROGRAM_MASK) | 1 : 0;
}

/* This process, as self_namespace() has found, and its program; atomic. */
#define IN_UNKNOWN	UINT64_MAX
static uint64_t self_in = IN_UNKNOWN;
static uint64_t self_program = UINT64_MAX;

/*
 * Whether the numbers in /proc are those of this process's namespace, which it may have
 * without a /proc of its own: there it would find other processes by them.
 */
static bool proc_is_ours(void)
{
	char text[4096], *at;

	if (!proc_read("/proc/self/status", text, sizeof(text)))
		return false;
	/* Its number in that of /proc, and in those within, up to its own. */
	at = strstr(text, "\nNSpid:\t");
	if (!at)
		return true;		/* a kernel that has none */
	at += strlen("\nNSpid:\t");
	return at[strspn(at, "0123456789")] == '\n';
}

static uint64_t program_of_self(void)
{
	uint64_t program = __atomic_load_n(&self_program, __ATOMIC_RELAXED);
	struct thread_stat stat;

	/* A child of a fork has the same. */
	if (program == UINT64_MAX) {
		program = program_of(thread_look("/proc/self/stat", &stat) ? stat.stack : 0);
		__atomic_store_n(&self_program, program, __ATOMIC_RELAXED);
	}
	return program;
}

static uint32_t self_id(uint64_t *holder)
{
	struct timespec now;

	if (!self_number) {
		self_number = (uint32_t)syscall(SYS_gettid);
		clock_gettime(CLOCK_BOOTTIME, &now);
		self_since = now.tv_sec * 1000000000ULL + now.tv_nsec;
		/* Not before it began. */
		self_since = ((self_since | PROGRAM_MASK) + 1) | program_of_self();
	}
	*holder = self_since;
	return self_number;
}

/* The thread that goes on in the child is another one, perhaps in a namespace of its own. */
static void self_forked(void)
{
	self_number = 0;
	__atomic_store_n(&self_in, IN_UNKNOWN, __ATOMIC_RELAXED);
}

static void self_init(void)
{
	pthread_atfork(NULL, NULL, self_forked);
}

static uint64_t namespace_of(const char *path)
{
	struct stat st;

	return stat(path, &st) ? 0 : st.st_ino;
}

/* Where numbers of threads and times since boot have their meaning; 0: not to be known. */
static uint64_t self_namespace(void)
{
	uint64_t namespace = __atomic_load_n(&self_in, __ATOMIC_RELAXED);

	if (namespace == IN_UNKNOWN) {
		namespace = namespace_of("/proc/self/ns/pid") |
			    namespace_of("/proc/self/ns/time") << 32;
		__atomic_store_n(&self_in, namespace, __ATOMIC_RELAXED);
	}
	return namespace;
}

/* 0, or -1 with an exception: its numbers mean nothing here. */
static int lock_check(struct lock_memory *memory)
{
	uint64_t here = self_namespace();
	uint64_t known = __atomic_load_n(&memory->namespace, __ATOMIC_RELAXED);
	if (known == here ||
	    (!known && (__atomic_compare_exchange_n(&memory->namespace, &known, here, false,
						    __ATOMIC_RELAXED, __ATOMIC_RELAXED) ||
			known == here)))
		return 0;
	error_set("lock of another pid namespace", EXDEV);
	return -1;
}

static bool is_mine(const struct lock_memory *memory)
{
	uint64_t holder;
	uint32_t id = self_id(&holder);

	return (__atomic_load_n(&memory->word, __ATOMIC_RELAXED) & FUTEX_TID_MASK) == id &&
	       __atomic_load_n(&memory->holder, __ATOMIC_RELAXED) == holder;
}

static void held(struct lock_memory *memory)
{
	uint64_t holder;

	self_id(&holder);
	__atomic_store_n(&memory->holder, holder, __ATOMIC_RELEASE);
	__atomic_store_n(&memory->count, 1, __ATOMIC_RELAXED);
}

/*
 * Whether thread @id is dead and waits for its parent to notice, or is not @holder: it began
 * after that, which had its number, first held a lock, or has executed another program since.
 */
static bool is_no_holder(uint32_t id, uint64_t holder)
{
	uint64_t tick = 1000000000 / (uint64_t)sysconf(_SC_CLK_TCK);
	struct thread_stat stat;
	char path[32];

	snprintf(path, sizeof(path), "/proc/%u/stat", id);
	if (!thread_look(path, &stat) || !proc_is_ours())
		return false;
	if (stat.state == 'Z' || stat.state == 'X')
		return true;
	if (!holder)
		return false;
	return stat.began * tick > holder ||
	       (stat.stack && holder & PROGRAM_MASK &&
		program_of(stat.stack) != (holder & PROGRAM_MASK));
}

/*
 * Whether the holder that @word names is gone: whoever had the number of this thread,
 * which has it not, is.
 */
static bool holder_is_gone(uint32_t word, uint64_t since)
{
	uint64_t holder;
	uint32_t id = word & FUTEX_TID_MASK;

	return id == self_id(&holder) || (kill((pid_t)id, 0) && errno == ESRCH) ||
	       is_no_holder(id, since);
}

/* 0, or -EAGAIN: somebody has it; with their mark that we wait, if @wait. */
static int lock_try(struct lock_memory *memory, bool wait)
{
	uint32_t word = __atomic_load_n(&memory->word, __ATOMIC_RELAXED);
	uint64_t holder;
	uint32_t id = self_id(&holder);

	for (;;) {
		/* Who has waited does not know who else does. */
		uint32_t to = word & FUTEX_TID_MASK ? word | FUTEX_WAITERS :
			      id | (word & FUTEX_WAITERS) | (wait ? FUTEX_WAITERS : 0);

		if (word & FUTEX_TID_MASK && (!wait || word & FUTEX_WAITERS))
			return -EAGAIN;
		if (__atomic_compare_exchange_n(&memory->word, &word, to, false,
						__ATOMIC_ACQUIRE, __ATOMIC_RELAXED)) {
			if (word & FUTEX_TID_MASK)
				return -EAGAIN;
			held(memory);
			return 0;
		}
	}
}

/*
 * Take it from a holder that is gone.  0 or -EAGAIN.
 *
 * Who holds the lock says since when a little later, and takes that back before it is free:
 * what is there is the holder's, or 0.  It is 0 again before the next has the lock.
 */
static int lock_inherit(struct lock_memory *memory)
{
	uint64_t since = __atomic_load_n(&memory->holder, __ATOMIC_ACQUIRE), holder;
	uint32_t word = __atomic_load_n(&memory->word, __ATOMIC_RELAXED);
	uint32_t gone = word & FUTEX_TID_MASK, id = self_id(&holder);

	if (!gone || !holder_is_gone(word, since))
		return -EAGAIN;
	if (since && !__atomic_compare_exchange_n(&memory->holder, &since, 0, false,
						  __ATOMIC_RELAXED, __ATOMIC_RELAXED))
		return -EAGAIN;
	while (!__atomic_compare_exchange_n(&memory->word, &word, id | FUTEX_WAITERS, false,
					    __ATOMIC_ACQ_REL, __ATOMIC_RELAXED))
		/* There may be one more who waits. */
		if ((word & FUTEX_TID_MASK) != gone)
			return -EAGAIN;
	held(memory);
	return 0;
}

/* Without the GIL.  0, -EAGAIN it may be free now, -EINTR, -ETIMEDOUT. */
static int lock_wait(struct lock_memory *memory, long long end)
{
	uint32_t word = __atomic_load_n(&memory->word, __ATOMIC_RELAXED);
	long long left = end == NO_TIMEOUT ? LOOK_NS : end - monotonic_ns();
	struct timespec timeout;

	if (left <= 0)
		return -ETIMEDOUT;
	if (left > LOOK_NS)
		left = LOOK_NS;
	if (!(word & FUTEX_TID_MASK) || !(word & FUTEX_WAITERS))
		return -EAGAIN;
	timeout.tv_sec = left / 1000000000LL;
	timeout.tv_nsec = left % 1000000000LL;
	if (!syscall(SYS_futex, &memory->word, FUTEX_WAIT, word, &timeout, NULL, 0))
		return -EAGAIN;
	if (errno == ETIMEDOUT)
		return lock_inherit(memory);
	return errno == EINTR ? -EINTR : -EAGAIN;
}

/* 1 it is held, 0 it was not to be had until @end, -1 an exception. */
static int lock_hold(struct lock_memory *memory, long long end)
{
	int err;

	/* A child may be elsewhere than where the lock was made. */
	if (lock_check(memory) < 0)
		return -1;
	err = lock_try(memory, false);
	if (!err)
		return 1;
	if (end == AT_ONCE)
		return !lock_inherit(memory);
	for (;;) {
		Py_BEGIN_ALLOW_THREADS
		do {
			err = lock_try(memory, true);
			if (err)
				err = lock_wait(memory, end);
		} while (err == -EAGAIN);
		Py_END_ALLOW_THREADS
		if (!err)
			return 1;
		if (err == -ETIMEDOUT)
			return !lock_inherit(memory);
		if (PyErr_CheckSignals() < 0)
			return -1;
	}
}

/* --- Methods: those of _multiprocessing.SemLock that its wrapper in Python calls ---- */

static PyObject *lock_acquire(PyObject *self, PyObject *args, PyObject *names)
{
	static char *keywords[] = { "block", "timeout", NULL };
	struct lock_memory *memory = ((struct lock *)self)->memory;
	PyObject *timeout = Py_None;
	long long end = NO_TIMEOUT;
	int block = 1, got;

	if (!PyArg_ParseTupleAndKeywords(args, names, "|pO:acquire", keywords, &block, &timeout))
		return NULL;
	if (is_mine(memory)) {
		__atomic_store_n(&memory->count, memory->count + 1, __ATOMIC_RELAXED);
		Py_RETURN_TRUE;
	}
	if (!block) {
		end = AT_ONCE;
	} else if (timeout != Py_None) {
		double seconds = PyFloat_AsDouble(timeout);

		if (seconds == -1.0 && PyErr_Occurred())
			return NULL;
		/* Not longer than a century. */
		if (seconds < 3e9)
			end = monotonic_ns() + (long long)((seconds > 0 ? seconds : 0) * 1e9);
	}
	got = lock_hold(memory, end);
	return got < 0 ? NULL : PyBool_FromLong(got);
}

static PyObject *lock_release(PyObject *self, PyObject *Py_UNUSED(ignored))
{
	struct lock_memory *memory = ((struct lock *)self)->memory;
	uint32_t word;

	if (!is_mine(memory)) {
		PyErr_SetString(PyExc_AssertionError,
				"attempt to release recursive lock not owned by thread");
		return NULL;
	}
	if (memory->count > 1) {
		__atomic_store_n(&memory->count, memory->count - 1, __ATOMIC_RELAXED);
		Py_RETURN_NONE;
	}
	__atomic_store_n(&memory->count, 0, __ATOMIC_RELAXED);
	__atomic_store_n(&memory->holder, 0, __ATOMIC_RELAXED);
	word = __atomic_exchange_n(&memory->word, 0, __ATOMIC_RELEASE);
	if (word & FUTEX_WAITERS)
		syscall(SYS_futex, &memory->word, FUTEX_WAKE, 1, NULL, NULL, 0);
	Py_RETURN_NONE;
}

static PyObject *lock_enter(PyObject *self, PyObject *Py_UNUSED(ignored))
{
	struct lock_memory *memory = ((struct lock *)self)->memory;

	if (is_mine(memory))
		__atomic_store_n(&memory->count, memory->count + 1, __ATOMIC_RELAXED);
	else if (lock_hold(memory, NO_TIMEOUT) < 0)
		return NULL;
	Py_RETURN_TRUE;
}

static PyObject *lock_exit(PyObject *self, PyObject *Py_UNUSED(args))
{
	return lock_release(self, NULL);
}

static PyObject *lock_is_mine(PyObject *self, PyObject *Py_UNUSED(ignored))
{
	return PyBool_FromLong(is_mine(((struct lock *)self)->memory));
}

/* As in a SemLock, what this thread knows of: 0 if another has it. */
static PyObject *lock_count(PyObject *self, PyObject *Py_UNUSED(ignored))
{
	struct lock_memory *memory = ((struct lock *)self)->memory;

	return PyLong_FromUnsignedLong(is_mine(memory) ? memory->count : 0);
}

static bool is_held(PyObject *self)
{
	struct lock_memory *memory = ((struct lock *)self)->memory;

	return __atomic_load_n(&memory->word, __ATOMIC_RELAXED) & FUTEX_TID_MASK;
}

static PyObject *lock_is_zero(PyObject *self, PyObject *Py_UNUSED(ignored))
{
	return PyBool_FromLong(is_held(self));
}

static PyObject *lock_get_value(PyObject *self, PyObject *Py_UNUSED(ignored))
{
	return PyLong_FromLong(!is_held(self));
}

static PyObject *lock_get_address(PyObject *self, void *Py_UNUSED(closure))
{
	return PyLong_FromVoidPtr(((struct lock *)self)->memory);
}

static void lock_dealloc(PyObject *self)
{
	PyTypeObject *type = Py_TYPE(self);

	PyBuffer_Release(&((struct lock *)self)->view);
	PyObject_Free(self);
	Py_DECREF(type);
}

static PyMethodDef lock_type_methods[] = {
	{ "acquire", (PyCFunction)(void (*)(void))lock_acquire, METH_VARARGS | METH_KEYWORDS,
	  "acquire($self, block=True, timeout=None)\n--\n\n"
	  "Hold the lock once more: whether it could be had in time." },
	{ "release", lock_release, METH_NOARGS, "release($self)\n--\n\nUndo one acquire()." },
	{ "__enter__", lock_enter, METH_NOARGS, "__enter__($self)\n--\n\nacquire()" },
	{ "__exit__", lock_exit, METH_VARARGS, "__exit__($self, *args)\n--\n\nrelease()" },
	{ "_is_mine", lock_is_mine, METH_NOARGS, "_is_mine($self)\n--\n\n" },
	{ "_count", lock_count, METH_NOARGS, "_count($self)\n--\n\n" },
	{ "_is_zero", lock_is_zero, METH_NOARGS, "_is_zero($self)\n--\n\n" },
	{ "_get_value", lock_get_value, METH_NOARGS, "_get_value($self)\n--\n\n" },
	{ NULL, NULL, 0, NULL },
};

static PyGetSetDef lock_type_members[] = {
	{ "address", lock_get_address, NULL, "Where it is.", NULL },
	{ NULL, NULL, NULL, NULL, NULL },
};

static PyType_Slot lock_slots[] = {
	{ Py_tp_doc, "A recursive lock in shared memory." },
	{ Py_tp_dealloc, lock_dealloc },
	{ Py_tp_methods, lock_type_methods },
	{ Py_tp_getset, lock_type_members },
	{ 0, NULL },
};

PyType_Spec lock_spec = {
	.name = "shmdev._shmdev.Lock",
	.basicsize = sizeof(struct lock),
	.flags = Py_TPFLAGS_DEFAULT | SHMDEV_TPFLAGS_INTERNAL,
	.slots = lock_slots,
};

static PyObject *lock_make(PyObject *module, PyObject *args)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	struct module_state *state = module_state(module);
	struct lock *lock;
	Py_ssize_t offset;
	Py_buffer view;

	if (!PyArg_ParseTuple(args, "w*n:lock", &view, &offset))
		return NULL;
	if (offset < 0 || offset > view.len - (Py_ssize_t)sizeof(struct lock_memory) ||
	    ((uintptr_t)view.buf + (size_t)offset) % sizeof(uint64_t)) {
		PyErr_SetString(PyExc_ValueError, "there is no room for a lock");
		goto release_view;
	}
	if (lock_check((struct lock_memory *)((char *)view.buf + offset)) < 0)
		goto release_view;
	pthread_once(&once, self_init);
	lock = PyObject_New(struct lock, state->lock_type);
	if (!lock)
		goto release_view;
	lock->view = view;
	lock->memory = (struct lock_memory *)((char *)view.buf + offset);
	return (PyObject *)lock;

release_view:
	PyBuffer_Release(&view);
	return NULL;
}

PyMethodDef lock_methods[] = {
	{ "lock", lock_make, METH_VARARGS,
	  "lock($module, buffer, offset, /)\n--\n\n"
	  "The Lock in the 32 bytes of buffer at offset; zeroed memory is a free one." },
	{ NULL, NULL, 0, NULL },
};
