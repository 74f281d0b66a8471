# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
"""Builds the source distribution and wheels (PEP 517) with a C compiler and no other tool.

The library is compiled in.  Where there is no liburing it is left out, and fills go by
preadv(2).  CC and CFLAGS are honoured.
"""

import base64
import hashlib
import io
import os
import platform
import shlex
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import zipfile
from pathlib import Path

HERE = Path(__file__).resolve().parent

# In a source distribution what lies above this directory is in it.
INNER = HERE / "project"
TOP = INNER if INNER.is_dir() else HERE.parent.parent

VERSION = (TOP / "VERSION").read_text(encoding="ascii").strip()
NAME = f"shmdev-{VERSION}"
LICENSES = ("LGPL-2.1-or-later.txt", "MIT.txt")

METADATA = f"""\
Metadata-Version: 2.1
Name: shmdev
Version: {VERSION}
Summary: Shared memory that is ready to write now; arrays that pass for multiprocessing.RawArray
License: LGPL-2.1-or-later OR MIT
Classifier: Operating System :: POSIX :: Linux
Classifier: Programming Language :: C
Classifier: Programming Language :: Python :: 3
Classifier: Programming Language :: Python :: Implementation :: CPython
Classifier: Typing :: Typed
Requires-Python: >=3.9
Description-Content-Type: text/markdown

"""

# As in build.mk: kernels.c once for each instruction set.
KERNELS = {
    "base": [],
    "avx2": ["-mavx2"],
    "avx512": ["-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl",
               "-mprefer-vector-width=512"],
}


def get_requires_for_build_wheel(config_settings=None):
    return []


def get_requires_for_build_sdist(config_settings=None):
    return []


def metadata():
    return METADATA + (TOP / "README.md").read_text(encoding="utf-8")


# --- compiling ---------------------------------------------------------------------------


class Compiler:
    def __init__(self, directory):
        self.directory = Path(directory)
        self.command = shlex.split(os.environ.get("CC", "cc"))
        self.flags = [
            "-O2", "-std=gnu11", "-pthread", "-fPIC", "-fvisibility=hidden",
            f'-DSHMDEV_VERSION="{VERSION}"', f"-I{TOP / 'include'}",
            f"-I{TOP / 'include' / 'uapi'}", "-isystem", sysconfig.get_path("include"),
            *shlex.split(os.environ.get("CFLAGS", "")),
        ]
        self.objects = []

    def run(self, *arguments, **options):
        return subprocess.run([*self.command, *map(str, arguments)], **options)

    def machine(self):
        return self.run("-dumpmachine", check=True, stdout=subprocess.PIPE, text=True).stdout

    def can_link(self, source, *libraries):
        done = self.run("-x", "c", "-", "-o", self.directory / "probe", *libraries, input=source,
                        text=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return done.returncode == 0

    def compile(self, source, *flags):
        target = self.directory / f"{len(self.objects)}.o"
        self.run(*self.flags, *flags, "-c", "-o", target, source, check=True)
        self.objects.append(target)

    def link(self, target, *libraries):
        exports = self.directory / "exports.map"
        exports.write_text("{ global: PyInit__shmdev; local: *; };\n", encoding="ascii")
        self.run("-shared", "-pthread", f"-Wl,--version-script={exports}",
                 *shlex.split(os.environ.get("LDFLAGS", "")), "-o", target, *self.objects,
                 *libraries, check=True)


def build_extension(directory):
    """Compile it all in directory; the extension's path."""
    compiler = Compiler(directory)
    uring = "-luring"
    with_uring = compiler.can_link(
        "#include <liburing.h>\nint main(void) { return io_uring_queue_init(1, 0, 0); }", uring)
    without = "ring_none.c" if with_uring else "ring.c"
    for source in sorted((TOP / "lib").glob("*.c")):
        if source.name != without:
            compiler.compile(source)
    for source in sorted((HERE / "src").glob("*.c")):
        if source.name != "kernels.c":
            compiler.compile(source)
    for name, flags in KERNELS.items():
        if name == "base" or compiler.machine().startswith("x86_64-"):
            compiler.compile(HERE / "src" / "kernels.c", "-O3", f"-DKERNELS=kernels_{name}", *flags)
    target = Path(directory) / f"_shmdev{sysconfig.get_config_var('EXT_SUFFIX')}"
    compiler.link(target, *([uring] if with_uring else []))
    return target


# --- the wheel ---------------------------------------------------------------------------


def tag():
    if platform.python_implementation() != "CPython" or sys.platform != "linux":
        raise SystemExit("shmdev is for CPython on Linux")
    python = f"cp{sysconfig.get_config_var('py_version_nodot')}"
    abi = f"cp{sysconfig.get_config_var('SOABI').split('-')[1]}"
    machine = sysconfig.get_platform().replace("-", "_").replace(".", "_")
    return f"{python}-{abi}-{machine}"


class Wheel:
    """A zip archive with a record of what is in it."""

    def __init__(self, path):
        self.archive = zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED)
        self.record = []

    def add(self, name, data, mode=0o644):
        info = zipfile.ZipInfo(name)
        info.external_attr = (0o100000 | mode) << 16
        info.compress_type = zipfile.ZIP_DEFLATED
        self.archive.writestr(info, data)
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        self.record.append(f"{name},sha256={digest},{len(data)}\n")

    def close(self, record):
        self.record.append(f"{record},,\n")
        self.archive.writestr(zipfile.ZipInfo(record), "".join(self.record))
        self.archive.close()


def package_files():
    return sorted(path for path in (HERE / "shmdev").iterdir()
                  if path.suffix in (".py", ".pyi", ".typed"))


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    name = f"{NAME}-{tag()}.whl"
    info = f"{NAME}.dist-info"
    wheel = Wheel(Path(wheel_directory) / name)
    with tempfile.TemporaryDirectory() as directory:
        extension = build_extension(directory)
        wheel.add(f"shmdev/{extension.name}", extension.read_bytes(), 0o755)
    for path in package_files():
        wheel.add(f"shmdev/{path.name}", path.read_bytes())
    wheel.add(f"{info}/METADATA", metadata().encode())
    wheel.add(f"{info}/WHEEL", (f"Wheel-Version: 1.0\nGenerator: shmdev {VERSION}\n"
                                f"Root-Is-Purelib: false\nTag: {tag()}\n").encode())
    for license in LICENSES:
        wheel.add(f"{info}/licenses/{license}", (TOP / "LICENSES" / license).read_bytes())
    wheel.close(f"{info}/RECORD")
    return name


# --- the source distribution -------------------------------------------------------------


def sdist_files():
    """(name in the archive, path) of all but PKG-INFO."""
    for name in ("pyproject.toml", "backend.py"):
        yield name, HERE / name
    for path in package_files():
        yield f"shmdev/{path.name}", path
    for path in sorted((HERE / "src").glob("*.[ch]")):
        yield f"src/{path.name}", path
    above = [TOP / "VERSION", TOP / "README.md", TOP / "include" / "shmdev.h",
             TOP / "include" / "uapi" / "linux" / "shmdev.h",
             *(TOP / "LICENSES" / license for license in LICENSES),
             *sorted((TOP / "lib").glob("*.[ch]"))]
    for path in above:
        yield f"project/{path.relative_to(TOP)}", path


def build_sdist(sdist_directory, config_settings=None):
    name = f"{NAME}.tar.gz"
    with tarfile.open(Path(sdist_directory) / name, "w:gz", format=tarfile.PAX_FORMAT) as archive:
        for inner, path in sdist_files():
            archive.add(path, f"{NAME}/{inner}")
        data = metadata().encode()
        info = tarfile.TarInfo(f"{NAME}/PKG-INFO")
        info.size = len(data)
        archive.addfile(info, io.BytesIO(data))
    return name
