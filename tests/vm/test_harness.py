#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
"""The virtual machine's own tests: that its verdict can be believed.

SHMDEV_VM_KERNEL is a directory that tests/fetch kernel printed.
"""

import concurrent.futures
import hashlib
import os
import re
import select
import signal
import subprocess
import sys
import tempfile
import time
import traceback

TESTS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
KERNEL = os.environ['SHMDEV_VM_KERNEL']
FAILED = 125

_cases = []


def case(function):
    _cases.append(function)
    return function


def release():
    with open(f'{KERNEL}/release', encoding='ascii') as file:
        return file.read().strip()


class Run:
    """A command in a machine: its status, its output, what the harness said."""

    def __init__(self, command, *options, module=False, timeout=120):
        self.log_directory = tempfile.TemporaryDirectory()
        self.log = f'{self.log_directory.name}/kernel.log'
        arguments = [f'{TESTS}/vm/run', '--kernel', KERNEL, '--log', self.log, '--memory', '1G',
                     '--timeout', str(timeout), *options]
        if module:
            build = os.environ.get('B', 'build')
            arguments += ['--module', f'{build}/kmod/{release()}/shmdev.ko']
        self.process = subprocess.Popen([*arguments, command], stdin=subprocess.DEVNULL,
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def end(self):
        self.output, errors = self.process.communicate()
        self.errors = errors.decode('utf-8', 'replace')
        self.status = self.process.returncode
        return self

    def expect(self, status, message=''):
        if self.status != status or not re.search(message, self.errors):
            raise AssertionError(f'{self.errors}\n'
                                 f'status {self.status}, not {status} with "{message}"')

    def expect_tail(self):
        """Some of the kernel's log is there for the reader."""
        if not re.search(r'^  \| \[ *\d+\.\d+\] ', self.errors, re.M):
            raise AssertionError(f'{self.errors}\nno tail of the log')


def equal(got, wanted):
    if got != wanted:
        raise AssertionError(f'{got!r}, not {wanted!r}')


@case
def hang_fails():
    begun = time.monotonic()
    run = Run('echo before; sleep 1000', timeout=60).end()
    run.expect(FAILED, 'no end after 60 s')
    run.expect_tail()
    equal(run.output, b'before\n')
    if time.monotonic() - begun > 90:
        raise AssertionError('the time was not kept')


@case
def status_and_output_pass_through():
    """Every byte as it was written, stderr too; nothing of the kernel's in between; what
    the command leaves running does not keep the machine."""
    generate = ('import random, sys; random.seed(1); '
                'sys.{}.buffer.write(random.randbytes(3000000) + bytes(range(256)))')
    expected = subprocess.run([sys.executable, '-c', generate.format('stdout')],
                              stdout=subprocess.PIPE, check=True).stdout
    run = Run(f'echo noise >/dev/kmsg; sleep 1000 & setsid sleep 1000 & '
              f'/usr/bin/python3 -c "{generate.format("stdout")}"; '
              f'/usr/bin/python3 -c "{generate.format("stderr")}"; '
              f'echo >/dev/stderr; exit 37').end()
    run.expect(37)
    equal(hashlib.sha256(run.output).hexdigest(),
          hashlib.sha256(expected + expected + b'\n').hexdigest())


@case
def machine_is_as_promised():
    """Root's, in the checkout, writable without a trace on the host, and furnished."""
    trace = f'{TESTS}/vm/trace-of-the-guest'
    run = Run(f'''set -e
        test "$(id -u)" = 0 && test "$PWD" = {os.path.dirname(TESTS)}
        test "$(nproc)" = 2 && test "$(uname -r)" = {release()}
        touch {trace} && test -e {trace}
        cp /bin/true /dev/shm/true && /dev/shm/true && rm /tmp/* /run/x 2>/dev/null || :
        grep -qw memory /sys/fs/cgroup/cgroup.subtree_control
        mkdir /sys/fs/cgroup/x && test -e /sys/fs/cgroup/x/memory.max
        test -d /sys/kernel/debug/bdi && test -e /sys/kernel/tracing/trace
        test -c /dev/ptmx && test -d /dev/pts && test -e /dev/fd/1
        grep -q "^1$" /sys/class/net/lo/carrier
        ! read line && test ! -e /dev/shmdev
        test "$(cat /proc/sys/kernel/panic_on_warn)" = 1
        date +%s''').end()
    run.expect(0)
    if os.path.exists(trace):
        raise AssertionError('the guest wrote on the host')
    if abs(time.time() - int(run.output)) > 60:
        raise AssertionError(f'the guest thinks it is {run.output}')


@case
def module_is_inserted_with_parameters():
    run = Run('test -c /dev/shmdev && cat /sys/module/shmdev/parameters/pool_mb && '
              'rmmod shmdev && test ! -e /dev/shmdev', '--modparams', 'pool_mb=6',
              module=True).end()
    run.expect(0)
    equal(run.output, b'6\n')


@case
def module_that_cannot_be_inserted_fails():
    run = Run('echo reached', '--modparams', 'pool_mb=nonsense', module=True).end()
    run.expect(FAILED, 'cannot go on: insmod')
    equal(run.output, b'')


@case
def panic_fails():
    run = Run('echo before; sleep 1; echo c >/proc/sysrq-trigger').end()
    run.expect(FAILED, 'the kernel complained: .*sysrq triggered crash')
    run.expect_tail()
    equal(run.output, b'before\n')


@case
def warning_fails():
    """Even if the command is content."""
    run = Run('echo "WARNING: CPU: 0 PID: 1 at mm/x.c:1 f+0x1/0x2" >/dev/kmsg; exit 0').end()
    run.expect(FAILED, 'the kernel complained: .*mm/x.c:1')
    run.expect_tail()


@case
def warning_hidden_from_the_console_fails():
    run = Run('dmesg -n 1; echo "<7>BUG: sleeping function" >/dev/kmsg; dmesg -C').end()
    run.expect(FAILED, 'the kernel complained: .*BUG: sleeping')


@case
def taint_fails():
    run = Run('echo 64 >/proc/sys/kernel/tainted').end()
    run.expect(FAILED, 'tainted: 0x40')


@case
def dead_guest_fails():
    """To be off is not success."""
    for command in ('poweroff', 'reboot'):
        run = Run(f'/run/shmdev-vm/busybox {command} -f').end()
        run.expect(FAILED, 'gone without a verdict')


@case
def interrupt_leaves_nothing():
    """Not even the processor's emulation, whoever is killed."""
    for number in (signal.SIGINT, signal.SIGTERM):
        run = Run('echo up; sleep 1000')
        equal(run.process.stdout.readline(), b'up\n')
        with open(f'/proc/{run.process.pid}/task/{run.process.pid}/children',
                  encoding='ascii') as file:
            children = [int(pid) for pid in file.read().split()]
        equal(len(children), 1)
        gone = os.pidfd_open(children[0])
        run.process.send_signal(number)
        run.end()
        equal(run.status, 128 + number)
        if not select.select([gone], [], [], 0)[0]:
            raise AssertionError('the machine still runs')
        os.close(gone)


@case
def missing_kernel_is_an_error():
    fetched = subprocess.run([f'{TESTS}/fetch', 'kernel', '2.4'], stdin=subprocess.DEVNULL,
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)
    equal((fetched.returncode, fetched.stdout), (3, b''))
    if b'no kernel of series 2.4' not in fetched.stderr:
        raise AssertionError(fetched.stderr)


def outcome(function):
    """None, or what went wrong: whatever it is, the test failed."""
    try:
        function()
    except Exception:
        return traceback.format_exc()
    return None


def main():
    print(f'1..{len(_cases)}', flush=True)
    failed = 0
    # Two at a time: one of them mostly waits for its time to be up.
    with concurrent.futures.ThreadPoolExecutor(2) as executor:
        for number, (function, trouble) in enumerate(
                zip(_cases, executor.map(outcome, _cases)), 1):
            for line in (trouble or '').splitlines():
                print(f'# {line}')
            print(f'{"not ok" if trouble else "ok"} {number} {function.__name__}', flush=True)
            failed += bool(trouble)
    return 1 if failed else 0


if __name__ == '__main__':
    sys.exit(main())
