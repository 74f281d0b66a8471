# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
"""Run a program that prints TAP, and believe it no more than it deserves."""

import os
import re
import selectors
import signal
import subprocess
import threading
import time
from collections import namedtuple

PASSED, FAILED, SKIPPED = 'passed', 'failed', 'skipped'

# Of one test: its name, one of the above, why, and the lines around it.
Result = namedtuple('Result', 'name verdict reason details')

KSFT_SKIP = 4

_TEST = re.compile(r'(not )?ok\b(?: +(\d+))?(?: +- +| +|$)(.*)')
_PLAN = re.compile(r'1\.\.(\d+)(?:\s*#\s*(?i:skip)\s*(.*))?\s*$')
_SKIP = re.compile(r'(?:^|\s)#\s*(?i:skip)\b\s*:?\s*(.*)')


class Tap:
    """What a stream of TAP said.  Several plans in a row are several groups of tests."""

    def __init__(self):
        self.results = []
        self.planned = None
        self.skip_all = None
        self.bailed_out = None
        self._details = []

    def feed(self, line):
        """Take a line; the Result, if it was one."""
        test = _TEST.match(line)
        plan = _PLAN.match(line)
        if test:
            return self._test(*test.groups())
        if plan:
            self.planned = (self.planned or 0) + int(plan[1])
            if plan[2] is not None:
                self.skip_all = plan[2]
        elif line.startswith('Bail out!'):
            self.bailed_out = line[len('Bail out!'):].strip() or 'no reason given'
        else:
            self._details.append(line)
        return None

    def _test(self, failed, number, text):
        skip = _SKIP.search(text)
        if skip:
            name, reason, verdict = text[:skip.start()], skip[1], SKIPPED
        else:
            name, reason, verdict = text, '', FAILED if failed else PASSED
        name = name.strip().replace('\\#', '#') or f'#{number}'
        result = Result(name, verdict, reason, self._details)
        self._details = []
        self.results.append(result)
        return result

    def details_take(self):
        """The lines since the last result."""
        details, self._details = self._details, []
        return details


# Programs that run now, so that an interrupt can end them.
_running = set()
_running_lock = threading.Lock()
_stopping = False


def kill_all():
    """Kill what runs now and whatever would be started from now on."""
    global _stopping
    with _running_lock:
        _stopping = True
        for process in _running:
            _kill(process)


def _kill(process):
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def start(arguments, **options):
    """Popen in a process group of its own, which kill_all() knows."""
    with _running_lock:
        if _stopping:
            raise KeyboardInterrupt
        process = subprocess.Popen(arguments, stdin=subprocess.DEVNULL, start_new_session=True,
                                   **options)
        _running.add(process)
    return process


def finish(process):
    """Kill what is left of it, and forget it; the exit status."""
    status = process.wait()
    _kill(process)
    with _running_lock:
        _running.discard(process)
    return status


def lines_read(process, seconds, take):
    """Give @take each line that @process prints; False if it did not end in time.

    What it started may hold its output open after it is gone: its end is what counts.
    """
    deadline = time.monotonic() + seconds
    rest = b''
    out = process.stdout.fileno()
    gone = os.pidfd_open(process.pid)
    os.set_blocking(out, False)
    selector = selectors.DefaultSelector()
    selector.register(out, selectors.EVENT_READ)
    selector.register(gone, selectors.EVENT_READ)
    in_time = True
    try:
        while True:
            ready = [key.fd for key, _ in selector.select(max(deadline - time.monotonic(), 0))]
            if not ready:
                in_time = False
                _kill(process)
                break
            data = b''
            if out in ready:
                data = os.read(out, 1 << 20)
                *lines, rest = (rest + data).split(b'\n')
                for line in lines:
                    take(line.decode('utf-8', 'replace').rstrip('\r'))
            if not data and gone in ready:
                break
            if out in ready and not data:
                selector.unregister(out)
    finally:
        selector.close()
        os.close(gone)
    if rest:
        take(rest.decode('utf-8', 'replace'))
    return in_time


def run(arguments, env, seconds):
    """Run a test program; its Results, a failed one for each way it let us down."""
    tap = Tap()
    process = start(arguments, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        in_time = lines_read(process, seconds, tap.feed)
    except BaseException:
        _kill(process)
        raise
    finally:
        status = finish(process)
        process.stdout.close()
    return judge(tap, status, in_time, seconds)


def judge(tap, status, in_time, seconds):
    """The Results, and what else is wrong as failures of the program itself ('')."""
    results = list(tap.results)
    verdicts = [result.verdict for result in results]
    trouble = []
    if not in_time:
        trouble.append(f'killed after {seconds:g} s')
    elif status < 0:
        trouble.append(f'died of {signal.Signals(-status).name}')
    elif status and FAILED not in verdicts and not (
            status == KSFT_SKIP and (verdicts or tap.skip_all is not None)
            and PASSED not in verdicts):
        trouble.append(f'exit status {status}, and no test failed')
    if tap.bailed_out:
        trouble.append(f'bailed out: {tap.bailed_out}')
    if tap.planned is None:
        trouble.append('no plan')
    elif tap.planned != len(results):
        trouble.append(f'{tap.planned} tests planned, {len(results)} reported')
    elif not results and tap.skip_all is not None:
        results.append(Result('', SKIPPED, tap.skip_all, []))
    elif not results:
        trouble.append('no tests')
    if trouble:
        results.append(Result('', FAILED, '; '.join(trouble), tap.details_take()))
    return results
