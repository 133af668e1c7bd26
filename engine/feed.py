"""Brings batches to the devices while the step before them still runs."""

import queue
import threading
from collections.abc import Iterator, Mapping

import jax
import numpy as np

from rootstock.engine.errors import UserError
from rootstock.engine.partitioning import Partitioner
from rootstock.engine.schedules import BatchRamp
from rootstock.engine.sockets import Batch, Data


def place(data: Data, start: int, size: int, partitioner: Partitioner) -> Batch:
    """The global batch of `size` examples from `start`, laid out over the mesh; a process reads only the rows that its devices hold."""
    shards = partitioner.batch_shards
    sharding = partitioner.batch
    if jax.process_count() == 1:
        return jax.tree.map(lambda x: jax.device_put(x, sharding), data.batch(start, size))
    mine = {index[0].start or 0 for index in sharding.addressable_devices_indices_map((shards,)).values()}
    rows = {shard: data.batch(start, size, shard, shards) for shard in sorted(mine)}

    def whole(*parts: np.ndarray):
        shape = (len(parts[0]) * shards, *parts[0].shape[1:])
        held = dict(zip(rows, parts, strict=True))
        return jax.make_array_from_callback(shape, sharding, lambda index: held[(index[0].start or 0) * shards // shape[0]])

    return jax.tree.map(whole, *rows.values())


def abstract(data: Data, size: int, partitioner: Partitioner) -> Batch:
    """The shapes and layout of a batch, for compiling ahead. Refuses sizes that the mesh does not divide."""
    spec, shards = data.spec(size), partitioner.batch_shards
    uneven = sorted({x.shape[0] for x in jax.tree.leaves(spec) if x.shape[0] % shards})
    if uneven:
        parts = {name: part for name, part in spec.items() if isinstance(part, Mapping)}
        each = {name: jax.tree.leaves(part)[0].shape[0] for name, part in parts.items()}
        told = f" (of its parts {each}; equal ones fit where BATCH_SIZE is a multiple of {len(each) * shards})" if each else ""
        raise UserError(
            f"a batch has {uneven[0]} examples, which the {shards} data shards of the mesh {dict(partitioner.mesh.shape)} do not divide"
            f"{told}; change BATCH_SIZE or the mesh"
        )
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=partitioner.batch), spec)


def batches(data: Data, ramp: BatchRamp, first: int, last: int, partitioner: Partitioner, ahead: int = 2) -> Iterator[Batch]:
    """The batches of steps [first, last), read by a thread that stays at most `ahead` batches in front. Errors in the thread surface
    here.
    """
    ready: queue.Queue = queue.Queue(maxsize=ahead)
    stop = threading.Event()

    def put(item) -> bool:
        while not stop.is_set():
            try:
                ready.put(item, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def work():
        try:
            for step in range(first, last):
                if not put(place(data, ramp.position(step), ramp.size(step), partitioner)):
                    return
            put(None)
        except Exception as error:
            put(error)

    thread = threading.Thread(target=work, name="feed", daemon=True)
    thread.start()
    try:
        while (item := ready.get()) is not None:
            if isinstance(item, Exception):
                raise item
            yield item
    finally:
        stop.set()
        thread.join()
