# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
"""A pyarrow array over shared memory, and a table that another process reads in place."""

import multiprocessing

import pyarrow as pa
import shmdev


def reader(buffer, queue):
    with pa.ipc.open_stream(pa.py_buffer(buffer)) as stream:
        table = stream.read_all()
    queue.put((table.num_rows, table["x"].to_pylist()[-1]))


def main():
    numbers = shmdev.arange(1000, dtype="int64")
    array = pa.Array.from_buffers(pa.int64(), len(numbers), [None, pa.py_buffer(numbers)])
    numbers[0] = 42
    assert array[0].as_py() == 42 and array.buffers()[1].address == numbers.ctypes.data

    table = pa.table({"x": array})
    buffer = shmdev.empty(1 << 16, dtype="uint8")
    sink = pa.FixedSizeBufferWriter(pa.py_buffer(buffer))
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)

    spawn = multiprocessing.get_context("spawn")
    queue = spawn.Queue()
    process = spawn.Process(target=reader, args=(buffer, queue))
    process.start()
    found = queue.get()
    process.join()
    assert found == (1000, 999)
    print(found)


if __name__ == "__main__":
    main()
