# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
"""Memory that is on its way to another process.

A pickle of an array is a name, and does not keep the memory.  So that a program can send
an array and forget it, whoever pickles it holds its region until it has been loaded once,
or for some time.  The receiver says that it was loaded in the sender's ledger, which is
shared memory: no descriptor, no message and no third process is needed, and whatever
happens to the two, nothing is left when they are gone.

What is held is kept in C, where one thing happens after another: a pickle may be made by
a signal's handler or a finalizer, in the midst of what its own thread is doing here, and
Ctrl-C may be the end of any line.
"""

from __future__ import annotations

import os
import sys
import threading
import time

from . import _shmdev

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# How long, in seconds, what was sent by multiprocessing is held, and what was pickled
# by others, who may not want to send it at all.
_sent_seconds = 600.0
_pickled_seconds = 10.0

# How long the end of a process that multiprocessing started waits for what it has sent.
_EXIT_SECONDS = 10.0

# A thread waits for the news that it can let go, if it is about this much memory;
# otherwise the next who sends something looks.
_WORTH_A_THREAD = 16 << 20

# It looks not more often than so, and stays for so long after the last was sent: a program
# that sends in turns starts no thread, and wakes none, each time.
_PAUSE_SECONDS = 0.05
_STAY_SECONDS = 1.0

# All that is held at a time, the oldest being given up if it is more.
_LIMIT = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 4

_keeper: threading.Thread | None = None
_waits_at_exit = False


def _forked() -> None:
    """What the parent holds is the parent's affair, and so is who waits for it."""
    global _keeper
    _shmdev.holds_forked()
    _keeper = None
    _wait_at_exit()


def _wait_at_exit() -> None:
    """Have each process that multiprocessing starts end after what it has sent has arrived.

    It is too late for that when something is sent: a queue's thread pickles while the last
    finalizers, which have been listed by then, wait for it.  No process is started without
    util; here nothing may be imported, as somebody may have been at it at the fork.
    """
    global _waits_at_exit
    util: Any = sys.modules.get("multiprocessing.util")
    if _waits_at_exit or not hasattr(util, "register_after_fork"):
        return
    _waits_at_exit = True
    # A process that begins may forget its finalizers, and then calls these.
    util.register_after_fork(_linger, _linger_at_exit)
    _linger_at_exit()


def _linger_at_exit(_: object = None) -> None:
    # After queues have written what was put into them, whose priority is -5.
    sys.modules["multiprocessing.util"].Finalize(None, _linger, exitpriority=-10)


os.register_at_fork(after_in_child=_forked)


def hold(region: _shmdev.Region, sent: bool) -> tuple[bytes, int, int]:
    """Hold region for one that loads it: what it gives to arrived()."""
    seconds = _sent_seconds if sent else _pickled_seconds
    receipt, held = _shmdev.hold(region, seconds, sent, _LIMIT)
    if held >= _WORTH_A_THREAD:
        _want_keeper()
    return receipt


def arrived(handle: bytes, slot: int, serial: int) -> None:
    """Tell the sender that it need not hold what we have loaded."""
    try:
        _shmdev.arrived(handle, slot, serial)
    except (OSError, ValueError, MemoryError):
        pass  # it has ended, or we are short of descriptors: it lets go in time


def _keep() -> None:
    """Let go of what has arrived when it has, until little is left."""
    global _keeper
    last = -1
    while _keeper is threading.current_thread():
        held, _, seconds, serial, seen = _shmdev.holds_sweep(_LIMIT)
        if held >= _WORTH_A_THREAD:
            # What is held from now on may have to go before all of these.
            seconds = min(seconds, max(_STAY_SECONDS, min(_sent_seconds, _pickled_seconds)))
        elif last != serial:
            seconds = _STAY_SECONDS
        else:
            _keeper = None
            # Who has sent something meanwhile may have relied on us.
            if _shmdev.holds_sweep(_LIMIT)[0] >= _WORTH_A_THREAD:
                _want_keeper()
            return
        last = serial
        _shmdev.holds_wait(seen, seconds)
        time.sleep(_PAUSE_SECONDS)


def _want_keeper() -> None:
    """Have a keeper.  Of several that are started at a time one stays."""
    global _keeper
    # What was interrupted here may have left one that was never started.
    if _keeper is not None and _keeper.is_alive():
        return
    thread = threading.Thread(target=_keep, name="shmdev-holds", daemon=True)
    _keeper = thread
    try:
        thread.start()
    except RuntimeError:  # no thread to be had, or the interpreter is ending
        if _keeper is thread:
            _keeper = None


def _linger() -> None:
    if sys.modules["multiprocessing.process"].parent_process() is None:
        return
    end = time.monotonic() + _EXIT_SECONDS
    while True:
        _, waiting, seconds, _, seen = _shmdev.holds_sweep(_LIMIT)
        left = end - time.monotonic()
        if not waiting or left <= 0:
            return
        _shmdev.holds_wait(seen, min(left, seconds))


def set_hold(sent: float = 600.0, pickled: float = 10.0) -> None:
    """Set for how many seconds memory that was pickled, and dropped, waits to be loaded.

    sent is for what goes through queues, pipes, pools and managers of multiprocessing,
    pickled for all other pickles, which may not be meant for anybody.  An array that is
    alive needs neither: any process can load it at any time.  Once it has been loaded,
    it lives as long as somebody has it, and its sender does not hold it any more.

    What is held at the moment is held no longer than it is now set.  Never more than a
    quarter of the machine's memory is held; what was sent first is given up first.  Of
    more than 8,191 that wait at a time the oldest are held for all of their time, whether
    they arrive or not.

    A process that multiprocessing has started does not end before what it has sent was
    loaded, or its time is over, or 10 seconds are: nobody else has that memory.  One that
    has sent something nobody will take ends at once after set_hold(sent=0).

    A time that is not given is the default again.  Any thread may call this, and so may
    the handler of a signal.  New in version 0.1.
    """
    global _sent_seconds, _pickled_seconds
    if not (sent >= 0 and pickled >= 0):
        raise ValueError("times must not be negative")
    _sent_seconds, _pickled_seconds = float(sent), float(pickled)
    _shmdev.holds_shorten(sent, pickled)
    held()


def held() -> int:
    """How many bytes are held now, after a look at what has arrived."""
    return _shmdev.holds_sweep(_LIMIT)[0]


_wait_at_exit()
