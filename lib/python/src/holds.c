// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * Memory that is on its way to another process, and ledgers: shared memory in which
 * receivers tell a sender what has arrived; see shmdev._holds for the times and the
 * thread.
 */
#include "shmdevmodule.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <math.h>
#include <sys/syscall.h>
#include <unistd.h>

/*
 * How many entries were ever made, which is what the owner waits for, and the serial
 * numbers of what has arrived.  Others may write nonsense to it.
 */
struct ledger {
	uint32_t entries;
	uint32_t pad;
	uint64_t slots[];
};

#define NR_SLOTS	8191

_Static_assert(NR_SLOTS <= UINT16_MAX, "free slots are kept in 16 bits");

/* More than this is looked through once it has doubled, however soon that is. */
#define MUCH		((size_t)16 << 20)

static struct ledger *ledger_of(const struct holds *holds)
{
	return (struct ledger *)holds->block->bytes;
}

void holds_init(struct holds *holds)
{
	holds->lock = (gil_lock){ 0 };
	holds->list.next = holds->list.prev = holds->first_slot = &holds->list;
	holds->enough = MUCH;
}

/*
 * Make the ledger if there is none.  0 or -1 with an exception; to raise one may run code
 * of Python, and so nothing is changed then, and it is the last thing.  Locked.
 */
static int ledger_make(struct module_state *state, struct holds *holds)
{
	struct shmdev_handle handle;
	struct block *block;
	uint16_t *free;
	int err;

	if (holds->block)
		return 0;
	free = PyMem_RawMalloc(NR_SLOTS * sizeof(*free));
	if (!free) {
		PyErr_NoMemory();
		return -1;
	}
	block = block_new(state, sizeof(struct ledger) + NR_SLOTS * sizeof(uint64_t), 0);
	if (!block) {
		PyMem_RawFree(free);
		return -1;
	}
	err = shmdev_export(block->bytes, &handle);
	if (err) {
		Py_DECREF(block);
		PyMem_RawFree(free);
		error_set("shmdev_export", -err);
		return -1;
	}
	for (unsigned int i = 0; i < NR_SLOTS; i++)
		free[i] = NR_SLOTS - 1 - i;
	holds->handle = handle;
	holds->free = free;
	holds->nr_free = NR_SLOTS;
	holds->block = block;
	return 0;
}

/* Take @hold out, and put it into @gone for holds_drop().  Locked. */
static void hold_end(struct holds *holds, struct hold *hold, struct hold **gone)
{
	hold->prev->next = hold->next;
	hold->next->prev = hold->prev;
	if (hold == holds->first_slot)
		holds->first_slot = hold->next;
	if (hold->slot >= 0)
		holds->free[holds->nr_free++] = hold->slot;
	if (!--*region_holds(hold->object))
		holds->bytes -= hold->size;
	hold->next = *gone;
	*gone = hold;
}

/* Not locked: other things may be freed with these. */
static void holds_drop(struct hold *gone)
{
	while (gone) {
		struct hold *hold = gone;

		gone = hold->next;
		/* Before its Region, whose own end gives up the GIL if it is the last. */
		shmdev_region_unref(hold->region);
		Py_DECREF(hold->object);
		PyMem_RawFree(hold);
	}
}

static bool is_over(const struct holds *holds, const struct hold *hold, long long now)
{
	return hold->deadline <= now ||
	       (hold->slot >= 0 && __atomic_load_n(&ledger_of(holds)->slots[hold->slot],
						   __ATOMIC_ACQUIRE) == hold->serial);
}

/* End what has arrived or was held for long enough, and what is more than @limit.  Locked. */
static void sweep(struct holds *holds, bool thoroughly, size_t limit, struct hold **gone)
{
	struct hold *list = &holds->list, *next;
	long long now = monotonic_ns();
	uint32_t entries;

	if (list->next == list)
		return;
	entries = __atomic_load_n(&ledger_of(holds)->entries, __ATOMIC_ACQUIRE);
	/*
	 * What was sent first tends to arrive first.  Where it does not, as behind what is
	 * lost, all are looked at when some have arrived: a tenth of the time, and when it is
	 * much memory.
	 */
	if (thoroughly || (entries != holds->looked &&
			   (now >= holds->next_look || holds->bytes > holds->enough))) {
		holds->looked = entries;
		for (struct hold *hold = list->next; hold != list; hold = next) {
			next = hold->next;
			if (is_over(holds, hold, now))
				hold_end(holds, hold, gone);
		}
		holds->next_look = now + 10 * (monotonic_ns() - now);
		holds->enough = 2 * holds->bytes + MUCH;
	}
	while (list->next != list &&
	       (is_over(holds, list->next, now) || holds->bytes > limit))
		hold_end(holds, list->next, gone);
}

static void forget(struct holds *holds)
{
	struct hold *gone = NULL;

	while (holds->list.next != &holds->list)
		hold_end(holds, holds->list.next, &gone);
	Py_CLEAR(holds->block);
	PyMem_RawFree(holds->free);
	holds->free = NULL;
	holds->nr_free = 0;
	holds_drop(gone);
}

void holds_clear(struct holds *holds)
{
	/* Of a module whose start failed at once. */
	if (holds->list.next)
		forget(holds);
}

/* @seconds from @now on, at most some centuries. */
static long long deadline_of(long long now, double seconds)
{
	return seconds < 9e9 ? now + (long long)(seconds * 1e9) : LLONG_MAX;
}

/*
 * A slot that nothing has, or that of the oldest: it is the likeliest to be lost, and is held
 * for its time from now on.  Locked.
 */
static int slot_take(struct holds *holds)
{
	struct hold *oldest = holds->first_slot;
	int slot;

	if (holds->nr_free)
		return holds->free[--holds->nr_free];
	slot = oldest->slot;
	oldest->slot = -1;
	holds->first_slot = oldest->next;
	return slot;
}

/* Add @hold, which is filled in but for its slot and serial.  Locked. */
static void hold_begin(struct holds *holds, struct hold *hold)
{
	hold->serial = ++holds->serial;
	hold->slot = slot_take(holds);
	/* Whatever somebody has left there. */
	__atomic_store_n(&ledger_of(holds)->slots[hold->slot], 0, __ATOMIC_RELAXED);
	if (holds->first_slot == &holds->list)
		holds->first_slot = hold;
	if (!(*region_holds(hold->object))++)
		holds->bytes += hold->size;
	hold->next = &holds->list;
	hold->prev = holds->list.prev;
	hold->prev->next = hold->next->prev = hold;
}

static PyObject *hold(PyObject *module, PyObject *args)
{
	struct module_state *state = module_state(module);
	struct holds *holds = &state->holds;
	struct hold *made, *gone = NULL;
	struct shmdev_handle handle;
	PyObject *object;
	double seconds;
	Py_ssize_t limit;
	uint64_t serial;
	size_t bytes;
	int sent, slot;

	if (!PyArg_ParseTuple(args, "O!dpn:hold", state->region_type, &object, &seconds, &sent,
			      &limit))
		return NULL;
	made = PyMem_RawMalloc(sizeof(*made));
	if (!made)
		return PyErr_NoMemory();
	made->region = region_ref(object);
	if (!made->region)
		goto free_made;
	made->object = Py_NewRef(object);
	made->size = shmdev_region_size(made->region);
	made->deadline = deadline_of(monotonic_ns(), seconds);
	made->sent = sent;

	gil_lock_acquire(&holds->lock);
	if (ledger_make(state, holds) < 0) {
		gil_lock_release(&holds->lock);
		goto drop_region;
	}
	sweep(holds, false, (size_t)limit, &gone);
	hold_begin(holds, made);
	/* From now on it can end at any time. */
	handle = holds->handle;
	slot = made->slot;
	serial = made->serial;
	bytes = holds->bytes;
	gil_lock_release(&holds->lock);
	holds_drop(gone);
	return Py_BuildValue("(NiK)n", handle_bytes(&handle), slot, (unsigned long long)serial,
			     (Py_ssize_t)bytes);

drop_region:
	Py_DECREF(object);
	shmdev_region_unref(made->region);
free_made:
	PyMem_RawFree(made);
	return NULL;
}

static PyObject *holds_sweep(PyObject *module, PyObject *arg)
{
	struct holds *holds = &module_state(module)->holds;
	Py_ssize_t limit = PyLong_AsSsize_t(arg);
	long long first = LLONG_MAX, now;
	struct hold *gone = NULL;
	uint32_t entries = 0;
	uint64_t serial;
	bool sent = false;
	size_t bytes;

	if (limit == -1 && PyErr_Occurred())
		return NULL;
	gil_lock_acquire(&holds->lock);
	if (holds->block)
		entries = __atomic_load_n(&ledger_of(holds)->entries, __ATOMIC_ACQUIRE);
	sweep(holds, true, (size_t)limit, &gone);
	for (struct hold *hold = holds->list.next; hold != &holds->list; hold = hold->next) {
		sent |= hold->sent;
		first = hold->deadline < first ? hold->deadline : first;
	}
	serial = holds->serial;
	bytes = holds->bytes;
	gil_lock_release(&holds->lock);
	holds_drop(gone);
	now = monotonic_ns();
	return Py_BuildValue("nNdKI", (Py_ssize_t)bytes, PyBool_FromLong(sent),
			     first == LLONG_MAX ? INFINITY : (double)(first - now) / 1e9,
			     (unsigned long long)serial, (unsigned int)entries);
}

static PyObject *holds_shorten(PyObject *module, PyObject *args)
{
	struct holds *holds = &module_state(module)->holds;
	double sent, pickled;
	long long now;

	if (!PyArg_ParseTuple(args, "dd:holds_shorten", &sent, &pickled))
		return NULL;
	now = monotonic_ns();
	gil_lock_acquire(&holds->lock);
	for (struct hold *hold = holds->list.next; hold != &holds->list; hold = hold->next) {
		long long deadline = deadline_of(now, hold->sent ? sent : pickled);

		hold->deadline = deadline < hold->deadline ? deadline : hold->deadline;
	}
	gil_lock_release(&holds->lock);
	Py_RETURN_NONE;
}

static PyObject *holds_forked(PyObject *module, PyObject *Py_UNUSED(ignored))
{
	struct holds *holds = &module_state(module)->holds;

	/* Where there is no GIL another thread of the parent may have held it. */
	holds->lock = (gil_lock){ 0 };
	forget(holds);
	Py_RETURN_NONE;
}

static PyObject *holds_wait(PyObject *module, PyObject *args)
{
	struct holds *holds = &module_state(module)->holds;
	struct timespec timeout;
	struct block *block;
	unsigned int seen;
	double seconds;

	if (!PyArg_ParseTuple(args, "Id:holds_wait", &seen, &seconds))
		return NULL;
	gil_lock_acquire(&holds->lock);
	block = holds->block;
	Py_XINCREF(block);
	gil_lock_release(&holds->lock);
	if (!block)
		Py_RETURN_NONE;
	/* Longer than a day is a day: the caller looks and waits again. */
	seconds = seconds < 0 ? 0 : seconds > 86400 ? 86400 : seconds;
	timeout.tv_sec = (time_t)seconds;
	timeout.tv_nsec = (long)((seconds - (double)timeout.tv_sec) * 1e9);
	Py_BEGIN_ALLOW_THREADS
	syscall(SYS_futex, &((struct ledger *)block->bytes)->entries, FUTEX_WAIT, seen, &timeout,
		NULL, 0);
	Py_END_ALLOW_THREADS
	Py_DECREF(block);
	Py_RETURN_NONE;
}

/* --- the receiver ----------------------------------------------------------------- */

/*
 * Enter @serial.  A slot goes from one to the next: who comes late, with a payload that was
 * loaded before, must not take away what a later one has entered there.  Nonsense that is
 * there is as often earlier as it is later.
 */
static void ledger_enter(struct ledger *ledger, Py_ssize_t slot, uint64_t serial)
{
	uint64_t there = __atomic_load_n(&ledger->slots[slot], __ATOMIC_RELAXED);

	do {
		if ((int64_t)(serial - there) <= 0)
			return;
	} while (!__atomic_compare_exchange_n(&ledger->slots[slot], &there, serial, true,
					      __ATOMIC_RELEASE, __ATOMIC_RELAXED));
	__atomic_add_fetch(&ledger->entries, 1, __ATOMIC_RELEASE);
	syscall(SYS_futex, &ledger->entries, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

static PyObject *holds_arrived(PyObject *Py_UNUSED(module), PyObject *args)
{
	struct shmdev_handle handle;
	struct shmdev_region *region;
	unsigned long long serial;
	Py_ssize_t slot;
	int err;

	if (!PyArg_ParseTuple(args, "O&nK:arrived", handle_convert, &handle, &slot, &serial))
		return NULL;
	if (slot < 0 || handle.offset % sizeof(uint64_t) || handle.size < sizeof(struct ledger) ||
	    (uint64_t)slot >= (handle.size - sizeof(struct ledger)) / sizeof(uint64_t)) {
		PyErr_SetString(PyExc_ValueError, "no such entry of a ledger");
		return NULL;
	}
	Py_BEGIN_ALLOW_THREADS
	region = shmdev_region_attach(&handle);
	err = region ? 0 : errno;
	if (region) {
		/* It was made sure that the region has what the handle says. */
		ledger_enter((struct ledger *)((char *)shmdev_region_addr(region) + handle.offset),
			     slot, serial);
		shmdev_region_unref(region);
	}
	Py_END_ALLOW_THREADS
	if (err)
		return error_set("shmdev_region_attach", err);
	Py_RETURN_NONE;
}

PyMethodDef holds_methods[] = {
	{ "hold", hold, METH_VARARGS,
	  "hold($module, region, seconds, sent, limit, /)\n--\n\n"
	  "Hold region for one that loads it, for so long at most, and give up the oldest of\n"
	  "more than limit bytes: what arrived() takes there, and how many bytes are held." },
	{ "holds_sweep", holds_sweep, METH_O,
	  "holds_sweep($module, limit, /)\n--\n\n"
	  "Let go of what need not be held any more.  What is left: how many bytes, whether\n"
	  "something of it was sent, after how many seconds it is over for the first of it; the\n"
	  "serial number of the last there was; and what to give to holds_wait()." },
	{ "holds_shorten", holds_shorten, METH_VARARGS,
	  "holds_shorten($module, sent, pickled, /)\n--\n\n"
	  "Hold what is held for not more than so many seconds from now on." },
	{ "holds_wait", holds_wait, METH_VARARGS,
	  "holds_wait($module, seen, seconds, /)\n--\n\n"
	  "Wait until more has arrived than was seen, or for some seconds." },
	{ "holds_forked", holds_forked, METH_NOARGS,
	  "holds_forked($module, /)\n--\n\n"
	  "To be called in a child: what is held is the parent's." },
	{ "arrived", holds_arrived, METH_VARARGS,
	  "arrived($module, handle, slot, serial, /)\n--\n\n"
	  "Tell a sender that what it has sent with this was loaded." },
	{ NULL, NULL, 0, NULL },
};
