"""Floating-point operations, counted in the traced program instead of promised by a formula for each model.

A product of [.., M, K] and [.., K, N] costs 2 M N K for every batch element. The forward pass of the objective is traced and its products
are summed, the body of a scan as often as it runs; everything else (norms, softmax, gelu) is left out, as is usual. The backward pass
costs twice the forward one, and recomputation does not count as work:

    flops of a step = 3 * sum over the products of the forward pass of 2 M N K
    MFU = flops of a step / (seconds of a step * devices * peak of a device)

For BERT-base with a gathered head at 15% this gives 545 MFLOP a token at length 128 and 588 at 512.
"""

import math
from collections.abc import Callable

import jax

TRAINING = 3  # forward once, backward twice


def forward(function: Callable, *args) -> float:
    """Floating-point operations of the matrix products in `function(*args)`; the arguments may be abstract."""
    return float(_count(jax.make_jaxpr(function)(*args).jaxpr))


def _count(jaxpr) -> float:
    return sum(_equation(equation) for equation in jaxpr.eqns)


def _equation(equation) -> float:
    if equation.primitive.name == "dot_general":
        (contracted, _), _ = equation.params["dimension_numbers"]
        left = equation.invars[0].aval.shape
        return 2.0 * math.prod(equation.outvars[0].aval.shape) * math.prod(left[d] for d in contracted)
    if equation.primitive.name.startswith("dot_product_attention_fwd"):  # cuDNN's kernel: [B, Q, H, D], [B, K, H, D], [B, K, H, D]
        (batch, queries, heads, width), (_, keys, _, values) = equation.invars[0].aval.shape, equation.invars[2].aval.shape
        return 2.0 * batch * heads * queries * keys * (width + values)
    if equation.primitive.name == "ragged_dot_general":  # every row goes through one of the matrices
        return 2.0 * math.prod(equation.outvars[0].aval.shape) * equation.invars[1].aval.shape[1]
    if equation.primitive.name == "cond":
        return max(_count(branch.jaxpr) for branch in equation.params["branches"])
    times = equation.params["length"] if equation.primitive.name == "scan" else 1
    return times * sum(_count(inner) for inner in _inner(equation.params))


def _inner(params: dict) -> list:
    """The programs inside an equation (scan, jit, checkpoint, custom derivatives)."""
    found = []
    for value in params.values():
        value = getattr(value, "jaxpr", value)
        if hasattr(value, "eqns"):
            found.append(value)
    return found
