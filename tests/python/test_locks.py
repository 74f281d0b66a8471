# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
"""The lock of Array() and Value(): multiprocessing's RLock on shared memory."""

import ctypes
import errno
import multiprocessing
import os
import pickle
import signal
import threading
import time
import unittest
from multiprocessing import synchronize

import tap
import shmdev
from shmdev import _guarded, _shmdev
from tap import THOROUGH

TIMEOUT = 60
ROUNDS = 20_000 if THOROUGH else 1000


def new_lock():
    return shmdev.Value("i").get_lock()


def again(lock):
    """The lock as another process gets it."""
    return pickle.loads(pickle.dumps(lock))


def count_up(value, rounds):
    for _ in range(rounds):
        with value:
            value.value += 1


def hold_and_tell(queue, pipe):
    """Hold what comes, and wait to be killed."""
    lock = queue.get()
    lock.acquire()
    pipe.send("held")
    pipe.recv()


def in_thread(function, *args):
    result = []
    thread = threading.Thread(target=lambda: result.append(function(*args)))
    thread.start()
    thread.join(TIMEOUT)
    return result[0]


class Same(unittest.TestCase):
    """What it has in common with the one of a context."""

    def test_class(self):
        lock = new_lock()
        self.assertIs(type(lock), synchronize.RLock)
        self.assertIsInstance(lock._semlock, _shmdev.Lock)
        self.assertIn("RLock(None, 0)", repr(lock).replace("unknown", "None"))
        with lock:
            self.assertIn(", 1)", repr(lock))

    def test_recursion(self):
        for lock in (new_lock(), multiprocessing.RLock()):
            for _ in range(3):
                self.assertIs(lock.acquire(), True)
            self.assertEqual(lock._semlock._count(), 3)
            with lock:
                self.assertEqual(lock._semlock._count(), 4)
            for _ in range(3):
                self.assertIsNone(lock.release())
            with self.assertRaisesRegex(AssertionError, "not owned by thread"):
                lock.release()

    def test_another_thread(self):
        for lock in (new_lock(), multiprocessing.RLock()):
            with lock:
                self.assertIs(in_thread(lock.acquire, False), False)
                self.assertIs(in_thread(lock.acquire, True, 0), False)
                self.assertIs(in_thread(lock.acquire, True, -5), False)
                begun = time.monotonic()
                self.assertIs(in_thread(lambda: lock.acquire(timeout=0.1)), False)
                self.assertGreater(time.monotonic() - begun, 0.099)
                with self.assertRaises(IndexError):     # of in_thread: it has raised
                    with self.quiet():
                        in_thread(lock.release)
            self.assertIs(in_thread(lambda: (lock.acquire(timeout=5), lock.release())[0]), True)

    def quiet(self):
        import contextlib

        @contextlib.contextmanager
        def hook():
            before, threading.excepthook = threading.excepthook, lambda args: None
            try:
                yield
            finally:
                threading.excepthook = before

        return hook()

    def test_wrong_arguments(self):
        for lock in (new_lock(), multiprocessing.RLock()):
            self.assertRaises(TypeError, lock.acquire, True, "x")
            self.assertRaises(TypeError, lock.acquire, 1, 2, 3)
            self.assertRaises(TypeError, lock.release, 1)

    def test_condition(self):
        condition = multiprocessing.Condition(new_lock())
        seen = []

        def wait():
            with condition:
                while not seen:
                    condition.wait(TIMEOUT)
                seen.append(2)
                condition.notify()

        thread = threading.Thread(target=wait)
        thread.start()
        with condition:
            seen.append(1)
            condition.notify()
            while len(seen) < 2:
                self.assertTrue(condition.wait(TIMEOUT))
        thread.join()
        self.assertEqual(seen, [1, 2])

    def test_interrupted(self):
        """Ctrl-C while it waits."""
        lock = new_lock()
        with lock:
            def wait():
                read, write = os.pipe()
                child = os.fork()
                if not child:
                    try:
                        signal.signal(signal.SIGINT, signal.default_int_handler)
                        os.write(write, b"x")
                        lock.acquire()
                        os._exit(1)
                    except KeyboardInterrupt:
                        os._exit(0)
                    finally:
                        os._exit(2)
                os.read(read, 1)
                os.close(read)
                os.close(write)
                return child

            child = wait()
            deadline = time.monotonic() + TIMEOUT
            while True:     # it may not wait yet
                os.kill(child, signal.SIGINT)
                done, status = os.waitpid(child, os.WNOHANG)
                if done:
                    break
                self.assertLess(time.monotonic(), deadline)
                time.sleep(0.01)
            self.assertEqual(status, 0)

    def test_signal_handler_runs(self):
        """One that raises nothing, and then it goes on waiting."""
        lock = new_lock()
        seen = []
        before = signal.signal(signal.SIGALRM, lambda *args: seen.append(1))
        try:
            other = threading.Event()
            held = threading.Event()

            def hold():
                with lock:
                    held.set()
                    other.wait(TIMEOUT)

            thread = threading.Thread(target=hold)
            thread.start()
            held.wait()
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            self.assertIs(lock.acquire(timeout=0.3), False)
            self.assertEqual(seen, [1])
            other.set()
            self.assertIs(lock.acquire(), True)
            thread.join()
        finally:
            signal.signal(signal.SIGALRM, before)


class Exclusion(unittest.TestCase):
    def test_processes(self):
        for method in multiprocessing.get_all_start_methods():
            with self.subTest(method=method):
                context = multiprocessing.get_context(method)
                value = shmdev.Value("q", ctx=context)
                children = [context.Process(target=count_up, args=(value, ROUNDS))
                            for _ in range(4)]
                for child in children:
                    child.start()
                for child in children:
                    child.join(TIMEOUT)
                    self.assertEqual(child.exitcode, 0)
                self.assertEqual(value.value, 4 * ROUNDS)

    def test_threads(self):
        value = shmdev.Value("q")
        locks = [value, again(value), again(value), value]
        threads = [threading.Thread(target=count_up, args=(each, ROUNDS // 2)) for each in locks]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(value.value, 4 * (ROUNDS // 2))

    def test_one_lock_wherever_it_is_loaded(self):
        one = new_lock()
        other = again(one)
        with one:
            self.assertIs(other._semlock._is_mine(), True)
            with other:
                self.assertEqual(one._semlock._count(), 2)
            self.assertIs(in_thread(other.acquire, False), False)

    def test_a_child_does_not_hold_it(self):
        lock = new_lock()
        with lock:
            child = os.fork()
            if not child:
                try:
                    os._exit(lock.acquire(False) or lock._semlock._is_mine())
                finally:
                    os._exit(3)
            self.assertEqual(os.waitpid(child, 0)[1], 0)


class Death(unittest.TestCase):
    """Whoever ends with it held does not hold it."""

    def holder(self, lock):
        context = multiprocessing.get_context("fork")
        queue = context.SimpleQueue()
        ours, theirs = context.Pipe()
        self.addCleanup(ours.close)
        child = context.Process(target=hold_and_tell, args=(queue, theirs))
        child.start()
        queue.put(lock)
        self.assertTrue(ours.poll(TIMEOUT))
        self.assertEqual(ours.recv(), "held")
        return child

    def test_killed(self):
        for reaped in (True, False):
            for wait in (lambda: lock.acquire(), lambda: lock.acquire(False),
                         lambda: lock.acquire(timeout=0.01), lambda: lock.acquire(timeout=5)):
                lock = new_lock()
                child = self.holder(lock)
                self.assertIs(lock.acquire(False), False)
                os.kill(child.pid, signal.SIGKILL)
                if reaped:
                    child.join(TIMEOUT)
                else:       # a zombie, which still has its number
                    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
                self.assertIs(wait(), True)
                self.assertEqual(lock._semlock._count(), 1)
                lock.release()
                child.join(TIMEOUT)
                self.assertEqual(child.exitcode, -signal.SIGKILL)
                self.assertIs(in_thread(lock.acquire, False), True)

    def test_killed_while_others_wait(self):
        lock = new_lock()
        child = self.holder(lock)
        got = []

        def wait():
            with lock:
                got.append(1)

        threads = [threading.Thread(target=wait) for _ in range(5)]
        for thread in threads:
            thread.start()
        os.kill(child.pid, signal.SIGKILL)
        for thread in threads:
            thread.join(TIMEOUT)
        self.assertEqual(len(got), 5)
        child.join(TIMEOUT)
        self.assertEqual(child.exitcode, -signal.SIGKILL)

    def test_thread(self):
        lock = new_lock()
        self.assertIs(in_thread(lock.acquire), True)
        self.assertIs(lock.acquire(timeout=TIMEOUT), True)
        lock.release()

    def test_number_in_use_again(self):
        """A thread that has the number of a dead holder is not that holder."""
        lock = new_lock()
        child = self.holder(lock)
        self.addCleanup(child.join, TIMEOUT)
        self.addCleanup(child.kill)
        memory = (ctypes.c_char * 32).from_address(lock._semlock.address)
        since = ctypes.c_uint64.from_buffer(memory, 8)
        self.assertGreater(since.value, 0)
        self.assertIs(lock.acquire(False), False)
        self.assertIs(lock.acquire(timeout=1.2), False)
        was, since.value = since.value, 0           # just about to say so
        self.assertIs(lock.acquire(False), False)
        since.value = was - 2**30                   # had it a second before the child began
        self.assertIs(lock.acquire(False), True)
        self.assertEqual(lock._semlock._count(), 1)
        lock.release()
        self.assertEqual(since.value, 0)
        self.assertIs(in_thread(lock.acquire, False), True)

    def test_it_executes_another_program(self):
        """Which has its number, and began when it did, but not what it held."""
        with open("/proc/sys/kernel/randomize_va_space") as file:
            if file.read() == "0\n":
                self.skipTest("all programs have their stack at the same place")
        for by_thread in (False, True):
            with self.subTest(by_thread=by_thread):
                lock = new_lock()
                read, write = os.pipe()         # closed when it is the other program
                child = os.fork()
                if not child:
                    lock.acquire()
                    command = ["sleep", "1000"]
                    if by_thread:
                        threading.Thread(target=os.execvp, args=("sleep", command)).start()
                        threading.Event().wait()
                    os.execvp("sleep", command)
                os.close(write)
                try:
                    self.assertEqual(os.read(read, 1), b"")
                    self.assertIs(lock.acquire(timeout=TIMEOUT), True)
                    lock.release()
                finally:
                    os.close(read)
                    os.kill(child, signal.SIGKILL)
                    os.waitpid(child, 0)

    def test_proc_of_another_pid_namespace(self):
        """A holder is not gone because a number of it is another's who is."""
        last = "/proc/sys/kernel/ns_last_pid"
        if os.geteuid() or not os.access(last, os.W_OK):
            self.skipTest("cannot choose the number of a process")
        libc = ctypes.CDLL(None, use_errno=True)
        zombie = os.fork()
        if not zombie:
            os._exit(0)
        os.waitid(os.P_PID, zombie, os.WEXITED | os.WNOWAIT)
        child = os.fork()
        if not child:
            if libc.unshare(0x20000000):            # CLONE_NEWPID
                os._exit(2)
            first = os.fork()
            if first:
                os._exit(os.waitstatus_to_exitcode(os.waitpid(first, 0)[1]))
            lock = new_lock()                       # of that namespace
            read, write = os.pipe()
            with open(last, "w") as file:
                file.write(str(zombie - 1))
            holder = os.fork()
            if not holder:
                lock.acquire()
                os.write(write, b"x")
                signal.pause()
            os.read(read, 1)
            if holder != zombie:
                os._exit(3)
            got = lock.acquire(False) or lock.acquire(timeout=1.2)
            os.kill(holder, signal.SIGKILL)
            os.waitpid(holder, 0)
            # And it is when it is.
            os._exit(4 if got else 0 if lock.acquire(False) else 5)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        os.waitpid(zombie, 0)
        if status == 2:
            self.skipTest("may not make a pid namespace")
        self.assertEqual(status, 0)

    def test_child_in_another_pid_namespace(self):
        lock = new_lock()
        libc = ctypes.CDLL(None, use_errno=True)
        lock.acquire()
        child = os.fork()
        if not child:
            if libc.unshare(0x20000000):            # CLONE_NEWPID
                os._exit(2)
            grandchild = os.fork()
            if grandchild:
                os._exit(os.waitstatus_to_exitcode(os.waitpid(grandchild, 0)[1]))
            try:
                lock.acquire(timeout=3)
            except OSError as error:
                os._exit(0 if error.errno == errno.EXDEV else 3)
            os._exit(1)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if status == 2:
            self.skipTest("may not make a pid namespace")
        self.assertEqual(status, 0)
        lock.release()

    def test_storm(self):
        """Killed at any moment, and whoever is left gets it."""
        value = shmdev.Value("q")
        context = multiprocessing.get_context("fork")
        for round in range(8 if THOROUGH else 3):
            children = [context.Process(target=count_up, args=(value, 10**9)) for _ in range(3)]
            for child in children:
                child.start()
            time.sleep(0.003 * (round % 5))
            for child in children:
                child.kill()
            for child in children:
                child.join(TIMEOUT)
            self.assertIs(value.acquire(timeout=TIMEOUT), True)
            value.release()


class Memory(unittest.TestCase):
    def test_where(self):
        memory = _shmdev.block(100)
        first, second = _shmdev.lock(memory, 0), _shmdev.lock(memory, 64)
        self.assertEqual(second.address - first.address, 64)
        for offset in (-1, 4, 69, 100, 2**62):
            self.assertRaises(ValueError, _shmdev.lock, memory, offset)
        self.assertRaises(TypeError, _shmdev.lock, b"\0" * 32, 0)
        self.assertRaises(TypeError, _shmdev.Lock)

    def test_it_keeps_its_memory(self):
        lock = _guarded.lock_over(_shmdev.block(32), 0)
        region, _ = _shmdev.region_locate(lock._semlock.address)
        self.assertGreater(region.size, 0)
        blocks = shmdev.info().blocks
        del lock
        self.assertEqual(shmdev.info().blocks, blocks - 1)

    def test_of_another_pid_namespace(self):
        """Where thread numbers are others, it says so."""
        memory = bytearray(32)
        ctypes.c_uint64.from_buffer(memory, 16).value = 1
        with self.assertRaisesRegex(OSError, "another pid namespace"):
            _shmdev.lock(memory, 0)


if __name__ == "__main__":
    tap.main()
