# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
"""Arrays between the workers of a dask.distributed cluster.

Importing this module registers how shmdev.ndarray travels; clients and workers have to
import it, workers by ``--preload shmdev.dask`` or ``LocalCluster(preload=["shmdev.dask"])``.
Between two processes of one machine the array then goes without a copy, and the receiver has
the same memory; between machines its bytes go, and the receiver has an array in shared
memory of its own.

Dask takes results for immutable.  Who writes to an array that it has from another
worker changes it for all that have it.

Whatever passes through a scheduler goes as bytes unless scheduler, workers and client meet
on the loopback interface, because the scheduler does not tell where it passes it on to; and so
does what a worker spills to disk.  What dask has to pickle goes by reference, always:
arrays that are attributes of other objects, or that are put into a task where a future
(Client.scatter()) could stand.  Such objects must not be spilled, nor go to other machines.

New in version 0.1.
"""

from __future__ import annotations

import contextlib
import pickle
from ipaddress import ip_address
from socket import AF_INET, AF_INET6, SOCK_DGRAM, socket

from distributed import Client, Worker
from distributed.comm.addressing import get_address_host, resolve_address
from distributed.protocol.numpy import deserialize_numpy_ndarray, serialize_numpy_ndarray
from distributed.protocol.serialize import register_serialization

from ._ndarray import array, ndarray, plain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def _is_loopback(address: str) -> bool:
    if address.startswith("inproc://"):
        return True
    return ip_address(get_address_host(resolve_address(address))).is_loopback


def _is_here(address: str) -> bool:
    """Whether address is one of this machine's, which one can bind to."""
    if _is_loopback(address):
        return True
    host = get_address_host(resolve_address(address))
    with socket(AF_INET6 if ":" in host else AF_INET, SOCK_DGRAM) as probe:
        try:
            probe.bind((host, 0))
        except OSError:
            return False
    return True


def _instances(cls: Any) -> tuple[Any, ...]:
    while True:
        try:
            return tuple(cls._instances)
        except RuntimeError:  # another thread has made one just now
            continue


def _cluster() -> tuple[set[str], set[str]]:
    """The schedulers this process knows, and the workers."""
    schedulers, workers = set(), set()
    for worker in _instances(Worker):
        schedulers.add(worker.scheduler.address)
        with contextlib.suppress(ValueError):  # it has none yet
            workers.add(worker.address)
    for client in _instances(Client):
        if client.scheduler is not None:
            # What it calls itself is not what we call it, if it has other machines' workers.
            identity = client._scheduler_identity
            schedulers.add(client.scheduler.address)
            schedulers.add(identity.get("address", client.scheduler.address))
            workers.update(identity.get("workers", ()))
    return schedulers, workers


def _reaches_memory(context: Any) -> bool:
    """Whether whoever is going to load what is sent has this machine's memory."""
    if not context or "recipient" not in context:
        return False  # it is going to a disk, or who knows where
    schedulers, workers = _cluster()
    if schedulers and all(map(_is_loopback, schedulers | workers)):
        return True
    # The scheduler, if it is on this machine, cannot be told from the others here.
    return _is_here(context["recipient"]["address"]) and not any(map(_is_here, schedulers))


def _serialize(x: Any, context: Any = None) -> tuple[dict[str, Any], list[Any]]:
    if _reaches_memory(context):
        return {"reference": pickle.dumps(x)}, []
    header, frames = serialize_numpy_ndarray(plain(x), context)
    return {"values": header}, frames


def _deserialize(header: dict[str, Any], frames: list[Any]) -> Any:
    if "reference" in header:
        return pickle.loads(header["reference"])
    return array(deserialize_numpy_ndarray(header["values"], frames))


register_serialization(ndarray, _serialize, _deserialize)  # type: ignore[no-untyped-call]
