"""Where the time of our step goes: the parts of bert_step.py's step on two cores, each compiled and timed alone.

    python benchmarks/bert_step_parts.py [--dtype=float32] [--dropout=0.0] [--rounds=7]

Forward and backward of the encoder and of the head, the encoder with a cheaper activation and without the mask for padding, and the update.
The floor beside each is its FLOPs at the matrix rate attained in the same run, or its bytes at the rate of copying an array. Parts take
turns; medians over the rounds. Prints a Markdown table.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial

import bert_step
import bert_step_ours
import jax
import jax.numpy as jnp
import optax
import ours

from rootstock.engine import feed, flops, train
from rootstock.engine.sockets import Context
from rootstock.pretrain.objectives import mlm


def gradient(running: train.Running, loss):
    """The compiled gradient of `loss(model)`, its FLOPs, and a call of it."""

    def whole(params):
        return loss(running.blueprint.merge(params))

    params = running.state.all_params
    compiled = jax.jit(jax.grad(whole)).lower(params).compile()
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), params)
    return lambda: compiled(params), flops.TRAINING * flops.forward(whole, shapes)


def built(shape: dict, **more) -> train.Running:
    return ours.started(bert_step_ours.make_run(**{"scan": False} | shape | more))


def parts(shape: dict) -> dict[str, tuple[Callable, float, float]]:
    """Name: (call, FLOPs, bytes)."""
    running, cheap, scanned = built(shape), built(shape, activation=jax.nn.relu), built(shape, scan=True)
    batch = feed.place(running.run.data, 0, shape["batch"], running.partitioner)
    key = jax.random.key(0)
    objective = running.run.objective
    ctx = Context(step=jnp.zeros((), jnp.int32), key=key, dropout=key)
    masked = jax.jit(objective.prepare)(batch, ctx)
    hidden = jax.random.normal(key, (shape["batch"], shape["length"], shape["width"]))
    rows = mlm.places(batch)

    def encoded(model, **inputs):
        return (model.hidden(batch["input_ids"], key=key if shape["dropout"] else None, **inputs) * hidden).sum()

    def head(model):
        (term,) = objective.over(model, hidden, masked, ctx).terms.values()
        return term.total

    moved = 7 * sum(x.nbytes for x in running.state.params.values())  # parameters, gradients, two moments; all but gradients written, too
    return {
        "encoder, forward and backward": (*gradient(running, lambda model: encoded(model, **rows)), 0),
        "the same with relu": (*gradient(cheap, lambda model: encoded(model, **rows)), 0),
        "the same without padding mask": (*gradient(running, encoded), 0),
        "head and loss, forward and backward": (*gradient(running, head), 0),
        "clipping and AdamW": (updating(built(shape)), 0, moved),
        "the whole step, layers in a scan": (stepping(scanned, batch), running.flops(shape["batch"]), moved),
        "the whole step": (stepping(built(shape), batch), running.flops(shape["batch"]), moved),
    }


def updating(running: train.Running) -> Callable:
    """The update alone, of gradients that are ones."""
    grads = jax.tree.map(jnp.ones_like, running.state.params)

    @partial(jax.jit, donate_argnums=(0, 1))
    def update(params, moments, grads):
        norm = optax.tree.norm(grads)
        grads = jax.tree.map(lambda g: g * jnp.minimum(1.0, 1.0 / norm), grads)
        with jax.numpy_dtype_promotion("standard"):
            updates, moments = running.run.update.tx.update(grads, moments, params)
        return optax.apply_updates(params, updates), moments

    held = [running.state.params, running.state.opt_state[0]]

    def call():
        held[:] = update(*held, grads)
        return held

    return call


def stepping(running: train.Running, batch) -> Callable:
    step = running.compile(running.run.batch_size)

    def call():
        running.state, measured = step(running.state, batch)
        return measured

    return call


def copy_rate(mib: int = 512) -> float:
    """Bytes a second, read and written, of adding one to a large array in place."""
    held = [jnp.zeros(mib << 18, jnp.float32)]
    add = jax.jit(lambda x: x + 1, donate_argnums=0)

    def call():
        held[0] = add(held[0])
        return held[0]

    call()
    return 2 * held[0].nbytes / min(timed(call) for _ in range(5))


def timed(call) -> float:
    begin = time.perf_counter()
    jax.block_until_ready(call())
    return time.perf_counter() - begin


def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--dtype", default="float32")
    flags.add_argument("--dropout", type=float, default=0.0)
    flags.add_argument("--rounds", type=int, default=7)
    flags.add_argument("--tiny", action="store_true", help="a smoke test")
    asked = flags.parse_args()
    how = bert_step.plan("cpu", asked.tiny)
    ((length, batch),) = how["batches"].items()
    found = parts(dict(**how["model"], length=length, batch=batch, dtype=asked.dtype, dropout=asked.dropout))
    rate, copying = ours.matrix_rate(how["rate_size"], asked.dtype), copy_rate()
    seconds = {name: [] for name in found}
    for _ in range(asked.rounds + 1):
        for name, (call, *_) in found.items():
            seconds[name].append(timed(call))
    print(f"{ours.device()}; products {rate / 1e9:.0f} GFLOP/s, copying {copying / 1e9:.1f} GB/s\n")
    print("| part | seconds | floor | GFLOP | MB |\n|---|---|---|---|---|")
    for name, (_, operations, moved) in found.items():
        floor = operations / rate + moved / copying
        print(f"| {name} | {statistics.median(seconds[name][1:]):.3f} | {floor:.3f} | {operations / 1e9:.0f} | {moved / 1e6:.0f} |")


if __name__ == "__main__":
    main()
