# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
"""Several threads at a time, which is worth most on a Python without a GIL."""

import array
import ctypes
import os
import sys
import sysconfig
import threading
import unittest

import tap
import shmdev
from shmdev import RawArray, RawValue, _classes, _shmdev
from stock import Point
from tap import THOROUGH

THREADS = 4
TURNS = 400 if THOROUGH else 40


def together(work, count=THREADS):
    """Run work(number) in threads that begin at one moment; what they returned."""
    barrier = threading.Barrier(count)
    results = [None] * count

    def run(number):
        barrier.wait()
        try:
            results[number] = work(number)
        except BaseException as error:
            results[number] = error

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return results


class Threads(unittest.TestCase):
    def setUp(self):
        self.addCleanup(sys.setswitchinterval, sys.getswitchinterval())
        sys.setswitchinterval(1e-6)

    def test_no_gil_is_needed(self):
        """Importing the package has not brought the GIL back."""
        if not sysconfig.get_config_var("Py_GIL_DISABLED") or os.environ.get("PYTHON_GIL"):
            self.skipTest("this interpreter has its GIL")
        self.assertFalse(sys._is_gil_enabled())

    def test_one_object_for_a_region(self):
        """Found, opened and let go again by all at once: what is held is one object."""
        data = RawArray("b", 5 << 20)
        address = ctypes.addressof(data)
        fd = os.dup(_shmdev.region_locate(address)[0].fileno())
        self.addCleanup(os.close, fd)

        def work(number):
            wrong = 0
            for _ in range(50 * TURNS):
                first = _shmdev.region_locate(address)[0]
                wrong += _shmdev.region_open(fd) is not first
                del first
            return wrong

        self.assertEqual(together(work), [0] * THREADS)

    def test_closing(self):
        """Who has a view keeps the region open, whoever wants to close it."""
        data = RawArray("b", 5 << 20)
        data[:4] = b"abcd"
        address = ctypes.addressof(data)

        def work(number):
            refused = 0
            for _ in range(10 * TURNS):
                region, offset = _shmdev.region_locate(address)
                try:
                    view = memoryview(region)[offset : offset + 4]
                except (ValueError, BufferError):   # somebody closed it in between
                    continue
                self.assertEqual(view.tobytes(), b"abcd")
                try:
                    region.close()
                except BufferError:
                    refused += 1
                self.assertEqual(view.tobytes(), b"abcd")
                del view
                try:
                    region.close()
                except BufferError:
                    pass
            return refused

        self.assertGreater(sum(together(work)), 0)

    def test_one_class_for_a_length(self):
        held = [None] * THREADS
        barrier = threading.Barrier(THREADS)

        def work(number):
            wrong = 0
            for turn in range(TURNS):
                barrier.wait()
                held[number] = RawArray("h", 20_000 + turn)
                barrier.wait()
                wrong += any(type(other) is not type(held[number]) for other in held)
            return wrong

        self.assertEqual(together(work), [0] * THREADS)

    def test_classes_come_and_go(self):
        def work(number):
            for turn in range(TURNS * 5):
                self.assertEqual(len(RawArray("i", turn % 7)), turn % 7)
                self.assertEqual(RawValue(Point, turn, 1.5).x, turn)
                _classes.entry(ctypes.c_short, turn)

        together(work)

    def test_a_list_that_changes(self):
        """Of a list that others change, an array gets items it had, or is refused."""
        source = [7] * 1000
        a = [RawArray("i", 1000) for _ in range(THREADS)]

        def work(number):
            if number == 0:
                for turn in range(TURNS * 5):
                    source.append(9)
                    source[turn % 1000] = 2**70 + 7
                    source.pop()
                return
            for _ in range(TURNS):
                # Its length is asked for first, in multiprocessing as here.
                try:
                    a[number][:] = source
                    self.assertLessEqual(set(RawArray("i", source)), {0, 7, 9})
                except (ValueError, IndexError):
                    continue
                self.assertLessEqual(set(a[number]), {0, 7, 9})

        together(work)

    def test_one_array(self):
        """Items are not torn, by whatever way they come."""
        a = RawArray("i", 4096)
        words = (0, 0x01010101, 0x02020202, 0x03030303)
        sources = [[word] * 4096 for word in words]
        sources += [array.array("q", source) for source in sources]

        def work(number):
            for turn in range(TURNS):
                a[:] = sources[(number + turn) % len(sources)]
                self.assertLessEqual(set(a[::41]), set(words))

        together(work)

    def test_guarded(self):
        total = shmdev.Value("q", 0)
        numbers = shmdev.Array("q", 8)

        def work(number):
            for _ in range(TURNS):
                with total:
                    total.value += 1
                with numbers:
                    numbers[:] = [n + 1 for n in numbers.get_obj()]

        together(work)
        self.assertEqual(total.value, THREADS * TURNS)
        self.assertEqual(numbers[:], [THREADS * TURNS] * 8)

    def test_fork_beside_threads(self):
        """A child can make classes and arrays whatever other threads were doing."""
        stop = threading.Event()

        def work(number):
            if number:
                while not stop.is_set():
                    RawArray("i", 30_000 + threading.get_ident() % 1000)
                    _classes.entry(ctypes.c_int, id(object()) % 5000)
                return None
            try:
                for _ in range(20 if THOROUGH else 3):
                    pid = os.fork()
                    if not pid:
                        status = 1
                        try:
                            RawArray("i", [1, 2, 3])
                            _classes.entry(ctypes.c_long, 12_345)
                            status = 0
                        finally:
                            os._exit(status)
                    self.assertEqual(os.waitpid(pid, 0)[1], 0)
            finally:
                stop.set()

        together(work, 3)


if __name__ == "__main__":
    tap.main()
