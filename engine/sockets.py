"""The sockets: where a method plugs in. Types and docstrings only; a method uses as few as it needs.

| socket    | shape                                                                    | examples                          |
|-----------|--------------------------------------------------------------------------|-----------------------------------|
| Layer     | an NNX module with the call signature of the one it replaces             | rational activation, MoE          |
| Objective | `prepare(batch, ctx)`, `weights(batch)`, `(model, batch, ctx) -> Loss`   | masked LM, distillation           |
| Graft     | `(model, key) -> model`; `train.Run.trainable` names what then moves     | adapters, LoRA, prompts           |
| View      | `(params, ctx) -> params`, before the merge                              | pruning masks, quantisation       |
| Gradient  | `grad_fn -> grad_fn`, outside accumulation or inside it                  | SAM outside, DP-SGD inside        |
| Update    | an optax transformation and `eval_params`                                | LAMB, SWA, schedule-free          |
| Probe     | `zero`, `add`, `finish`: a statistic over data                           | evaluation scores, Fisher         |
| Data      | random access to an endless stream of examples                           | a shuffled cache, a mixture       |
| Hook      | `due`, `call`: host-side work between steps                              | evaluate, save, profile           |
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Protocol, runtime_checkable

import jax
import optax
from flax import nnx, struct
from jaxtyping import Array, Float, Int, Key, PyTree

Params = dict[str, Array]
Batch = PyTree[Array]


@struct.dataclass
class Term:
    """One mean, as its two halves: total / weight. Halves add up over micro-batches, devices and processes; means do not."""

    total: Float[Array, ""]
    weight: Float[Array, ""]


@struct.dataclass
class Loss:
    """loss = sum_k scale_k(step) * total_k / weight_k, each weight taken over the whole global batch."""

    terms: dict[str, Term]
    metrics: dict[str, Term] = struct.field(default_factory=dict)
    carried: Any = ()  # queues, buffers, running statistics: saved, no gradient
    per_example: Float[Array, "B"] | None = None


@struct.dataclass
class Context:
    """What a step knows besides parameters and batch.

    `key` (for masks, noise) and `dropout` differ from step to step and from micro-batch to micro-batch; `dropout` is None in evaluation.
    """

    step: Int[Array, ""]
    key: Key[Array, ""]
    dropout: Key[Array, ""] | None = None
    carried: Any = ()
    others: Mapping[str, nnx.Module] = struct.field(default_factory=dict)  # teachers: frozen, sharded by the same rules


GradFn = Callable[[Params, Batch, Context], tuple[Loss, Params]]
Gradient = Callable[[GradFn], GradFn]
View = Callable[[Params, Context], Params]
Graft = Callable[[nnx.Module, Key[Array, ""]], nnx.Module]


Schedule = Callable[[Int[Array, ""]], Float[Array, ""] | float]


@dataclasses.dataclass(frozen=True)
class Update:
    """An optax transformation over flat parameter dictionaries. `learning_rate` is what `tx` uses, for the log.

    `eval_params(opt_state, params)` gives the parameters to evaluate and to hand on (averages, schedule-free); by default those that are
    trained.
    """

    tx: optax.GradientTransformation
    learning_rate: Schedule
    eval_params: Callable[[Any, Params], Params] = lambda opt_state, params: params


@runtime_checkable
class Objective(Protocol):
    """What is minimised. `scales` maps each term's name to its factor, a function of the step."""

    scales: Mapping[str, Schedule]

    def prepare(self, batch: Batch, ctx: Context) -> Batch:
        """Masks, labels, noise: runs on the device, once, over the whole batch."""

    def weights(self, batch: Batch) -> dict[str, Float[Array, ""]]:
        """The denominator of each term over this (whole, prepared) batch."""

    def __call__(self, model: nnx.Module, batch: Batch, ctx: Context) -> Loss:
        """The totals of each term over this (maybe partial) batch."""


@runtime_checkable
class Probe(Protocol):
    """A statistic over data. `add` is jitted under the training mesh; `zero` and `finish` run on the host."""

    def zero(self) -> PyTree: ...

    def add(self, model: nnx.Module, batch: Batch, statistic: PyTree) -> PyTree: ...

    def finish(self, statistic: PyTree) -> dict[str, float]: ...


@runtime_checkable
class Data(Protocol):
    """Random access to a stream of examples: the position in it is one integer, the index of the next example over the whole run. What
    probes look at is finite and has a length.
    """

    vocabulary: str | None  # the folder of the vocabulary that made the ids, and its SHA-256
    vocabulary_checksum: str | None

    def spec(self, size: int) -> PyTree[jax.ShapeDtypeStruct]:
        """Shapes of a global batch of `size` examples."""

    def batch(self, start: int, size: int, shard: int = 0, shards: int = 1) -> PyTree:
        """Rows `shard` of `shards` of the global batch that begins at example `start`, as numpy arrays."""


@runtime_checkable
class Hook(Protocol):
    """Host-side work between steps. Each is asked before a run begins, at step 0 or that of `continue_from`, and after every step; after
    the last with `last=True`.
    """

    def due(self, step: int, last: bool) -> bool: ...

    def call(self, run: Any) -> None:
        """`run` is the `engine.train.Running`: state, step, metrics, mesh."""
