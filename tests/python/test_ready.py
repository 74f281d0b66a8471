# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
"""Memory that is ready before it is asked for."""

import ctypes
import os
import subprocess
import sys
import unittest

import tap
import shmdev

MIB = 1 << 20


@unittest.skipIf(shmdev.info().backend == "device", "the device has ready memory of its own")
class Ready(unittest.TestCase):
    def tearDown(self):
        shmdev.ready_stop()

    def test_off_by_default(self):
        info = shmdev.ready_info()
        self.assertEqual((info.limit, info.bytes, info.regions), (0, 0, 0))
        with self.assertRaises(RuntimeError):
            shmdev.ready_wait()
        shmdev.ready_stop()

    def test_an_array_of_ready_memory(self):
        shmdev.ready_start(64 * MIB, 16 * MIB)
        for _ in range(3):
            self.assertTrue(shmdev.ready_wait(60))
            before = shmdev.ready_info()
            self.assertEqual(before.bytes, 16 * MIB)
            array = shmdev.RawArray(ctypes.c_int, 4 * MIB)
            self.assertEqual(shmdev.ready_info().hits, before.hits + 1)
            view = memoryview(array).cast("B")
            self.assertEqual(bytes(view), bytes(16 * MIB))
            view[:] = b"x" * (16 * MIB)
            view.release()
            del array
        self.assertGreater(shmdev.ready_info().cpu_seconds, 0)

    def test_numbers_that_cannot_be(self):
        for limit, size in ((0, 0), (-1, 0), (MIB, -1), (MIB, 2 * MIB), (MIB, 1), (sys.maxsize, 0)):
            with self.subTest(limit=limit, size=size), self.assertRaises(ValueError):
                shmdev.ready_start(limit, size)
        with self.assertRaises(OverflowError):
            shmdev.ready_start(1 << 64)
        for wrong in ("1", None, 1.5):
            with self.assertRaises(TypeError):
                shmdev.ready_start(wrong)
        self.assertEqual(shmdev.ready_info().limit, 0)

    def test_a_wait_can_end(self):
        shmdev.ready_start(512 * MIB, 256 * MIB)
        self.assertIn(shmdev.ready_wait(0), (True, False))
        self.assertTrue(shmdev.ready_wait(60))

    def test_a_child_has_none(self):
        shmdev.ready_start(32 * MIB, 8 * MIB)
        self.assertTrue(shmdev.ready_wait(60))
        child = os.fork()
        if not child:
            info = shmdev.ready_info()
            os._exit(info != (0, 0, 0, 0, 0, 0, 0, 0.0))
        self.assertEqual(os.waitpid(child, 0)[1], 0)
        self.assertEqual(shmdev.ready_info().bytes, 8 * MIB)

    def test_environment(self):
        code = (
            "import shmdev, ctypes\n"
            "for _ in range(2):\n"
            "    shmdev.RawArray(ctypes.c_char, 8 << 20)\n"
            "    assert shmdev.ready_wait(60)\n"
            "print(shmdev.ready_info()[:5])"
        )
        env = {**os.environ, "SHMDEV_READY": "64M",
               "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
        done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True,
                              text=True, timeout=120)
        self.assertEqual(done.stderr, "")
        self.assertEqual(done.stdout.strip(), str((64 << 20, 8 << 20, 1, 1, 1)))


if __name__ == "__main__":
    tap.main()
