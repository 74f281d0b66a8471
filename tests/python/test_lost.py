# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
"""What is on its way, and what is left when it does not arrive: nothing.

SHMDEV_STORM is how many rounds the storm has, each of which loses something else.
"""

import contextlib
import ctypes
import gc
import multiprocessing
import os
import pickle
import random
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
import unittest
from multiprocessing.reduction import ForkingPickler

import tap
import shmdev
from shmdev import RawArray, _holds, _sharing, _shmdev
from tap import THOROUGH

TIMEOUT = 60
ROUNDS = int(os.environ.get("SHMDEV_STORM", "600" if THOROUGH else "60"))
LARGE = 3 << 20     # such an array has a region of its own


def send_form(obj):
    """As multiprocessing's queues and pipes pickle."""
    return bytes(ForkingPickler.dumps(obj))


def descriptors():
    return len(os.listdir("/proc/self/fd"))


@contextlib.contextmanager
def hold_times(sent=600.0, pickled=10.0):
    shmdev.set_hold(sent, pickled)
    try:
        yield
    finally:
        shmdev.set_hold()


def forget_all():
    """Let go of all that is held."""
    gc.collect()
    shmdev.set_hold(0, 0)
    shmdev.set_hold()


def is_gone(data):
    try:
        pickle.loads(data)
    except FileNotFoundError:
        return True
    return False


def eventually(condition):
    deadline = time.monotonic() + TIMEOUT
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def child(function, *args):
    """The number of a child that runs function; it ends with 0 if that returns."""
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        function(*args)
        status = 0
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(status)


def interpreter(code, *args, **options):
    where = os.path.dirname(os.path.dirname(os.path.abspath(shmdev.__file__)))
    return subprocess.run([sys.executable, "-c", code, *args], capture_output=True,
                          env={**os.environ, "PYTHONPATH": where}, timeout=TIMEOUT, **options)


class Base(unittest.TestCase):
    def setUp(self):
        forget_all()

    def ended(self, pid, status=0):
        self.assertEqual(os.waitpid(pid, 0), (pid, status))


class Holds(Base):
    def test_until_it_is_loaded(self):
        for dumps in (pickle.dumps, send_form):
            data = dumps(RawArray("b", b"\1" * LARGE))
            gc.collect()
            self.assertGreaterEqual(_holds.held(), LARGE)
            loaded = pickle.loads(data)
            self.assertEqual(loaded[LARGE - 1], 1)
            self.assertEqual(_holds.held(), 0)
            del loaded
            gc.collect()
            self.assertRaises(FileNotFoundError, pickle.loads, data)

    def test_until_another_process_has_it(self):
        before = shmdev.info()
        data = send_form(RawArray("b", b"\2" * LARGE))

        def load():
            assert pickle.loads(data)[5] == 2

        self.ended(child(load))
        self.assertEqual(_holds.held(), 0)
        self.assertEqual(shmdev.info()[3:7], before[3:7])

    def test_large_memory_goes_without_being_asked(self):
        """Nobody here does anything when it was loaded there."""
        before = shmdev.info().region_bytes
        size = 40 << 20
        data = send_form(RawArray("b", size))
        gc.collect()
        self.assertGreaterEqual(shmdev.info().region_bytes, before + size)
        self.ended(child(lambda: pickle.loads(data)))
        self.assertTrue(eventually(lambda: shmdev.info().region_bytes < before + size))
        self.assertTrue(eventually(lambda: not [
            thread for thread in threading.enumerate() if thread.name == "shmdev-holds"]))

    def test_times(self):
        with hold_times(sent=600, pickled=0.05):
            one, other = RawArray("b", LARGE), RawArray("b", LARGE)
            if one.region is other.region:
                self.skipTest("huge pages: both are in one region, which stays with one of them")
            kept, lost = send_form(one), pickle.dumps(other)
            del one, other
            gc.collect()
            self.assertTrue(eventually(lambda: _holds.held() < 2 * LARGE))
            with self.assertRaisesRegex(FileNotFoundError, "the shared memory is gone"):
                pickle.loads(lost)
            pickle.loads(kept)
        with hold_times(sent=0):
            lost = send_form(RawArray("b", LARGE))
            gc.collect()
            self.assertEqual(_holds.held(), 0)
            # A thread that let go of it may have it still.
            self.assertTrue(eventually(lambda: is_gone(lost)))
        for wrong in (-1, float("nan")):
            self.assertRaises(ValueError, shmdev.set_hold, wrong)
            self.assertRaises(ValueError, shmdev.set_hold, 1, wrong)

    def test_the_first_is_sent_too(self):
        """The pickler was there before what registers with it."""
        done = interpreter("import shmdev; from multiprocessing.reduction import ForkingPickler\n"
                           "a = shmdev.RawArray('b', 10)\n"
                           "ForkingPickler.dumps(a)\n"
                           "print(shmdev._shmdev.holds_sweep(1 << 40)[1])")
        self.assertEqual((done.stdout, done.stderr), (b"True\n", b""))

    def test_where_the_first_was_sent(self):
        """What has the place of its frame later sends nothing for that."""
        before, _sharing._imported_by = _sharing._imported_by, id(sys._getframe())
        try:
            pickle.dumps(RawArray("b", 10))
        finally:
            _sharing._imported_by = before
        self.assertFalse(_shmdev.holds_sweep(1 << 40)[1])

    def test_not_more_than_a_share_of_the_machine(self):
        before, _holds._LIMIT = _holds._LIMIT, 10 * LARGE
        try:
            sent = [send_form(RawArray("b", LARGE)) for _ in range(30)]
            gc.collect()
            self.assertLessEqual(_holds.held(), 10 * LARGE)
            self.assertRaises(FileNotFoundError, pickle.loads, sent[0])
            self.assertEqual(len(pickle.loads(sent[-1])), LARGE)
        finally:
            _holds._LIMIT = before

    def test_more_than_there_are_slots(self):
        """The oldest give up theirs: they are held for their time, and no later one is."""
        _, _, size = _shmdev.attach(_holds.hold(RawArray("b", LARGE).region, True)[0], False)
        count = (size - 8) // 8
        self.assertGreater(count, 1000)
        lost = RawArray("i", [5])
        old = send_form(RawArray("b", LARGE))
        many = [send_form(lost) for _ in range(count + 10)]
        del lost
        gc.collect()
        before = _holds.held()
        for _ in range(20):
            self.assertEqual(len(pickle.loads(send_form(RawArray("b", LARGE)))), LARGE)
        gc.collect()
        self.assertEqual(_holds.held(), before)
        self.assertEqual({pickle.loads(data)[0] for data in many[::100] + many[-10:]}, {5})
        # Late, and of a slot that has been another's since: this takes nothing away from that.
        self.assertEqual(len(pickle.loads(old)), LARGE)
        self.assertEqual(len(pickle.loads(send_form(RawArray("b", LARGE)))), LARGE)
        forget_all()
        self.assertEqual(_holds.held(), 0)

    def test_alive_it_needs_no_hold(self):
        array = RawArray("b", LARGE)
        with hold_times(0, 0):
            data = send_form(array)
        array[7] = 7
        self.ended(child(lambda: self.assertEqual(pickle.loads(data)[7], 7)))

    def test_nonsense_in_the_ledger(self):
        """Others can write what they like there: nothing but a hold is lost."""
        one, other = RawArray("b", LARGE), RawArray("b", LARGE)
        if one.region is other.region:
            self.skipTest("huge pages: both are in one region, which stays with one of them")
        receipt = _holds.hold(one.region, True)
        region, offset, size = _shmdev.attach(receipt[0], False)
        ledger = memoryview(region)[offset:offset + size]
        slots = ledger[8:].cast("Q")
        for nonsense in (2**64 - 1, 2**63 - 1):
            for slot in range(len(slots)):
                slots[slot] = nonsense
            ledger[:4].cast("I")[0] = 2**32 - 1
            self.assertGreaterEqual(_holds.held(), LARGE)
        data = send_form(other)     # whose slot is as good as new
        del one, other
        gc.collect()
        self.assertGreaterEqual(_holds.held(), 2 * LARGE)
        self.assertEqual(len(pickle.loads(data)), LARGE)
        self.assertLess(_holds.held(), 2 * LARGE)
        del slots, ledger, region
        block = _shmdev.block(64)
        handle = _shmdev.handle(_shmdev.address(block))
        for slot in (-1, 7, 2**62):
            self.assertRaises(ValueError, _shmdev.arrived, handle, slot, 1)
        _shmdev.arrived(handle, 6, 1)
        self.assertEqual(memoryview(block).cast("Q")[7], 1)
        odd = _shmdev.handle(_shmdev.address(block) + 4)
        self.assertRaises(ValueError, _shmdev.arrived, odd, 0, 1)

    def test_late_receipt(self):
        """Who loads once more what was loaded does not undo what another has said since."""
        first = send_form(RawArray("b", LARGE))
        keep = pickle.loads(first)
        self.assertEqual(_holds.held(), 0)
        receipts = [_holds.hold(keep.region, True)]     # has the slot of the first now
        receipts.append(_holds.hold(keep.region, True))
        self.assertGreaterEqual(_holds.held(), LARGE)
        for receipt in receipts:
            _holds.arrived(*receipt)
        pickle.loads(first)
        self.assertEqual(_holds.held(), 0)
        # Or before the other has said it.
        receipt = _holds.hold(keep.region, True)
        pickle.loads(first)
        self.assertGreaterEqual(_holds.held(), LARGE)
        _holds.arrived(*receipt)
        self.assertEqual(_holds.held(), 0)

    def test_closed_region(self):
        """What was sent is there when its sender has closed the region."""
        array = RawArray("b", b"\3" * LARGE)
        region = array.region
        data = send_form(region)
        del array
        region.close()
        self.assertGreaterEqual(_holds.held(), LARGE)
        again = pickle.loads(data)
        self.assertEqual(memoryview(again)[LARGE - 1], 3)
        self.assertEqual(_holds.held(), 0)
        self.assertRaises(ValueError, _shmdev.hold, region, 1.0, True, 1 << 40)
        self.assertRaises(TypeError, _shmdev.hold, b"", 1.0, True, 1 << 40)

    def test_threads(self):
        """All send and load at the same time."""
        failed = []

        def work(number):
            try:
                for size in [100, LARGE] * 20:
                    array = RawArray("i", size // 4)
                    array[9] = number
                    data = send_form(array)
                    del array
                    if pickle.loads(data)[9] != number:
                        failed.append(number)
            except BaseException as error:
                failed.append(error)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(failed, [])
        self.assertEqual(_holds.held(), 0)

    def test_lost_payloads(self):
        array = RawArray("i", 3)
        send_form(array)
        before, open_before = shmdev.info(), descriptors()
        for _ in range(3000 if THOROUGH else 300):
            send_form(RawArray("i", 100))
        for _ in range(300 if THOROUGH else 30):
            send_form(RawArray("b", LARGE // 3))
        forget_all()
        after = shmdev.info()
        self.assertEqual(after.blocks, before.blocks)
        self.assertLessEqual(after.region_bytes, before.region_bytes + (8 << 20))
        self.assertLessEqual(descriptors(), open_before + 2)


class Interrupted(Base):
    """What sends, where another thing was being sent: handlers, finalizers; and Ctrl-C."""

    def test_handlers_that_send(self):
        code = """
import pickle, signal, sys, time
import shmdev
from multiprocessing.reduction import ForkingPickler
array = shmdev.RawArray("b", 3 << 20)
pickle.loads(bytes(ForkingPickler.dumps(array)))    # imports what can be imported once
calls = 0
def handle(*_):
    global calls
    calls += 1
    pickle.loads(bytes(ForkingPickler.dumps(array)))
    shmdev.set_hold(600, 10)
    # Not by itself: a slow machine would have one in the other, without end.
    signal.setitimer(signal.ITIMER_REAL, 0.0003)
signal.signal(signal.SIGALRM, handle)
signal.setitimer(signal.ITIMER_REAL, 0.0003)
end = time.monotonic() + float(sys.argv[1])
while time.monotonic() < end or calls < 20:
    pickle.loads(bytes(ForkingPickler.dumps(array)))
    shmdev.set_hold(600, 10)
signal.signal(signal.SIGALRM, signal.SIG_IGN)
print(shmdev._holds.held())
"""
        done = interpreter(code, "5" if THOROUGH else "1")
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, b"0\n", b""))

    def test_anywhere(self):
        """An exception, or a send, at each line of what holds; then all is as before."""
        array = RawArray("b", 20 << 20)
        region = array.region

        class Stop(BaseException):
            pass

        def send():
            receipt = _holds.hold(region, True)
            shmdev.set_hold(500, 5)
            _holds.held()
            _holds.arrived(*receipt)

        def at_line(number, action):
            """send(), and action before the number-th line of _holds; whether it has so many."""
            count = 0

            def trace(frame, event, arg):
                nonlocal count
                if frame.f_code.co_filename != _holds.__file__:
                    return None
                if event == "line":
                    count += 1
                    if count == number:
                        sys.settrace(None)
                        action()
                return trace

            _holds._keeper = None       # the one there is ends
            sys.settrace(trace)
            try:
                send()
            except Stop:
                pass
            finally:
                sys.settrace(None)
            return count >= number

        def stop():
            raise Stop

        for action in (send, stop):
            lines = 1
            while at_line(lines, action):
                lines += 1
                # Whoever comes next is held, let go, and has a keeper.
                data = send_form(array)
                self.assertTrue(_holds._keeper.is_alive())
                pickle.loads(data)
                shmdev.set_hold(0, 0)
                self.assertEqual(_holds.held(), 0)
                shmdev.set_hold()
            self.assertGreater(lines, 15)


class Limits(Base):
    def test_few_descriptors(self):
        """5,000 arrays in 64 descriptors, here and there."""
        count = 5000 if THOROUGH else 500

        def limited():
            resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
            arrays = [RawArray("i", [n]) for n in range(count)]
            arrays += [RawArray("b", LARGE) for n in range(60)]
            ours, theirs = socket.socketpair()

            def receive():
                ours.close()
                with theirs.makefile("rb") as file:
                    got = [pickle.load(file) for _ in range(len(arrays))]
                for array in got:
                    array[0] += 1

            pid = child(receive)
            theirs.close()
            for array in arrays:
                ours.sendall(send_form(array))
            self.assertEqual(os.waitpid(pid, 0), (pid, 0))
            self.assertEqual([a[0] for a in arrays], [*range(1, count + 1), *[1] * 60])

        self.ended(child(limited))

    def test_no_descriptor_for_a_payload(self):
        array = RawArray("b", LARGE)
        send_form(array)
        before = descriptors()
        sent = [send_form(array) for _ in range(100)]
        self.assertEqual(descriptors(), before)
        loaded = [pickle.loads(data) for data in sent]
        self.assertEqual(descriptors(), before)
        self.assertEqual({ctypes.addressof(a) for a in loaded}, {ctypes.addressof(array)})

    def test_none_left_to_receive(self):
        """An error, and later it works."""
        data = send_form(RawArray("b", LARGE))
        # One that does not have it: what is mapped needs no descriptor.
        code = f"import sys; sys.path[:0] = {sys.path!r}\nimport pickle, test_lost\n" \
            f"test_lost.load_limited({data!r})"
        done = interpreter(code)
        self.assertEqual((done.returncode, done.stderr), (0, b""))


def load_limited(data):
    soft = descriptors() + 3
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, 256))
    held = []
    try:
        while True:
            held.append(os.dup(1))
    except OSError:
        pass
    try:
        pickle.loads(data)
    except OSError as error:
        assert "Too many open files" in str(error), error
    else:
        raise AssertionError("no error")
    for fd in held:
        os.close(fd)
    assert len(pickle.loads(data)) == LARGE


def send_to_nobody(queue, seconds):
    _holds._EXIT_SECONDS = 10 * TIMEOUT
    shmdev.set_hold(seconds)
    queue.put(RawArray("b", LARGE))


class Ends(Base):
    """Processes that end, begin and fork."""

    def test_shutdown_in_any_order(self):
        code = """
import atexit, gc, pickle, random, sys, threading
import shmdev
from multiprocessing.reduction import ForkingPickler
random.seed(int(sys.argv[1]))
made = [shmdev.RawArray("i", 10), shmdev.RawArray("b", 3 << 20), shmdev.Array("i", 3),
        shmdev.Value("d", 1.5), shmdev.RawArray("i", 5).region,
        memoryview(shmdev.RawArray("b", 2 << 20)), shmdev._shmdev.block(100)]
try:
    made += [shmdev.zeros(5), shmdev.zeros((1000, 1000))[::2], shmdev.ones(3).T]
except ImportError:
    pass
made += [pickle.loads(ForkingPickler.dumps(one)) for one in made
         if not isinstance(one, memoryview) and type(one).__name__ != "Block"]
made.append(pickle.dumps(shmdev.RawArray("b", 20 << 20)))       # held, by a thread
made.append(threading.local())
random.shuffle(made)
for number, one in enumerate(made):
    where = random.randrange(5)
    if where == 0:
        globals()[f"a{number}"] = one
    elif where == 1:
        sys.modules[f"m{number}"] = one
    elif where == 2:
        cycle = [one]
        cycle.append(cycle)
    elif where == 3:
        atexit.register(lambda one=one: one)
    else:
        setattr(shmdev, f"a{number}", one)
del made, one
if random.random() < 0.3:
    for name in list(sys.modules):
        if name.startswith("shmdev") and random.random() < 0.3:
            del sys.modules[name]
"""
        for seed in range(40 if THOROUGH else 4):
            with self.subTest(seed=seed):
                done = interpreter(code, str(seed))
                self.assertEqual((done.returncode, done.stdout, done.stderr), (0, b"", b""))

    def test_end_without_a_receiver(self):
        """A process of multiprocessing waits for what it has sent, but not for ever."""
        for method in multiprocessing.get_all_start_methods():
            for seconds in (0, 0.3):
                with self.subTest(method=method, seconds=seconds):
                    context = multiprocessing.get_context(method)
                    lost = context.SimpleQueue()
                    process = context.Process(target=send_to_nobody, args=(lost, seconds))
                    process.start()
                    process.join(TIMEOUT)
                    if process.exitcode is None:
                        process.kill()
                        process.join()
                    self.assertEqual(process.exitcode, 0)
                    self.assertRaises(FileNotFoundError, lost.get)

    def test_others_inherit_nothing(self):
        """What is executed has no descriptor and no mapping of ours."""
        arrays = [RawArray("i", 10), RawArray("b", LARGE), shmdev.Array("i", 3)]
        data = send_form(arrays)
        for array in arrays:
            array[0] = 1
        ours = set()
        for fd in os.listdir("/proc/self/fd"):
            with contextlib.suppress(OSError):
                if any(word in os.readlink(f"/proc/self/fd/{fd}") for word in ("memfd", "shmdev")):
                    ours.add(fd)
                    self.assertFalse(os.get_inheritable(int(fd)))
        self.assertTrue(ours)
        seen = subprocess.run("ls -l /proc/self/fd; cat /proc/self/maps", shell=True,
                              close_fds=False, capture_output=True, text=True, check=True).stdout
        self.assertNotIn("memfd", seen)
        self.assertNotIn("/dev/shmdev", seen)
        del data

    def test_fork_of_many_threads(self):
        """Threads send, load and hold while others fork: the children can do it too."""
        stop = threading.Event()
        failed = []

        def work():
            lost = 1000     # each stays in some region for its time, and huge pages are few
            try:
                while not stop.is_set():
                    data = send_form(RawArray("b", LARGE))
                    if lost:
                        send_form(RawArray("i", 10))
                        lost -= 1
                    pickle.loads(data)
                    with shmdev.Value("i") as number:
                        del number
            except BaseException as error:
                failed.append(error)

        def use():
            data = send_form([RawArray("i", [1]), shmdev.Value("i", 2)])
            gc.collect()
            one, two = pickle.loads(data)
            assert one[0] == 1 and two.value == 2
            with two:
                two.value += 1
            shmdev.set_hold(1, 1)

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        try:
            for _ in range(100 if THOROUGH else 10):
                pid = child(use)
                deadline = time.monotonic() + TIMEOUT
                while True:
                    done, status = os.waitpid(pid, os.WNOHANG)
                    if done:
                        break
                    if time.monotonic() > deadline:
                        os.kill(pid, signal.SIGKILL)
                        os.waitpid(pid, 0)
                        self.fail("a child hangs")
                    time.sleep(0.002)
                self.assertEqual(status, 0)
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        self.assertEqual(failed, [])

    def test_what_the_parent_holds_is_not_held_by_the_child(self):
        data = send_form(RawArray("b", LARGE))
        gc.collect()

        def look():
            assert _holds.held() == 0
            more = send_form(RawArray("b", LARGE))
            gc.collect()
            assert LARGE <= _holds.held() < 2 * LARGE
            assert pickle.loads(data) and pickle.loads(more)

        self.ended(child(look))
        self.assertEqual(_holds.held(), 0)


# --- storms -------------------------------------------------------------------------------


def memory_in_use():
    """Bytes of the machine that arrays may have; others use the same."""
    with open("/proc/meminfo") as file:
        fields = {line.split(":")[0]: int(line.split()[1]) for line in file}
    backend = shmdev.info().backend
    if backend == "hugetlb":
        return (fields["HugePages_Total"] - fields["HugePages_Free"] +
                fields["HugePages_Rsvd"]) * fields["Hugepagesize"] << 10
    if backend == "device":
        with open("/sys/class/misc/shmdev/region_bytes") as file:
            return int(file.read())
    return fields["Shmem"] << 10


SIZES = (1, 300, 70_000, LARGE)


def send_some(sock, seed, count):
    """Send arrays and forget them; each is full of a byte that its length tells."""
    chance = random.Random(seed)
    for _ in range(count):
        size = chance.choice(SIZES) + chance.randrange(50)
        sock.send(send_form(RawArray("B", bytes([size % 251]) * size)))


def load_some(sock, count, times=1, everything=False):
    """Load what comes, and look at it.  What is gone by then may be, unless everything."""
    for _ in range(count):
        data = sock.recv(1 << 16)
        if not data:
            assert not everything
            return
        try:
            loaded = [pickle.loads(data) for _ in range(times)]
        except FileNotFoundError:
            if everything:
                raise
            continue
        for array in loaded:
            value = len(array) % 251
            assert array[0] == array[len(array) - 1] == array[len(array) // 2] == value


class Storm(Base):
    """One sends, one receives, and one of them, or both, or what was sent, is lost."""

    def double_load(self, chance):
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with ours, theirs:
            pid = child(load_some, theirs, 3, 2, True)
            send_some(ours, chance.random(), 3)
            self.ended(pid)

    def lost_payload(self, chance):
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with ours, theirs:
            send_some(ours, chance.random(), chance.randrange(1, 4))

    def receiver_dies(self, chance):
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with ours, theirs:
            pid = child(load_some, theirs, 1000)
            send_some(ours, chance.random(), chance.randrange(1, 4))
            self.kill(chance, pid)

    def sender_dies(self, chance):
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with ours:
            pid = child(send_some, theirs, chance.random(), 20)
            theirs.close()
            self.kill(chance, pid)
            load_some(ours, 1000)

    def both_die(self, chance):
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with ours, theirs:
            pids = [child(send_some, theirs, chance.random(), 20), child(load_some, ours, 1000)]
            chance.shuffle(pids)
            self.kill(chance, *pids)

    def kill(self, chance, *pids):
        time.sleep(chance.random() * chance.choice((0, 0.001, 0.005)))
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        for pid in pids:
            _, status = os.waitpid(pid, 0)
            self.assertIn(status, (0, signal.SIGKILL))

    def test_storm(self):
        seed = int(os.environ.get("SHMDEV_SEED", "20251125"))
        chance = random.Random(seed)
        rounds = [self.double_load, self.lost_payload, self.receiver_dies, self.sender_dies,
                  self.both_die]
        for one in rounds:      # what stays for ever is there
            one(chance)
        forget_all()
        before, opened, memory = shmdev.info(), descriptors(), memory_in_use()
        begun = time.monotonic()
        done = dict.fromkeys((one.__name__ for one in rounds), 0)
        for number in range(ROUNDS):
            one = chance.choice(rounds)
            one(chance)
            done[one.__name__] += 1
            if number % 200 == 199:
                forget_all()
            if time.monotonic() - begun > 120 and "SHMDEV_STORM" not in os.environ:
                break
        forget_all()
        after = shmdev.info()
        print(f"# seed {seed}: {done} in {time.monotonic() - begun:.0f} s", flush=True)
        print(f"# before: {before[3:7]} {opened} descriptors", flush=True)
        print(f"# after:  {after[3:7]} {descriptors()} descriptors", flush=True)
        self.assertGreater(sum(done.values()), 20)
        self.assertEqual(after.blocks, before.blocks)
        self.assertEqual(after.block_bytes, before.block_bytes)
        self.assertLessEqual(after.regions, before.regions + 1)
        self.assertLessEqual(descriptors(), opened + 1)
        self.assertTrue(eventually(lambda: memory_in_use() <= memory + (32 << 20)),
                        (memory, memory_in_use()))


if __name__ == "__main__":
    tap.main()
