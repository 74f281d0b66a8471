#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
"""The virtual machine's own tests: that its verdict can be believed.

SHMDEV_VM_KERNEL is a directory that tests/fetch kernel printed.
"""

import concurrent.futures
import contextlib
import hashlib
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback

TESTS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
KERNEL = os.environ['SHMDEV_VM_KERNEL']
BUILD = os.path.abspath(os.environ.get('B', 'build'))
FAILED = 125

# Only a kernel that tests/vm/kernel-debug built has its configuration beside it; it is slow.
DEBUG = os.path.exists(f'{KERNEL}/.config')
PATIENCE = 5 if DEBUG else 1

_cases = []


class Skip(Exception):
    pass



def case(function):
    _cases.append(function)
    return function


def release():
    with open(f'{KERNEL}/release', encoding='ascii') as file:
        return file.read().strip()


def shmdev_ko():
    return f'{BUILD}/kmod/{release()}/shmdev.ko'


class Run:
    """A command in a machine: its status, its output, what the harness said."""

    def __init__(self, command, *options, module=None, timeout=120 * PATIENCE):
        self.log_directory = tempfile.TemporaryDirectory()
        self.log = f'{self.log_directory.name}/kernel.log'
        arguments = [f'{TESTS}/vm/run', '--kernel', KERNEL, '--log', self.log, '--memory', '1G',
                     '--timeout', str(timeout), *options]
        if module:
            arguments += ['--module', module]
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
    limit = 60 * PATIENCE
    run = Run('echo before; sleep 1000', timeout=limit).end()
    run.expect(FAILED, f'no end after {limit} s')
    run.expect_tail()
    equal(run.output, b'before\n')
    if time.monotonic() - begun > limit + 30:
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
              module=shmdev_ko()).end()
    run.expect(0)
    equal(run.output, b'6\n')


@case
def memory_can_be_taken_out():
    """Of a third node: the module's tests of that, which all other machines skip."""
    tests = ('memory_is_taken_out', 'node_gets_memory')
    run = Run(f'{BUILD}/tests/kselftest/migrate ' + ' '.join(f'-t {test}' for test in tests),
              '--nodes', '--memory', '3G', module=shmdev_ko(), timeout=240 * PATIENCE).end()
    run.expect(0)
    results = re.findall(rb'^(?:not )?ok .*', run.output, re.M)
    equal([bool(re.search(rb'^ok \d+ migrate[.]' + test.encode() + rb'$', result))
           for test, result in zip(tests, results)], [True] * len(tests))


@case
def module_that_cannot_be_inserted_fails():
    run = Run('echo reached', '--modparams', 'pool_mb=nonsense', module=shmdev_ko()).end()
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


@contextlib.contextmanager
def leak_ko(licence):
    """The module of leak.c, where the guest can see it."""
    if not DEBUG:
        raise Skip('not a debug kernel')
    env = {name: value for name, value in os.environ.items()
           if name not in ('MAKEFLAGS', 'MFLAGS', 'MAKELEVEL')}
    with tempfile.TemporaryDirectory(dir=BUILD) as directory:
        shutil.copy(f'{TESTS}/vm/leak.c', f'{directory}/leak.c')
        with open(f'{directory}/Makefile', 'w', encoding='ascii') as file:
            file.write('obj-m := shmdev.o\nshmdev-y := leak.o\n'
                       f'ccflags-y := -DLICENSE=\'"{licence}"\'\n')
        subprocess.run(['make', '-s', '-C', f'{KERNEL}/build', f'M={directory}', 'modules'],
                       env=env, stdin=subprocess.DEVNULL, stdout=sys.stderr, check=True)
        yield f'{directory}/shmdev.ko'


@case
def leak_fails():
    """With the place where the memory comes from; also when that is no longer there."""
    with leak_ko('Dual MIT/GPL') as module:
        run = Run('exit 0', module=module).end()
        run.expect(FAILED, 'complaint: memory leaked')
        run.expect(FAILED, r'leak_some\+.* \[shmdev\]')
        run = Run('rmmod shmdev', module=module).end()
        run.expect(FAILED, 'complaint: memory leaked')


@case
def lockdep_that_is_off_fails():
    with leak_ko('Proprietary') as module:
        run = Run('exit 0', module=module).end()
        run.expect(FAILED, 'complaint: lockdep is off')


@case
def debug_options_are_verified():
    """Each that is wanted is looked for, and one that is not there is named."""
    with tempfile.TemporaryDirectory() as directory:
        def verify(wanted, got):
            for name, text in (('wanted', wanted), ('got', got)):
                with open(f'{directory}/{name}', 'w', encoding='ascii') as file:
                    file.write(text)
            return subprocess.run([f'{TESTS}/vm/kernel-debug', 'verify', f'{directory}/wanted',
                                   f'{directory}/got'], stdin=subprocess.DEVNULL,
                                  stderr=subprocess.PIPE, check=False, encoding='utf-8')
        wanted = '# no option\nCONFIG_A=y\n\n# CONFIG_B is not set\nCONFIG_C="x y"\n'
        for good in (wanted, 'CONFIG_C="x y"\nCONFIG_A=y\nCONFIG_AB=y\n'):
            equal((verify(wanted, good).returncode, verify(wanted, good).stderr), (0, ''))
        for bad, named in (('CONFIG_C="x y"\nCONFIG_AA=y\n', 'CONFIG_A=y'),
                           ('CONFIG_C="x y"\n# CONFIG_A is not set\n', 'CONFIG_A=y'),
                           ('CONFIG_C="x y"\nCONFIG_A=m\n', 'CONFIG_A=y'),
                           (wanted.replace('# CONFIG_B is not set', 'CONFIG_B=y'),
                            '# CONFIG_B is not set'),
                           ('CONFIG_A=y\n', 'CONFIG_C="x y"')):
            verified = verify(wanted, bad)
            equal(verified.returncode, 1)
            equal(verified.stderr.count('\n'), 1)
            if f'wanted "{named}"' not in verified.stderr:
                raise AssertionError(verified.stderr)


@case
def missing_kernel_is_an_error():
    fetched = subprocess.run([f'{TESTS}/fetch', 'kernel', '2.4'], stdin=subprocess.DEVNULL,
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)
    equal((fetched.returncode, fetched.stdout), (3, b''))
    if b'no kernel of series 2.4' not in fetched.stderr:
        raise AssertionError(fetched.stderr)


def outcome(function):
    """What went wrong, whatever it is, and why it was not tested, if so."""
    try:
        function()
    except Skip as reason:
        return '', str(reason)
    except Exception:
        return traceback.format_exc(), ''
    return '', ''


def main():
    print(f'1..{len(_cases)}', flush=True)
    failed = 0
    # Two at a time: one of them mostly waits for its time to be up.
    with concurrent.futures.ThreadPoolExecutor(2) as executor:
        for number, (function, (trouble, skipped)) in enumerate(
                zip(_cases, executor.map(outcome, _cases)), 1):
            for line in trouble.splitlines():
                print(f'# {line}')
            print(f'{"not ok" if trouble else "ok"} {number} {function.__name__}' +
                  (f' # SKIP {skipped}' if skipped else ''), flush=True)
            failed += bool(trouble)
    return 1 if failed else 0


if __name__ == '__main__':
    sys.exit(main())
