# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
"""Everything that is made here, by everything that sends, under each start method."""

import concurrent.futures
import ctypes
import gc
import importlib.util
import io
import multiprocessing
import os
import pickle
import queue
import subprocess
import sys
import threading
import unittest
from multiprocessing import connection, reduction, util

import tap
import shmdev
from shmdev import Array, RawArray, RawValue, Value

TIMEOUT = 60
HAS_NUMPY = importlib.util.find_spec("numpy") is not None
HAS_JOBLIB = importlib.util.find_spec("joblib") is not None


class Point(ctypes.Structure):
    _fields_ = [("x", ctypes.c_int), ("y", ctypes.c_double)]


class Named(ctypes.c_int * 3):
    """An array type that pickle finds by its name."""


# --- kinds: each makes the same whenever it is called -----------------------------------


def _numpy_kinds():
    import numpy

    base = shmdev.arange(60, dtype="i4").reshape(5, 12)
    yield "numpy", base
    yield "numpy float", shmdev.full((3, 4), 1.5)
    yield "numpy of its own region", shmdev.zeros(400_000, "f8")
    yield "numpy order F", shmdev.array(numpy.arange(12.0).reshape(3, 4), order="F")
    yield "numpy slice", base[1:4]
    yield "numpy strided view", base[::2, 1::3]
    yield "numpy reversed view", base[::-1, ::-2]
    yield "numpy transposed view", base.T
    yield "numpy broadcast view", shmdev.asarray(base[:1, :1])
    yield "numpy bytes view", base.view("u1")
    yield "numpy byte order", shmdev.arange(5, dtype=">i2")
    yield "numpy complex", shmdev.ones(3, complex)
    yield "numpy 0-d", shmdev.array(7)
    yield "numpy empty", shmdev.zeros((3, 0, 2))


def kinds():
    yield "RawArray", RawArray("i", range(10))
    yield "RawArray of double", RawArray("d", [0.5, -1.5])
    yield "RawArray of char", RawArray("c", b"hello")
    yield "RawArray of its own region", RawArray("q", 400_000)
    yield "RawArray of structures", RawArray(Point, [(1, 2.5), (3, 4.5)])
    yield "RawArray of arrays", RawArray(ctypes.c_int * 3, [(1, 2, 3), (4, 5, 6)])
    yield "RawArray of named arrays", RawArray(Named, 2)
    yield "RawArray without items", RawArray("i", 0)
    yield "RawValue", RawValue("i", 5)
    yield "RawValue of a structure", RawValue(Point, 6, 7.5)
    yield "copy", shmdev.copy(RawArray("h", [1, 2, 3]))
    yield "Array", Array("i", [1, 2, 3])
    yield "Array of char", Array("c", b"guarded")
    yield "Array without a lock", Array("i", 4, lock=False)
    yield "Value", Value("d", 2.5)
    yield "Value of a structure", Value(Point, 8, 9.5)
    yield "Region", RawArray("q", 400_000).region
    yield "synchronized", shmdev.synchronized(RawArray("i", [7, 8]))
    if HAS_NUMPY:
        yield from _numpy_kinds()


def contents(obj):
    """All that it holds, as bytes."""
    if hasattr(obj, "get_obj"):
        with obj.get_lock():
            return contents(obj.get_obj())
    if hasattr(obj, "tobytes"):
        return obj.tobytes()
    return bytes(memoryview(obj))


def bump(obj):
    """Change it, through what its users change it by; say what it is and was."""
    was = contents(obj)
    if hasattr(obj, "get_obj"):
        with obj:
            bump(obj.get_obj())
    elif hasattr(obj, "tobytes"):
        if obj.size:
            obj.flat[0] += 1
            obj.flat[obj.size - 1] += 2
    elif isinstance(obj, ctypes.Array):
        for index in {0, len(obj) - 1} if len(obj) else ():
            item = obj[index]
            if isinstance(item, Point):
                item.x += 3
            elif isinstance(item, ctypes.Array):
                item[2] += 4
            else:
                obj[index] = item + 5 if not isinstance(item, bytes) else b"~"
    elif isinstance(obj, Point):
        obj.y *= 2
    elif isinstance(obj, shmdev.Region):
        memoryview(obj)[-1] += 7
    else:
        obj.value += 6
    return type(obj).__name__, was


def echo(take, give):
    """Bump what comes until None does, and tell."""
    while True:
        obj = take()
        if obj is None:
            return
        give(bump(obj))
        del obj


def echo_queues(to_child, to_parent):
    echo(to_child.get, to_parent.put)


def echo_pipe(pipe):
    echo(pipe.recv, pipe.send)


def make_numbers(length):
    """What a worker makes, and forgets when it has sent it."""
    return RawArray("i", range(length))


def make_all(_):
    return [contents(obj) for _, obj in kinds()], list(kinds())


def put_and_leave(to_parent):
    to_parent.put(RawArray("i", range(1000)))
    to_parent.put(RawArray("i", [5] * 400_000))


def bump_in(shared, key):
    return bump(shared[key])


class Methods:
    def check(self, exchange):
        """exchange() hands an object to another process: what bump() said there."""
        done = 0
        for (name, obj), (_, twin) in zip(kinds(), kinds()):
            with self.subTest(kind=name):
                said = bump(twin)
                self.assertEqual(exchange(obj), said)
                self.assertEqual(contents(obj), contents(twin))
                # And once more: what was received has gone there meanwhile.
                self.assertEqual(exchange(obj), bump(twin))
                self.assertEqual(contents(obj), contents(twin))
                done += 1
        self.assertGreater(done, 16)

    def check_queues(self, to_child, to_parent):
        child = self.context.Process(target=echo_queues, args=(to_child, to_parent))
        child.start()

        def exchange(obj):
            to_child.put(obj)
            return to_parent.get()

        self.check(exchange)
        to_child.put(None)
        child.join(TIMEOUT)
        self.assertEqual(child.exitcode, 0)

    def test_arguments(self):
        to_parent = self.context.SimpleQueue()

        def exchange(*objects):
            child = self.context.Process(target=bump_each, args=(to_parent, *objects))
            child.start()
            said = to_parent.get()
            child.join(TIMEOUT)
            self.assertEqual(child.exitcode, 0)
            return said

        names, objects = zip(*kinds())
        twins = [obj for _, obj in kinds()]
        self.assertEqual(exchange(*objects), [bump(twin) for twin in twins])
        for name, obj, twin in zip(names, objects, twins):
            self.assertEqual((name, contents(obj)), (name, contents(twin)))

    def test_simple_queue(self):
        self.check_queues(self.context.SimpleQueue(), self.context.SimpleQueue())

    def test_queue(self):
        self.check_queues(self.context.Queue(), self.context.Queue())

    def test_joinable_queue(self):
        self.check_queues(self.context.JoinableQueue(), self.context.Queue(3))

    def test_pipe(self):
        ours, theirs = self.context.Pipe()
        child = self.context.Process(target=echo_pipe, args=(theirs,))
        child.start()

        def exchange(obj):
            ours.send(obj)
            self.assertTrue(ours.poll(TIMEOUT))
            return ours.recv()

        self.check(exchange)
        ours.send(None)
        child.join(TIMEOUT)
        self.assertEqual(child.exitcode, 0)

    def test_pool(self):
        with self.context.Pool(2) as pool:
            self.check(lambda obj: pool.apply(bump, (obj,)))
            arrays = [RawArray("i", [n] * 100) for n in range(20)]
            pool.map(bump, arrays, chunksize=3)
            self.assertEqual([(a[0], a[99], a[1]) for a in arrays],
                             [(n + 5, n + 5, n) for n in range(20)])
            # Of workers, who have forgotten them by then.
            made = pool.map(make_numbers, [10, 300_000] * 5)
            gc.collect()
            self.assertEqual([len(a) for a in made], [10, 300_000] * 5)
            self.assertEqual([a[len(a) - 1] for a in made], [9, 299_999] * 5)
            for expected, objects in pool.imap_unordered(make_all, range(3)):
                self.assertEqual([contents(obj) for _, obj in objects], expected)

    def test_manager(self):
        with self.context.Manager() as manager:
            # Their items are loaded by the manager, and pickled again, on their way.
            self.check_queues(manager.Queue(), manager.Queue())
            shared = manager.dict(a=RawArray("i", [1, 2]))
            gc.collect()
            # The manager has it alone now, and gives the same to everybody.
            mine = shared["a"]
            self.assertEqual(ctypes.addressof(shared["a"]), ctypes.addressof(mine))
            child = self.context.Process(target=bump_in, args=(shared, "a"))
            child.start()
            child.join(TIMEOUT)
            self.assertEqual(child.exitcode, 0)
            self.assertEqual(list(mine), [6, 7])

    def test_executor(self):
        with concurrent.futures.ProcessPoolExecutor(2, self.context) as executor:
            self.check(lambda obj: executor.submit(bump, obj).result(TIMEOUT))
            self.assertEqual(list(executor.map(len, map(make_numbers, (5, 300_000, 7)))),
                             [5, 300_000, 7])
            self.assertEqual([a[-1] for a in executor.map(make_numbers, (5, 300_000, 7))],
                             [4, 299_999, 6])

    def test_sender_ends(self):
        """What a process has sent is there after its end."""
        to_parent = self.context.SimpleQueue()
        child = self.context.Process(target=put_and_leave, args=(to_parent,))
        child.start()
        self.assertEqual(list(to_parent.get()), list(range(1000)))
        self.assertEqual(set(to_parent.get()), {5})
        child.join(TIMEOUT)
        self.assertEqual(child.exitcode, 0)

    def test_sender_ends_meanwhile(self):
        """What a queue's thread first pickles when its process is about to end."""
        for size in (1000, 300_000):
            to_parent = self.context.Queue()
            child = self.context.Process(target=put_late, args=(to_parent, size))
            child.start()
            self.assertTrue(to_parent._reader.poll(TIMEOUT))
            child.join(0.5)
            self.assertIsNone(child.exitcode)   # it waits for us
            _, array = to_parent.get()
            self.assertEqual(array[size - 1], size - 1)
            child.join(TIMEOUT)
            self.assertEqual(child.exitcode, 0)

    def test_many_of_one_region(self):
        """A list of arrays names their region once."""
        arrays = [RawArray("i", [n]) for n in range(100)]
        one = len(reduction.ForkingPickler.dumps(arrays[:1]))
        self.assertLess(len(reduction.ForkingPickler.dumps(arrays)), one + 100 * 60)
        with self.context.Pool(1) as pool:
            pool.apply(bump_all, (arrays,))
        self.assertEqual([a[0] for a in arrays], [n + 5 for n in range(100)])


class Late:
    """Is pickled when its process runs its last finalizers, before it joins its queues."""

    def __init__(self):
        self.ending = threading.Event()
        util.Finalize(None, self.ending.set, exitpriority=-4)

    def __reduce__(self):
        if not self.ending.wait(TIMEOUT):
            raise AssertionError("the process does not end")
        return int, ()


def put_late(to_parent, size):
    to_parent.put((Late(), RawArray("i", range(size))))


def bump_each(to_parent, *objects):
    to_parent.put([bump(obj) for obj in objects])


def bump_all(objects):
    for obj in objects:
        bump(obj)


class Fork(Methods, unittest.TestCase):
    context = multiprocessing.get_context("fork")


class Spawn(Methods, unittest.TestCase):
    context = multiprocessing.get_context("spawn")


class ForkServer(Methods, unittest.TestCase):
    context = multiprocessing.get_context("forkserver")


# --- processes that have nothing to do with each other ----------------------------------

LOADER = """
import pickle, sys
sys.path.insert(0, {here!r})
import test_sending
loaded = pickle.load(sys.stdin.buffer)
pickle.dump([test_sending.bump(obj) for obj in loaded], sys.stdout.buffer)
"""


def environment():
    """Where the package of this process is, for another one."""
    where = os.path.dirname(os.path.dirname(os.path.abspath(shmdev.__file__)))
    return {**os.environ, "PYTHONPATH": where}


def run(code, data=b"", **options):
    """What another interpreter that runs code, and knows nothing of us, writes."""
    here = os.path.dirname(os.path.abspath(__file__))
    done = subprocess.run([sys.executable, "-c", code.format(here=here)], input=data,
                          capture_output=True, env=environment(), timeout=TIMEOUT, **options)
    if done.returncode:
        raise AssertionError(done.stderr.decode())
    return done.stdout


class Strangers(unittest.TestCase):
    def test_plain_pickle(self):
        for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
            with self.subTest(protocol=protocol):
                # What pickle has no reference to, as the main module's classes.
                import test_sending

                names, objects = zip(*test_sending.kinds())
                twins = [obj for _, obj in test_sending.kinds()]
                data = pickle.dumps(objects, protocol)
                self.assertEqual(pickle.loads(run(LOADER, data)),
                                 [test_sending.bump(twin) for twin in twins])
                for name, obj, twin in zip(names, objects, twins):
                    self.assertEqual((name, contents(obj)), (name, contents(twin)))

    def test_listener(self):
        code = """
import sys
from multiprocessing.connection import Client
with Client(sys.argv[1], authkey=b"test") as client:
    a = client.recv()
    a[:] = [v * 2 for v in a]
    client.send(a)
"""
        with connection.Listener(family="AF_UNIX", authkey=b"test") as listener:
            a = RawArray("i", [1, 2, 3])
            child = subprocess.Popen([sys.executable, "-c", code, listener.address],
                                     env=environment())
            with listener.accept() as peer:
                peer.send(a)
                b = peer.recv()
            self.assertEqual(child.wait(TIMEOUT), 0)
        self.assertEqual(list(a), [2, 4, 6])
        self.assertEqual(ctypes.addressof(b), ctypes.addressof(a))

    def test_thread_queue(self):
        """Not pickled at all."""
        a = RawArray("i", 3)
        through = queue.Queue()
        thread = threading.Thread(target=lambda: bump(through.get()))
        thread.start()
        through.put(a)
        thread.join()
        self.assertEqual(a[0], 5)

    @unittest.skipUnless(HAS_JOBLIB, "no joblib for this interpreter")
    def test_joblib(self):
        import joblib
        import test_sending

        for backend in ("loky", "multiprocessing"):
            with joblib.parallel_config(backend=backend, n_jobs=2):
                for (name, obj), (_, twin) in zip(test_sending.kinds(), test_sending.kinds()):
                    with self.subTest(backend=backend, kind=name):
                        # Two, as one is done here.
                        other = RawArray("i", 1)
                        said = joblib.Parallel()(
                            joblib.delayed(test_sending.bump)(one) for one in (obj, other))
                        self.assertEqual(said[0], test_sending.bump(twin))
                        self.assertEqual(contents(obj), contents(twin))
                        self.assertEqual(other[0], 5)


# --- what is in a pickle ----------------------------------------------------------------


class Payloads(unittest.TestCase):
    def test_same_mapping(self):
        for name, obj in kinds():
            with self.subTest(kind=name):
                again = pickle.loads(pickle.dumps(obj))
                self.assertIs(type(again), type(obj))
                before = contents(obj)
                bump(again)
                self.assertEqual(contents(obj), contents(again))
                if before:
                    self.assertNotEqual(contents(obj), before)

    def test_any_number_of_loads(self):
        a = RawArray("i", [1, 2, 3])
        data = pickle.dumps(a)
        loaded = [pickle.loads(data) for _ in range(100)]
        self.assertEqual({ctypes.addressof(b) for b in loaded}, {ctypes.addressof(a)})
        for _ in range(3):
            self.assertEqual(run("import pickle, sys\n"
                                 "print(list(pickle.load(sys.stdin.buffer)))", data),
                             b"[1, 2, 3]\n")

    def test_it_is_a_name(self):
        """Nothing of 8 MB is in the pickle."""
        for obj in (RawArray("q", 1_000_000), Array("q", 1_000_000)):
            self.assertLess(len(pickle.dumps(obj)), 1000)

    def test_identity(self):
        """What is one object in a pickle is one when it is loaded."""
        a = RawArray("i", 3)
        guarded = shmdev.synchronized(a)
        one, two, three = pickle.loads(pickle.dumps([a, a, guarded]))
        self.assertIs(one, two)
        self.assertIs(three.get_obj(), one)
        self.assertEqual(ctypes.addressof(one), ctypes.addressof(a))

    def test_later_payloads_are_refused(self):
        a = RawArray("i", 3)
        data = pickle.dumps(a, 2)
        for kind in ("data", "region"):
            with self.assertRaisesRegex(ValueError, f"'{kind}2'.*later version"):
                pickle.loads(data.replace(f"{kind}1".encode(), f"{kind}2".encode()))

    def test_payloads_of_this_version(self):
        """What is written now can be loaded for ever: names and fields are as here."""
        calls = []

        class Spy(pickle.Unpickler):
            def find_class(self, module, name):
                found = super().find_class(module, name)
                if not module.startswith("shmdev"):
                    return found
                calls.append((module, name))

                def load(kind, *fields):
                    calls.append((kind, [type(field).__name__ for field in fields]))
                    return found(kind, *fields)

                return load

        def seen(obj):
            calls.clear()
            Spy(io.BytesIO(pickle.dumps(obj))).load()
            return calls

        name = ("shmdev._sharing", "load")
        region = ("region1", ["bytes", "bool", "bytes", "int", "int"])
        self.assertEqual(seen(RawArray("i", 3)), [
            name, region, ("data1", ["PyCSimpleType", "int", "Region", "int"])])
        self.assertEqual(seen(RawArray("i", 3).region), [name, region, ("same1", ["Region"])])
        shared = type(RawArray("i", [1])).__name__
        self.assertEqual(seen(Array("i", 1)), [
            name, region, ("data1", ["PyCSimpleType", "int", "Region", "int"]),
            ("lock1", ["Region", "int"]), ("guarded1", [shared, "RLock"])])
        if HAS_NUMPY:
            made = shmdev.zeros((2, 3))
            self.assertEqual(seen(made), [
                name, region,
                ("array1", ["Region", "int", "tuple", "tuple", type(made.dtype).__name__, "bool"])])

    def test_broken_handles(self):
        a = RawArray("i", 3)
        handle = shmdev._shmdev.region_handle(a.region)
        self.assertIn(handle, pickle.dumps(a, 4))
        # A byte of it at a time: all are refused, or the same region.
        for index in range(len(handle)):
            broken = bytearray(handle)
            broken[index] ^= 0x40
            try:
                region, _, _ = shmdev._shmdev.attach(bytes(broken), False)
            except (OSError, ValueError):
                continue
            self.assertIs(region, a.region, index)
        for wrong in (b"", handle[:-1], handle + b"\0"):
            self.assertRaises(ValueError, shmdev._shmdev.attach, wrong, False)

    def test_private_data(self):
        made = type(RawArray("i", 3))(1, 2, 3)
        with self.assertRaisesRegex(TypeError, "not in shared memory"):
            pickle.dumps(made)

    def test_own_locks(self):
        """A lock that was handed in goes where it can, as ever."""
        context = multiprocessing.get_context("spawn")
        guarded = Array("i", 3, lock=context.Lock())
        with self.assertRaisesRegex(RuntimeError, "inheritance"):
            pickle.dumps(guarded)
        child = context.Process(target=bump, args=(guarded,))
        child.start()
        child.join(TIMEOUT)
        self.assertEqual((child.exitcode, guarded[0]), (0, 5))


if __name__ == "__main__":
    tap.main()
