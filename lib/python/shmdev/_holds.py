# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
"""Memory that is on its way to another process.

A pickle of an array is a name, and does not keep the memory.  So that a program can send
an array and forget it, whoever pickles it holds its region until it has been loaded once,
or for some time.  The receiver says that it was loaded in the sender's ledger, which is
shared memory: no descriptor, no message and no third process is needed, and whatever
happens to the two, nothing is left when they are gone.
"""

from __future__ import annotations

import os
import threading
import time
from collections import OrderedDict

from . import _shmdev
from ._late import imports

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

_SLOTS = 8191


class _Hold:
    __slots__ = ("deadline", "region", "sent", "serial", "slot")

    def __init__(self, region: _shmdev.Region, slot: int, serial: int, sent: bool) -> None:
        self.region = region
        self.slot = slot
        self.serial = serial
        self.sent = sent
        self.deadline = time.monotonic() + (_sent_seconds if sent else _pickled_seconds)


class _Ledger:
    """Where receivers tell us; see send.c for what is in it."""

    def __init__(self) -> None:
        memory: Any = memoryview(_shmdev.block(8 + 8 * _SLOTS))  # type: ignore[arg-type]
        self.memory = memory
        self.entries = memory[:4].cast("I")
        self.slots = memory[8:].cast("Q")
        self.handle = _shmdev.handle(_shmdev.address(memory))
        self.free = list(range(_SLOTS - 1, -1, -1))


# Held by who changes what follows; what is let go is dropped without it.
_lock = threading.Lock()
_ledger: _Ledger | None = None
_holds: OrderedDict[int, _Hold] = OrderedDict()  # by serial, the oldest first
_regions: dict[_shmdev.Region, int] = {}  # how many holds each has
_bytes = 0
_serial = 0
_looked = 0  # at so many entries of the ledger
_next_look = 0.0
_enough = _WORTH_A_THREAD  # bytes, to look before that
_keeper: threading.Thread | None = None
_finalizer: Any = None


def _forked() -> None:
    """What the parent holds is the parent's affair, and so is who waits for it."""
    global _lock, _ledger, _holds, _regions, _bytes, _looked, _enough, _keeper, _finalizer
    _lock = threading.Lock()
    _ledger = None
    _holds, _regions, _bytes, _looked, _enough = OrderedDict(), {}, 0, 0, _WORTH_A_THREAD
    _keeper = _finalizer = None


os.register_at_fork(after_in_child=_forked)


def _let_go(hold: _Hold, gone: list[Any]) -> None:
    """Locked."""
    global _bytes
    del _holds[hold.serial]
    if hold.slot >= 0:
        assert _ledger
        _ledger.free.append(hold.slot)
    left = _regions[hold.region] - 1
    if left:
        _regions[hold.region] = left
    else:
        del _regions[hold.region]
        _bytes -= hold.region.size
    gone.append(hold)


def _arrived(hold: _Hold) -> bool:
    assert _ledger
    return hold.slot >= 0 and _ledger.slots[hold.slot] == hold.serial


def _sweep(gone: list[Any], thoroughly: bool = False) -> None:
    """Let go of what has arrived or was held for long enough.  Locked."""
    global _looked, _next_look, _enough
    if not _ledger:
        return
    entries = _ledger.entries[0]
    now = time.monotonic()
    # What was sent first tends to arrive first.  Where it does not, as behind what is lost,
    # all are looked at when some have arrived: a tenth of the time, and when it is much memory.
    if thoroughly or (entries != _looked and (now >= _next_look or _bytes > _enough)):
        _looked = entries
        for hold in list(_holds.values()):
            if _arrived(hold) or hold.deadline <= now:
                _let_go(hold, gone)
        _next_look = now + 10 * (time.monotonic() - now)
        _enough = 2 * _bytes + _WORTH_A_THREAD
    while _holds:
        hold = next(iter(_holds.values()))
        if not (_arrived(hold) or hold.deadline <= now or _bytes > _LIMIT):
            break
        _let_go(hold, gone)


def hold(region: _shmdev.Region, sent: bool) -> tuple[bytes, int, int]:
    """Hold region for one that loads it: (our ledger, slot, serial) for arrived()."""
    global _ledger, _serial, _bytes
    gone: list[Any] = []
    with _lock:
        if _ledger is None:
            _ledger = _Ledger()
        _sweep(gone)
        _serial += 1
        slot = _ledger.free.pop() if _ledger.free else -1
        _holds[_serial] = _Hold(region, slot, _serial, sent)
        if region not in _regions:
            _bytes += region.size
        _regions[region] = _regions.get(region, 0) + 1
        receipt = _ledger.handle, slot, _serial
        if sent:
            _wait_at_exit()
        wants_keeper = _bytes >= _WORTH_A_THREAD and _keeper is None
    if wants_keeper:
        _start_keeper()
    return receipt


def arrived(handle: bytes, slot: int, serial: int) -> None:
    """Tell the sender that it need not hold what we have loaded."""
    if slot < 0:
        return
    try:
        region, offset, _ = _shmdev.attach(handle, False)
        _shmdev.ledger_enter(region, offset, slot, serial)
    except (OSError, ValueError, MemoryError):
        pass  # it has ended, or we are short of descriptors: it lets go in time


def _keep() -> None:
    """Let go of what has arrived when it has, until little is left."""
    global _keeper
    last = -1
    while True:
        gone: list[Any] = []
        with _lock:
            ledger = _ledger
            if _keeper is not threading.current_thread() or ledger is None:
                return
            seen = ledger.entries[0]
            _sweep(gone, thoroughly=True)
            if _bytes >= _WORTH_A_THREAD:
                # What is held from now on may have to go before all of these.
                seconds = min(
                    min(hold.deadline for hold in _holds.values()) - time.monotonic(),
                    max(_STAY_SECONDS, min(_sent_seconds, _pickled_seconds)),
                )
            elif last == _serial:
                _keeper = None
                return
            else:
                seconds = _STAY_SECONDS
            last = _serial
        gone.clear()
        _shmdev.ledger_wait(ledger.memory, seen, seconds)
        time.sleep(_PAUSE_SECONDS)


def _start_keeper() -> None:
    global _keeper
    thread = threading.Thread(target=_keep, name="shmdev-holds", daemon=True)
    with _lock:
        if _keeper is not None:
            return
        _keeper = thread
    try:
        thread.start()
    except RuntimeError:  # no thread to be had, or the interpreter is ending
        with _lock:
            if _keeper is thread:
                _keeper = None


def _wait_at_exit() -> None:
    """Let a process of multiprocessing end after what it sent has arrived.  Locked."""
    global _finalizer
    if _finalizer is not None:
        return
    with imports:
        from multiprocessing import process, util

    _finalizer = False
    if process.parent_process() is not None:
        # After queues have written what was put into them, whose priority is -5.
        _finalizer = util.Finalize(None, _linger, exitpriority=-10)


def _linger() -> None:
    end = time.monotonic() + _EXIT_SECONDS
    while True:
        gone: list[Any] = []
        with _lock:
            ledger = _ledger
            if ledger is None:
                return
            seen = ledger.entries[0]
            _sweep(gone, thoroughly=True)
            waiting = any(hold.sent for hold in _holds.values())
        gone.clear()
        left = end - time.monotonic()
        if not waiting or left <= 0:
            return
        _shmdev.ledger_wait(ledger.memory, seen, left)


def set_hold(sent: float = 600.0, pickled: float = 10.0) -> None:
    """Set for how many seconds memory that was pickled, and dropped, waits to be loaded.

    sent is for what goes through queues, pipes, pools and managers of multiprocessing,
    pickled for all other pickles, which may not be meant for anybody.  An array that is
    alive needs neither: any process can load it at any time.  Once it has been loaded,
    it lives as long as somebody has it, and its sender does not hold it any more.

    What is held at the moment is held no longer than it is now set.  Never more than a
    quarter of the machine's memory is held; what was sent first is given up first.

    Any thread may call this.  New in version 0.1.
    """
    global _sent_seconds, _pickled_seconds
    if not (sent >= 0 and pickled >= 0):
        raise ValueError("times must not be negative")
    gone: list[Any] = []
    with _lock:
        _sent_seconds, _pickled_seconds = float(sent), float(pickled)
        now = time.monotonic()
        for hold in _holds.values():
            hold.deadline = min(hold.deadline, now + (sent if hold.sent else pickled))
        _sweep(gone, thoroughly=True)


def held() -> int:
    """How many bytes are held now; for tests."""
    gone: list[Any] = []
    with _lock:
        _sweep(gone, thoroughly=True)
        return _bytes
