# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
"""The programs of lib/python/examples run, each with what it is an example for.

They assert what they show.  What comes from PyPI is skipped where it is missing, and make
check-extras has it.
"""

import os
import subprocess
import sys
import textwrap
import unittest

import tap
import shmdev

EXAMPLES = os.path.join(
    os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))),
    "lib", "python", "examples")
PACKAGES = os.path.dirname(os.path.dirname(os.path.abspath(shmdev.__file__)))

# /dev/shm as small as containers have it.
SMALL = ["unshare", "--map-root-user", "--mount", "sh", "-c",
         'mount -t tmpfs -o size=8m tmpfs /dev/shm && exec "$@"', "sh"]
# Two machines as far as dask can see: 10.99.0.1, and $FAR at 10.99.0.2.
MACHINES = ["unshare", "--map-root-user", "--net", "--pid", "--fork", "--kill-child", "--mount-proc",
            "sh", "-c", """
    unshare --net sleep infinity &
    export FAR=$!
    while [ "$(readlink /proc/$FAR/ns/net)" = "$(readlink /proc/self/ns/net)" ]; do :; done
    far() { nsenter --net --target $FAR "$@"; }
    ip link add near type veth peer name far netns $FAR &&
    ip link set lo up && ip addr add 10.99.0.1/24 dev near &&
    ip link set near up && far ip link set lo up && far ip addr add 10.99.0.2/24 dev far &&
    far ip link set far up && "$@"
    """, "sh"]


class Examples(unittest.TestCase):
    def need(self, *modules):
        for module in modules:
            if tap.extra(module) is None:
                self.skipTest(f"no {module} for this interpreter")

    def python(self, *argv, within=()):
        if within and subprocess.run([*within, "true"], capture_output=True, check=False).returncode:
            self.skipTest("no namespaces for this user")
        done = subprocess.run([*within, sys.executable, *argv], capture_output=True, text=True,
                              timeout=300, env={**os.environ, "PYTHONPATH": PACKAGES}, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertTrue(done.stdout)
        return done.stdout

    def example(self, name, *modules, within=()):
        self.need("numpy", *modules)
        self.python(os.path.join(EXAMPLES, name), within=within)

    def test_all_are_here(self):
        tested = {name[len("test_"):] + ".py" for name in dir(self) if name.startswith("test_")}
        self.assertLessEqual(set(os.listdir(EXAMPLES)), tested)

    def test_numpy_out(self):
        self.example("numpy_out.py")

    def test_pool_map(self):
        self.example("pool_map.py")

    def test_process_pool(self):
        self.example("process_pool.py")

    def test_with_joblib(self):
        self.example("with_joblib.py", "joblib")

    def test_with_sklearn(self):
        self.example("with_sklearn.py", "sklearn")

    def test_with_pyarrow(self):
        self.example("with_pyarrow.py", "pyarrow")

    def test_with_torch(self):
        self.example("with_torch.py", "torch", within=SMALL)

    def test_with_dask(self):
        self.example("with_dask.py", "distributed")

    def test_dask_between_machines(self):
        """Bytes go between machines, references within one, and neither by the scheduler."""
        self.need("numpy", "distributed")
        printed = self.python("-c", textwrap.dedent("""
            import asyncio, os, sys, shmdev.dask
            from asyncio.subprocess import DEVNULL, create_subprocess_exec
            from dask.distributed import Client, Nanny, Scheduler

            def produce():
                return shmdev.arange(1000)

            def change(a):
                assert isinstance(a, shmdev.ndarray)
                a[0] += 1
                return int(a[0])

            def start_far(name, scheduler):
                return create_subprocess_exec(
                    "nsenter", "--net", "--target", os.environ["FAR"], sys.executable, "-m",
                    "distributed.cli.dask_worker", scheduler.address, "--name", name,
                    "--host", "10.99.0.2", "--nthreads", "1", "--no-dashboard",
                    "--preload", "shmdev.dask", stderr=DEVNULL)

            async def main():
                async with Scheduler(host="10.99.0.1", dashboard_address=":0") as scheduler:
                    far = [await start_far(name, scheduler) for name in ("a", "b")]
                    async with Nanny(scheduler.address, name="near", nthreads=1,
                                     host="10.99.0.1", preload=["shmdev.dask"]), \\
                               Client(scheduler.address, asynchronous=True) as client:
                        async def changed(a, worker):
                            return await client.submit(change, a, workers=[worker], pure=False)

                        await client.wait_for_workers(3)
                        made = client.submit(produce, workers=["a"])
                        print(*[await changed(made, worker) for worker in ("a", "b", "near", "a")])
                        made = client.submit(produce, workers=["near"], pure=False)
                        here = await made
                        assert isinstance(here, shmdev.ndarray)
                        here[0] = 99
                        print(await changed(made, "near"))
                    for worker in far:
                        worker.terminate()
                        await worker.wait()

            if __name__ == "__main__":
                asyncio.run(main())
            """), within=MACHINES)
        # a and b have the same memory; near changes its own, made of what they had then.
        self.assertEqual(printed, "1 2 3 3\n1\n")


if __name__ == "__main__":
    tap.main()
