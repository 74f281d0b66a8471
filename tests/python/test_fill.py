# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
"""Files into arrays."""

import ctypes
import errno
import os
import random
import signal
import socket
import tempfile
import threading
import unittest

import tap
from shmdev import RawArray, RawValue, drain, drain_batch, fill, fill_batch
from stock import numpy


class Files(unittest.TestCase):
    SIZE = 3_000_001

    @classmethod
    def setUpClass(cls):
        cls.data = random.Random(5).getrandbits(8 * cls.SIZE).to_bytes(cls.SIZE, "little")
        cls.file = tempfile.TemporaryFile()
        cls.file.write(cls.data)
        cls.file.flush()

    @classmethod
    def tearDownClass(cls):
        cls.file.close()

    def test_whole(self):
        a = RawArray("B", self.SIZE)
        self.assertEqual(fill(a, self.file), self.SIZE)
        self.assertEqual(bytes(a), self.data)

    def test_descriptor_and_offset(self):
        a = RawArray("i", 1000)
        self.assertEqual(fill(a, self.file.fileno(), 12345), 4000)
        self.assertEqual(bytes(a), self.data[12345:16345])
        self.assertEqual(fill(a, self.file, offset=1), 4000)
        self.assertEqual(bytes(a), self.data[1:4001])

    def test_parts_of_arrays(self):
        a = RawArray("B", 1000)
        self.assertEqual(fill(memoryview(a)[100:200], self.file), 100)
        self.assertEqual(bytes(a), bytes(100) + self.data[:100] + bytes(800))
        value = RawValue("Q")
        self.assertEqual(fill(value, self.file, 8), 8)
        self.assertEqual(value.value.to_bytes(8, "little"), self.data[8:16])
        self.assertEqual(fill(RawArray("i", 0), self.file), 0)
        self.assertEqual(fill(memoryview(a)[:0], self.file), 0)

    @unittest.skipUnless(numpy, "no numpy for this interpreter")
    def test_numpy_view(self):
        a = RawArray("B", 5000)
        fill(numpy.asarray(a)[1000:2000], self.file)
        self.assertEqual(bytes(a)[1000:2000], self.data[:1000])
        with self.assertRaises((ValueError, BufferError)):
            fill(numpy.asarray(a)[::2], self.file)

    def test_end_of_file(self):
        a = RawArray("B", 1000)
        self.assertEqual(fill(a, self.file, self.SIZE - 10), 10)
        self.assertEqual(bytes(a), self.data[-10:] + bytes(990))
        self.assertEqual(fill(a, self.file, self.SIZE), 0)
        self.assertEqual(fill(a, self.file, self.SIZE + 10**9), 0)

    def test_batch(self):
        chance = random.Random(6)
        arrays, requests, expected = [], [], []
        for _ in range(300):
            length = chance.randrange(1, 40_000)
            offset = chance.randrange(self.SIZE + 1000)
            arrays.append(RawArray("B", length))
            requests.append((arrays[-1], self.file, offset))
            expected.append(self.data[offset:offset + length])
        self.assertEqual(fill_batch(iter(requests)), [len(e) for e in expected])
        for a, e in zip(arrays, expected):
            self.assertEqual(bytes(a)[:len(e)], e)
            self.assertFalse(any(a[len(e):]))
        self.assertEqual(fill_batch([]), [])

    def test_errors_of_some(self):
        a, b = RawArray("B", 100), RawArray("B", 100)
        closed = 1_000_000  # beyond what a process may have
        with tempfile.TemporaryDirectory() as directory:
            folder = os.open(directory, os.O_RDONLY)
            try:
                requests = [(a, self.file, 0), (a, closed, 0), (bytearray(10), self.file, 0),
                            (b, folder, 0), (b, self.file, 100)]
                results = fill_batch(requests, return_exceptions=True)
                self.assertEqual(
                    [r.errno if isinstance(r, OSError) else r for r in results],
                    [100, errno.EBADF, errno.EFAULT, errno.EISDIR, 100],
                )
                self.assertIsInstance(results[3], IsADirectoryError)
                for result in results[1:4]:
                    self.assertIn("shm_fill: ", str(result))
                ctypes.memset(b, 0, 100)
                with self.assertRaises(OSError) as caught:
                    fill_batch(requests)
                self.assertEqual(caught.exception.errno, errno.EBADF)
            finally:
                os.close(folder)
        self.assertEqual(bytes(b), self.data[100:200], "the others are done nonetheless")

    def test_bad_arguments(self):
        a = RawArray("B", 100)
        self.assertRaises(ValueError, fill, a, self.file, -1)
        self.assertRaises(OverflowError, fill, a, self.file, 2**63)
        self.assertRaises(TypeError, fill, a, self.file, 1.5)
        self.assertRaises(TypeError, fill, 5, self.file)
        self.assertRaises((TypeError, BufferError), fill, b"readonly", self.file)
        self.assertRaises((TypeError, BufferError), fill, memoryview(a).toreadonly(), self.file)
        self.assertRaises(BufferError, fill, memoryview(a)[::2], self.file)
        self.assertRaises((TypeError, AttributeError), fill, a, "name")
        self.assertRaises((OverflowError, OSError), fill, a, 2**40)
        self.assertRaises(OSError, fill, a, -1)
        self.assertRaises((TypeError, ValueError), fill_batch, [(a, self.file)])
        self.assertRaises(TypeError, fill_batch, 5)
        self.assertEqual(bytes(a), bytes(100))

    def test_beyond_the_array(self):
        # A window that begins in an array and ends outside of it is nobody's.
        a = RawArray("B", 64)
        wide = (ctypes.c_byte * (1 << 30)).from_address(ctypes.addressof(a))
        with self.assertRaises(OSError) as caught:
            fill(wide, self.file)
        self.assertEqual(caught.exception.errno, errno.EFAULT)
        self.assertIn("not in shared memory", str(caught.exception))

    def test_name_of_a_file(self):
        self.assertRaisesRegex(TypeError, "descriptor or a file, not str", fill,
                               RawArray("B", 1), "/dev/zero")

    def test_current_position(self):
        with tempfile.TemporaryFile(buffering=0) as file:
            file.write(self.data[:1000])
            file.seek(10)
            a, b = RawArray("B", 100), RawArray("B", 2000)
            self.assertEqual(fill(a, file, None), 100)
            self.assertEqual(bytes(a), self.data[10:110])
            self.assertEqual(file.tell(), 110)
            self.assertEqual(fill_batch([(a, file, None), (b, file, None)]), [100, 790])
            self.assertEqual(bytes(a), self.data[110:210])
            self.assertEqual(bytes(b)[:790], self.data[210:1000])


class Streams(unittest.TestCase):
    def test_pipe(self):
        data = os.urandom(300_000)
        read, write = os.pipe()

        def feed():
            with open(write, "wb") as pipe:
                pipe.write(data)

        thread = threading.Thread(target=feed)
        thread.start()
        try:
            a, b = RawArray("B", 200_000), RawArray("B", 200_000)
            # More than a pipe holds: without the GIL the writer gets on.
            self.assertEqual(fill(a, read, None), 200_000)
            self.assertEqual(fill(b, read, None), 100_000)
            self.assertEqual(bytes(a) + bytes(b)[:100_000], data)
        finally:
            os.close(read)
            thread.join()

    def test_offset_of_a_pipe(self):
        read, write = os.pipe()
        try:
            with self.assertRaises(OSError) as caught:
                fill(RawArray("B", 1), read, 0)
            self.assertEqual(caught.exception.errno, errno.ESPIPE)
            self.assertIn("offset must be None", str(caught.exception))
        finally:
            os.close(read)
            os.close(write)

    def test_socket(self):
        here, there = socket.socketpair()
        with here, there:
            there.sendall(b"hello")
            there.shutdown(socket.SHUT_WR)
            a = RawArray("c", 10)
            self.assertEqual(fill(a, here, None), 5)
            self.assertEqual(a.value, b"hello")

    def test_nothing_there_yet(self):
        read, write = os.pipe2(os.O_NONBLOCK)
        try:
            with self.assertRaises(BlockingIOError):
                fill(RawArray("B", 1), read, None)
        finally:
            os.close(read)
            os.close(write)


class Drains(unittest.TestCase):
    def test_whole(self):
        data = os.urandom(2_000_003)
        a = RawArray("B", data)
        with tempfile.TemporaryFile() as file:
            self.assertEqual(drain(a, file), len(data))
            self.assertEqual(drain(memoryview(a)[5:10], file, len(data), sync=True), 5)
            self.assertEqual(file.read(), data + data[5:10])
            b = RawArray("B", len(data) + 5)
            self.assertEqual(fill(b, file), len(data) + 5)
            self.assertEqual(bytes(b), data + data[5:10])

    def test_readonly_view(self):
        a = RawArray("c", b"hello")
        with tempfile.TemporaryFile() as file:
            self.assertEqual(drain(memoryview(a).toreadonly(), file), 5)
            self.assertEqual(file.read(), b"hello")

    def test_batch(self):
        chance = random.Random(8)
        pieces = [chance.randbytes(chance.randrange(1, 30_000)) for _ in range(200)]
        expected, requests = b"", []
        with tempfile.TemporaryFile() as file:
            for piece in pieces:
                requests.append((RawArray("B", piece), file, len(expected)))
                expected += piece
            chance.shuffle(requests)
            counts = drain_batch(requests, sync=True)
            self.assertEqual(counts, [len(a) for a, _, _ in requests])
            self.assertEqual(file.read(), expected)
        self.assertEqual(drain_batch([]), [])

    def test_errors_of_some(self):
        a = RawArray("c", b"hello")
        with tempfile.TemporaryFile() as file, open("/dev/full", "wb") as full:
            requests = [(a, full, None), (a, file, 0), (b"private", file, 5)]
            results = drain_batch(requests, return_exceptions=True)
            self.assertEqual(
                [r.errno if isinstance(r, OSError) else r for r in results],
                [errno.ENOSPC, 5, errno.EFAULT],
            )
            self.assertIn("shm_drain: ", str(results[0]))
            self.assertEqual(file.read(), b"hello")
            with self.assertRaises(OSError) as caught:
                drain_batch(requests)
            self.assertEqual(caught.exception.errno, errno.ENOSPC)

    def test_no_reader(self):
        read, write = os.pipe()
        os.close(read)
        try:
            self.assertRaises(BrokenPipeError, drain, RawArray("B", 5), write, None)
        finally:
            os.close(write)

    def test_bad_arguments(self):
        a = RawArray("B", 100)
        with tempfile.TemporaryFile() as file:
            self.assertRaises(ValueError, drain, a, file, -1)
            self.assertRaises(TypeError, drain, 5, file)
            self.assertRaises((TypeError, AttributeError), drain, a, "name")
            self.assertRaises(BufferError, drain, memoryview(a)[::2], file)
            self.assertRaises(TypeError, drain, a, file, 0, True)
            self.assertEqual(file.read(), b"")


class Impatient(Exception):
    pass


class Signals(unittest.TestCase):
    """Handlers run while a fill waits; it goes on after those that do not raise."""

    def setUp(self):
        self.calls, self.patience = 0, 3
        before = signal.signal(signal.SIGALRM, self.handler)
        self.addCleanup(signal.signal, signal.SIGALRM, before)
        signal.setitimer(signal.ITIMER_REAL, 0.03, 0.03)
        self.addCleanup(signal.setitimer, signal.ITIMER_REAL, 0)

    def handler(self, number, frame):
        self.calls += 1
        if self.calls == self.patience:
            raise Impatient

    def pipe(self):
        ends = os.pipe()
        for end in ends:
            self.addCleanup(os.close, end)
        return ends

    def test_silent_pipe(self):
        read, write = self.pipe()
        a = RawArray("c", 10)
        os.write(write, b"hello")
        with self.assertRaises(Impatient):
            fill(a, read, None)
        self.assertEqual(self.calls, 3)
        self.assertEqual(a.value, b"hello")

    def test_silent_pipes(self):
        (one, _), (other, _) = self.pipe(), self.pipe()
        with tempfile.TemporaryFile() as file, self.assertRaises(Impatient):
            fill_batch([(RawArray("B", 1), one, None), (RawArray("B", 1), other, None),
                        (RawArray("B", 1), file, 0)])

    def test_full_pipe(self):
        _, write = self.pipe()
        with self.assertRaises(Impatient):
            drain(RawArray("B", 1_000_000), write, None)

    def test_nothing_is_lost(self):
        self.patience = -1
        data = os.urandom(400)
        read, write = self.pipe()

        def feed():
            for at in range(0, 400, 20):
                os.write(write, data[at:at + 20])
                threading.Event().wait(0.01)

        thread = threading.Thread(target=feed)
        thread.start()
        a, b = RawArray("B", 150), RawArray("B", 250)
        self.assertEqual(fill_batch([(a, read, None), (b, read, None)]), [150, 250])
        thread.join()
        self.assertEqual(bytes(a) + bytes(b), data)
        self.assertGreater(self.calls, 2)


if __name__ == "__main__":
    tap.main()
