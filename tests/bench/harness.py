# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
"""Measure things side by side.

A Group is a set of cases that do the same job, measured in turns in one run, so that
what disturbs the machine disturbs all of them.  Of each case the median and the
spread are told, and how it compares with the group's reference.  A Report prints the
groups as they come, under the conditions they were measured in, and writes them as
JSON.  Nothing here judges: a benchmark is not a test.
"""

import gc
import glob
import json
import os
import statistics
import subprocess
import sys
import time

MIN_SAMPLE = 0.002  # seconds; shorter jobs are repeated within a sample
FIRST_RUN = 0.1     # seconds; what takes less is run twice to begin with
BUDGET = 6.0        # seconds for all samples of a case
MAX_SAMPLES = 41
MIN_SAMPLES = 3


class Case:
    """One way to do a job: run() is timed, before() and after() are not.

    With before or after, a sample is a single run.  after() gets what run() returned,
    so that dropping it is not timed; without after it is.
    """

    def __init__(self, name, run, before=None, after=None, note=''):
        self.name, self.run, self.before, self.after = name, run, before, after
        self.note = note
        self.number = 1
        self.details = []   # of each sample, by who has some

    def warm_up(self):
        """Run until it is warm, and find how many runs make a sample.

        The first run has to find memory, and files, that the others find in caches: alone it
        says little of how long they take.
        """
        elapsed = self.sample()
        if self.before or self.after:
            return elapsed
        if elapsed < FIRST_RUN:
            elapsed = min(elapsed, self.sample())
        while elapsed * self.number < MIN_SAMPLE:
            self.number = max(self.number * 2, int(MIN_SAMPLE / max(elapsed, 1e-9) / 2))
            elapsed = self.sample()
        return elapsed

    def sample(self):
        """Seconds that one run takes."""
        if self.before:
            self.before()
        run, number = self.run, self.number
        start = time.perf_counter_ns()
        if number == 1:
            result = run()
            if not self.after:
                result = None
        else:
            for _ in range(number):
                run()
        elapsed = time.perf_counter_ns() - start
        if self.after:
            self.after(result)
        return elapsed / number / 1e9


class Tool:
    """A program that measures what Python is too slow for: a line in, numbers out.

    A line of answer is key=value words; "seconds" is the time of one run, the others are
    kept.  A line that starts with "unavailable" says why there is no number.
    """

    def __init__(self, argv, env=None):
        self.process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        text=True, env={**os.environ, **(env or {})})

    def ask(self, line):
        self.process.stdin.write(line + '\n')
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise RuntimeError(f'{self.process.args[0]}: died of "{line}"')
        if answer.startswith('unavailable'):
            raise Unavailable(answer[len('unavailable'):].strip())
        return {key: float(value) for key, value in (w.split('=') for w in answer.split())}

    def close(self):
        self.process.stdin.close()
        self.process.wait()


class ToolCase:
    """A case that a tool measures."""

    def __init__(self, name, tool, line, note=''):
        self.name, self.tool, self.line, self.note = name, tool, line, note
        self.details = []

    def warm_up(self):
        return self.sample()

    def sample(self):
        answer = self.tool.ask(self.line)
        self.details.append(answer)
        return answer['seconds']


class Unavailable(Exception):
    """A case cannot be run here, for a reason to be told."""


class Result:
    def __init__(self, case, samples):
        self.name, self.note, self.samples = case.name, case.note, sorted(samples)
        self.median = statistics.median(samples)
        last = len(samples) - 1
        self.low = self.samples[round(last * 0.1)]
        self.high = self.samples[round(last * 0.9)]

    def as_json(self):
        return {'median_s': self.median, 'p10_s': self.low, 'p90_s': self.high,
                'samples': len(self.samples), 'note': self.note}


def measure(cases, max_samples=MAX_SAMPLES, budget=BUDGET, again=False):
    """Results of cases by name, sampled in turns; reasons of those that cannot run.

    again: what seems to be too slow is run once more before that is believed.  The first to
    use memory that a hypervisor has yet to find may be ten times slower than the next.
    """
    results, reasons, cost = {}, {}, {}
    for case in cases:
        try:
            cost[case] = case.warm_up()
            if again and cost[case] > budget:
                case.details.clear()
                cost[case] = case.sample()
        except Unavailable as reason:
            reasons[case.name] = str(reason)
    # What is slower than the budget is not run again: its warm-up is the sample.
    samples = {case: [value] if value > budget else [] for case, value in cost.items()}
    for case, value in cost.items():
        if value <= budget:
            case.details.clear()
    rounds = {case: 0 if value > budget else
              min(max_samples, max(MIN_SAMPLES, int(budget / max(value, 1e-9))))
              for case, value in cost.items()}
    collecting = gc.isenabled()
    gc.disable()
    try:
        for turn in range(max(rounds.values(), default=0)):
            order = list(samples)
            for case in order[turn % len(order):] + order[:turn % len(order)]:
                if turn >= rounds[case]:
                    continue
                try:
                    samples[case].append(case.sample())
                except Unavailable as reason:
                    reasons[case.name] = f'{reason} (after {turn} samples)'
                    del samples[case]
    finally:
        if collecting:
            gc.enable()
    for case, values in samples.items():
        results[case.name] = Result(case, values)
    return results, reasons


class Setting:
    """A file of the kernel that has another value for a while."""

    def __init__(self, path, value):
        self.path, self.value, self.old = path, value, None

    def __enter__(self):
        try:
            with open(self.path, encoding='utf-8') as file:
                old = file.read()
            self.old = old.split('[')[1].split(']')[0] if '[' in old else old.strip()
            with open(self.path, 'w', encoding='utf-8') as file:
                file.write(self.value)
        except OSError:
            self.old = None     # the case that needs it will say that it cannot
        return self

    def __exit__(self, *_):
        if self.old is not None:
            with open(self.path, 'w', encoding='utf-8') as file:
                file.write(self.old)


def seconds(value):
    """A time as people write it."""
    for unit, factor in (('s', 1), ('ms', 1e3), ('µs', 1e6), ('ns', 1e9)):
        if value * factor >= 1 or unit == 'ns':
            scaled = value * factor
            return f'{scaled:.{0 if scaled >= 100 else 1 if scaled >= 10 else 2}f} {unit}'
    raise AssertionError


def ratio(value):
    return f'{value:.{0 if value >= 20 else 1 if value >= 2 else 2}f}x'


def _first_line(path):
    try:
        with open(path, encoding='utf-8') as file:
            return file.readline().strip()
    except OSError:
        return None


def _chosen(path):
    """The word in brackets of a sysfs file that offers several."""
    line = _first_line(path)
    return line.split('[')[1].split(']')[0] if line and '[' in line else 'unknown'


def _init_on_alloc():
    for word in (_first_line('/proc/cmdline') or '').split():
        if word.startswith('init_on_alloc='):
            return word.split('=')[1]
    log = subprocess.run(['dmesg'], capture_output=True, text=True, check=False).stdout
    for line in log.splitlines():
        if 'mem auto-init' in line and 'heap alloc:' in line:
            return '1' if 'heap alloc:on' in line else '0'
    for reader in (['zcat', '/proc/config.gz'], ['cat', f'/boot/config-{os.uname().release}']):
        config = subprocess.run(reader, capture_output=True, text=True, check=False).stdout
        if config:
            return '1' if 'CONFIG_INIT_ON_ALLOC_DEFAULT_ON=y' in config else '0'
    return 'unknown'


def _balloon_reports():
    """Whether free memory is told to the hypervisor (VIRTIO_BALLOON_F_REPORTING).

    What is free for two seconds may then be the first to be used again after a long time, and
    to zero it takes five times as long.  It can happen to one case and not to another.
    """
    for device in glob.glob('/sys/bus/virtio/drivers/virtio_balloon/virtio*'):
        if (_first_line(f'{device}/features') or '')[5:6] == '1':
            return True
    return False


def conditions():
    """What the numbers depend on."""
    with open('/proc/cpuinfo', encoding='utf-8') as file:
        models = [line.split(':')[1].strip() for line in file if line.startswith('model name')]
    thp = '/sys/kernel/mm/transparent_hugepage'
    found = {
        'kernel': os.uname().release,
        'cpu': f'{len(models)} x {models[0] if models else "unknown"}',
        'memory': f'{os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") >> 20} MiB',
        'init_on_alloc': _init_on_alloc(),
        'thp': f'enabled={_chosen(thp + "/enabled")} shmem={_chosen(thp + "/shmem_enabled")}',
        'nr_hugepages': _first_line('/proc/sys/vm/nr_hugepages') or 'unknown',
        'python': sys.version.split()[0],
    }
    if _balloon_reports():
        found['free memory'] = 'goes back to the hypervisor: some zeroing takes 5 times as long'
    if 'numpy' in sys.modules:
        found['numpy'] = sys.modules['numpy'].__version__
    pool = _first_line('/sys/module/shmdev/parameters/pool_mb')
    if pool:
        found['pool_mb'] = pool
    return found


class Report:
    """Prints groups as they are measured and keeps them for JSON."""

    def __init__(self, title, out=sys.stdout, **more):
        self.out = out
        self.data = {'title': title, 'conditions': {**conditions(), **more}, 'groups': []}
        self._print(f'\n{title}')
        for key, value in self.data['conditions'].items():
            self._print(f'  {key:14} {value}')

    def _print(self, *words):
        print(*words, file=self.out, flush=True)

    def group(self, title, cases, reference=None, **options):
        """Measure cases and print them beside reference, the first if not named.

        The ratio is how many times faster than the reference a case is.
        """
        self._print(f'\n{title}')
        results, reasons = measure(cases, **options)
        base = results.get(reference or cases[0].name)
        width = max(len(case.name) for case in cases)
        for case in cases:
            if case.name in reasons:
                self._print(f'  {case.name:{width}}  unavailable: {reasons[case.name]}')
                continue
            result = results[case.name]
            spread = f'{seconds(result.low)} … {seconds(result.high)}'
            times = ratio(base.median / result.median) if base else ''
            self._print(f'  {case.name:{width}}  {seconds(result.median):>9}  {spread:>24}'
                        f'  n={len(result.samples):<3} {times:>8}  {result.note}'.rstrip())
        self.data['groups'].append({
            'title': title,
            'reference': reference or cases[0].name,
            'cases': {name: result.as_json() for name, result in results.items()},
            'unavailable': reasons,
        })
        return results

    def table(self, title, columns, rows):
        """Print rows, {name: a ratio or None for each column}, and keep them."""
        self._print(f'\n{title}')
        width = max(len(str(name)) for name in rows)
        widths = [max(len(column), 6) for column in columns]
        self._print(' ' * (width + 2), *(f'{c:>{w}}' for c, w in zip(columns, widths)))
        for name, values in rows.items():
            cells = ('-' if value is None else f'{value:.2f}' for value in values)
            self._print(f'  {name:{width}}', *(f'{c:>{w}}' for c, w in zip(cells, widths)))
        told = sorted(value for values in rows.values() for value in values if value is not None)
        self._print(f'  median {statistics.median(told):.2f}, worst {told[-1]:.2f}')
        self.data.setdefault('tables', []).append(
            {'title': title, 'columns': columns, 'rows': rows})

    def remark(self, text):
        self._print(f'  {text}')
        if self.data['groups']:
            self.data['groups'][-1].setdefault('remarks', []).append(text)

    def save(self, directory, name):
        os.makedirs(directory, exist_ok=True)
        path = os.path.join(directory, f'{name}.json')
        with open(path, 'w', encoding='utf-8') as file:
            json.dump(self.data, file, indent=1, ensure_ascii=False)
            file.write('\n')
        return path
