#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
"""Files into shared memory and back, beside what one would do without.

BENCH_MIB is the size of the large file, 1024 if it is not set; with less there are fewer
small files and records, too.  What comes last is all of it in two tables: the part that the
library takes of the time, and of the processor time, of each other way.
"""

import contextlib
import ctypes
import json
import mmap
import os
import random
import resource
import shutil
import statistics
import subprocess
import tempfile
import time

import numpy
import shmdev

from harness import Case, Report, Setting, Tool, ToolCase, Unavailable, seconds

MIB = 256
BUDGET = 2.0    # seconds for all samples of a case
NR_HUGEPAGES = '/proc/sys/vm/nr_hugepages'
SHMEM_THP = '/sys/kernel/mm/transparent_hugepage/shmem_enabled'
SHM = '/dev/shm/shmdev-bench'

# The columns of the last tables.
READ, PREADV, MMAP, FIO, CP, NUMPY, MEMCPY, COPY = COLUMNS = (
    'read', 'preadv', 'mmap', 'fio', 'cp', 'numpy', 'memcpy', 'copy')


def measure(report, mib=MIB):
    """Measure and check; return how many elements were compared."""
    size = mib << 20
    expected = numpy.random.default_rng(mib).integers(0, 256, size, dtype=numpy.uint8)
    with tempfile.NamedTemporaryFile() as file:
        file.write(expected)
        file.flush()
        fd = os.open(file.name, os.O_RDONLY)

        def memfd_and_read():
            memory = os.memfd_create('bench')
            os.ftruncate(memory, size)
            mapped = mmap.mmap(memory, size)
            done = 0
            while done < size:
                done += os.preadv(fd, [memoryview(mapped)[done:]], done)
            os.close(memory)
            return mapped

        def alloc_and_fill():
            array = shmdev.RawArray(ctypes.c_ubyte, size)
            shmdev.fill(array, fd)
            return array

        report.group(f'{mib} MiB file, cached, into new shared memory', [
            Case('memfd + mmap + preadv', memfd_and_read),
            Case('shmdev.RawArray + fill', alloc_and_fill),
            Case('numpy.fromfile', lambda: numpy.fromfile(file.name, numpy.uint8),
                 note='private'),
        ])
        array = alloc_and_fill()
        checked = len(array)
        if not numpy.array_equal(numpy.frombuffer(array, numpy.uint8), expected):
            raise AssertionError('fill: bytes differ')

        there = memoryview(memfd_and_read())
        buffer = bytearray(expected)
        report.group(f'{mib} MiB file, cached, into shared memory in use', [
            Case('preadv', lambda: os.preadv(fd, [there], 0)),
            Case('shmdev.fill', lambda: shmdev.fill(array, fd)),
            Case('memcpy', lambda: ctypes.memmove(array, (ctypes.c_char * size)
                                                  .from_buffer(buffer), size), note='the limit'),
        ])
        os.close(fd)
    return checked


def output_of(command):
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Unavailable((done.stderr or done.stdout).strip().split('\n')[-1])
    return done.stdout


class Function(Case):
    """A function, and the processor time that it takes."""

    def warm_up(self):
        return self.sample()

    def sample(self):
        start = time.process_time()
        elapsed = super().sample()
        self.details.append({'seconds': elapsed, 'cpu': time.process_time() - start})
        return elapsed


class Fio:
    """fio's io_uring engine: seconds for all that it is to read."""

    def __init__(self, name, *options, note='its own few buffers'):
        self.name, self.note, self.details = name, note, []
        self.command = ['fio', '--name=bench', '--ioengine=io_uring', '--output-format=json',
                        '--thread', '--invalidate=0', *options]

    def warm_up(self):
        return self.sample()

    def sample(self):
        if not shutil.which('fio'):
            raise Unavailable('fio is not installed')
        said = output_of(self.command)
        jobs = json.loads(said[said.index('{'):])['jobs']
        # In whole milliseconds; what is quicker is told by the bytes of each second.
        elapsed = max(job['read']['io_bytes'] / max(job['read']['bw_bytes'], 1) for job in jobs)
        cpu = sum((job['usr_cpu'] + job['sys_cpu']) / 100 * job['job_runtime'] / 1e3
                  for job in jobs)
        self.details.append({'seconds': elapsed, 'cpu': cpu})
        return elapsed


class Program:
    """A program that does the job, and is started for it."""

    def __init__(self, name, *command, note=''):
        self.name, self.command, self.note, self.details = name, command, note, []

    def warm_up(self):
        return self.sample()

    def sample(self):
        self.clean()
        before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        output_of(self.command)
        elapsed = time.perf_counter() - start
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        self.details.append({'seconds': elapsed, 'cpu': after.ru_utime + after.ru_stime -
                             before.ru_utime - before.ru_stime})
        self.clean()
        return elapsed

    @staticmethod
    def clean():
        """New memory each time, and none of it left."""
        with contextlib.suppress(FileNotFoundError):
            if os.path.isdir(SHM):
                shutil.rmtree(SHM)
            else:
                os.unlink(SHM)


class Cold:
    """Another case with nothing in the page cache to begin with."""

    def __init__(self, case):
        self.case, self.name, self.note, self.details = case, case.name, case.note, case.details

    def warm_up(self):
        return self.sample()

    def sample(self):
        os.sync()
        try:
            with open('/proc/sys/vm/drop_caches', 'w', encoding='ascii') as file:
                file.write('3')
        except OSError as error:
            raise Unavailable(f'drop_caches: {error.strerror}') from None
        return self.case.sample()


class Jobs:
    """Measures jobs, and puts together what came of them."""

    def __init__(self, report):
        self.report, self.times, self.cpu = report, {}, {}

    def measure(self, row, title, cases, **options):
        """@cases: what is in a column of the tables, None for what is not, 'ours'."""
        report, group = self.report, [case for _, case in cases]
        results = report.group(title, group, again=True, **{'budget': BUDGET, **options})
        spent = {case.name: statistics.median(detail['cpu'] for detail in case.details)
                 for case in group if case.details}
        report.remark('processor time: ' + ', '.join(
            f'{name} {seconds(cpu)}' for name, cpu in spent.items()))
        ours = next(case.name for column, case in cases if column == 'ours')
        if ours not in results:
            return
        medians = {name: result.median for name, result in results.items()}
        for table, of in ((self.times, medians), (self.cpu, spent)):
            # There may be several of a column: the best counts.
            best = {}
            for column, case in cases:
                if of.get(case.name):
                    best[column] = min(best.get(column, of[case.name]), of[case.name])
            table[row] = [of[ours] / best[column] if column in best else None
                          for column in COLUMNS]

    def tables(self):
        self.report.table('Part that the library takes of the time of (less is better)',
                          COLUMNS, self.times)
        self.report.table('Part that it takes of the processor time of', COLUMNS, self.cpu)


def make_files(directory, mib, files):
    """What the tool wants to have there."""
    block = random.Random(1).randbytes(1 << 20)
    with open(f'{directory}/large', 'wb') as file:
        for _ in range(mib):
            file.write(block)
        os.fsync(file.fileno())
    os.mkdir(f'{directory}/many')
    for number in range(files):
        with open(f'{directory}/many/{number}', 'wb') as file:
            file.write(block[:65536])


def measure_large(jobs, tool, large, mib):
    """All of one file, from the page cache, past it, and from a pipe."""
    size, half = f'--size={mib << 20}', f'--size={mib << 19}'
    file = f'--filename={large}'
    jobs.measure('cached', f'{mib} MiB file, cached, into shared memory in use', [
        (READ, tool('cached read', 'pread, 1 MiB each')),
        (PREADV, tool('cached whole', 'preadv, all at once')),
        (MMAP, tool('cached mmap', 'mmap + memcpy')),
        (FIO, Fio('fio io_uring', file, size, '--rw=read', '--bs=512k', '--iodepth=16')),
        (FIO, Fio('fio io_uring, 2 jobs', file, half, '--offset_increment=50%', '--numjobs=2',
                  '--rw=read', '--bs=512k', '--iodepth=16')),
        (CP, Program('cp to /dev/shm', 'cp', large, SHM, note='new memory')),
        (NUMPY, Function('numpy.fromfile', lambda: numpy.fromfile(large, numpy.uint8),
                         note='new memory, private')),
        ('ours', tool('cached shmdev', 'shm_fill')),
        (MEMCPY, tool('copy memcpy', 'memcpy', 'as many bytes: the limit of one processor')),
        (COPY, tool('copy shmdev', 'shmdev_copy', 'the limit')),
    ])
    jobs.measure('O_DIRECT', f'{mib} MiB file, O_DIRECT', [
        (READ, tool('direct read', 'pread, 1 MiB each')),
        (PREADV, tool('direct whole', 'preadv, all at once')),
        (FIO, Fio('fio io_uring', file, size, '--rw=read', '--bs=512k', '--iodepth=32',
                  '--direct=1')),
        (FIO, Fio('fio io_uring, fixed', file, size, '--rw=read', '--bs=512k', '--iodepth=32',
                  '--direct=1', '--fixedbufs=1', '--registerfiles=1')),
        (CP, Program('dd to /dev/shm', 'dd', f'if={large}', f'of={SHM}', 'bs=1M',
                     'iflag=direct', note='new memory')),
        ('ours', tool('direct shmdev', 'shm_fill')),
    ])
    jobs.measure('pipe', f'{mib} MiB from a pipe', [
        (READ, tool('pipe read', 'read')),
        (CP, Program('cat to /dev/shm', 'sh', '-c', f'cat {large} | cat > {SHM}',
                     note='new memory')),
        ('ours', tool('pipe shmdev', 'shm_fill')),
    ])


def measure_records(jobs, tool, large, records):
    array = numpy.memmap(large, numpy.uint8, 'r').reshape(-1, 4096)
    chosen = numpy.random.default_rng(1).integers(0, len(array), min(records, len(array)))
    rounds = [chosen] * (records // len(chosen)) + [chosen[:records % len(chosen)]]

    def take():
        for part in rounds:
            array.take(part, axis=0)

    jobs.measure('records', f'{records:,} records of 4 KiB, cached, at random', [
        (READ, tool('records pread', 'pread')),
        (MMAP, tool('records mmap', 'mmap + memcpy')),
        (FIO, Fio('fio io_uring', f'--filename={large}', f'--size={array.size}', '--rw=randread',
                  '--bs=4k', '--iodepth=64', '--norandommap', '--gtod_reduce=1',
                  f'--io_size={4096 * records}')),
        (NUMPY, Function('numpy.memmap, take', take, note='new memory, private')),
        ('ours', tool('records shmdev', 'shm_fill')),
    ], budget=6)


def measure_files(jobs, tool, many, files):
    def numpy_files():
        for number in range(files):
            numpy.fromfile(f'{many}/{number}', numpy.uint8)

    def cases():
        return [
            (READ, tool('files read', 'open, read, close')),
            (MMAP, tool('files mmap', 'open, mmap + memcpy, close')),
            (FIO, Fio('fio io_uring', f'--directory={many}', '--filename_format=$filenum',
                      f'--nrfiles={files}', '--filesize=64k', f'--size={files << 16}',
                      '--openfiles=64', '--file_service_type=sequential', '--rw=read',
                      '--bs=64k', '--iodepth=32')),
            (CP, Program('cp -r to /dev/shm', 'cp', '-r', many, SHM, note='new memory')),
            (NUMPY, Function('numpy.fromfile', numpy_files, note='new memory, private')),
            ('ours', tool('files shmdev', 'shmdev_path_fill')),
        ]

    # What is copied for less than that cannot be opened, too.
    limits = [
        (None, tool('bytes pread', 'pread of one file', 'as many bytes: nothing to open')),
        (None, tool('bytes shmdev', 'shm_fill of one file', 'the same')),
        (MEMCPY, tool('bytes memcpy', 'memcpy', 'as many bytes: the limit of one processor')),
    ]
    jobs.measure('files', f'{files:,} files of 64 KiB, cached', cases() + limits)
    jobs.measure('files, cold', f'{files:,} files of 64 KiB, cold',
                 [(column, Cold(case)) for column, case in cases()])


def measure_new(jobs, tool, start, mib):
    """From nothing to shared memory with a file in it."""
    cases = [(READ, tool('new memfd', 'open + memfd + read'))]
    tools = []
    for backend in ('memfd', 'thp', 'hugetlb', 'device'):
        # One each: what has ready memory would give it to the other way, too.
        for way, told in (('shmdev', ''), ('ready', ', ready')):
            if (backend, way) == ('device', 'shmdev'):
                continue
            tools.append(start({'SHMDEV_BACKEND': backend}))
            cases.append((None, ToolCase(f'shm_alloc + shm_fill, {backend}{told}', tools[-1],
                                         f'new {way}')))
    with Setting(NR_HUGEPAGES, str(mib // 2 * 2 + 32)), Setting(SHMEM_THP, 'advise'):
        # The best backend that there is, as a program would get it.
        ready = [case for _, case in cases if case.line == 'new ready']
        best = None
        for case in reversed(ready):
            with contextlib.suppress(Unavailable):
                case.warm_up()
                best = case
                break
        jobs.measure('new', f'{mib} MiB file, cached, into new shared memory, and given back',
                     [('ours' if case is best else column, case) for column, case in cases])
        for one in tools:
            one.close()
    jobs.report.remark('ready: zeroed before, and that is not in these numbers')


def measure_memory(report, tool, mib):
    for job, title, ways in (
            ('copy', 'copied', (('memcpy', 'memcpy'), ('shmdev', 'shmdev_copy'))),
            ('newcopy', 'copied into new shared memory',
             (('memcpy', 'memcpy'), ('shmdev', 'shmdev_copy'))),
            ('set', 'of a pattern', (('memset', 'memset'), ('shmdev', 'shmdev_set'))),
            ('newset', 'of a pattern in new shared memory',
             (('memset', 'memset'), ('shmdev', 'shmdev_set')))):
        report.group(f'{mib} MiB {title}', [tool(f'{job} {way}', name) for way, name in ways],
                     budget=BUDGET, again=True)


def measure_all(report, directory, mib):
    """Every job beside the ways one has without the library."""
    files, records = min(10_000, 10 * mib), min(1_000_000, 1000 * mib)
    make_files(directory, mib, files)

    def start(env=None):
        return Tool(['build/tests/bench/fill', directory, str(files), str(records)], env)

    process = start()

    def tool(line, name, note=''):
        return ToolCase(name, process, line, note)

    jobs, large = Jobs(report), f'{directory}/large'
    measure_large(jobs, tool, large, mib)
    measure_records(jobs, tool, large, records)
    measure_files(jobs, tool, f'{directory}/many', files)
    jobs.measure('drain', f'{mib} MiB into a file, in the page cache, that is there', [
        (READ, tool('drain write', 'pwrite, 1 MiB each')),
        ('ours', tool('drain shmdev', 'shm_drain')),
    ])
    measure_memory(report, tool, mib)
    process.close()
    process = start()
    measure_new(jobs, tool, start, mib)
    process.close()
    jobs.tables()


def main():
    mib = int(os.environ.get('BENCH_MIB', '1024'))
    info = shmdev.info()
    report = Report('Fills', backend=info.backend, engine=info.fill_engine)
    measure(report, min(mib, MIB))
    with tempfile.TemporaryDirectory(dir='/var/tmp') as directory:
        measure_all(report, directory, mib)
    return report


if __name__ == '__main__':
    main().save('build/bench', 'fill')
