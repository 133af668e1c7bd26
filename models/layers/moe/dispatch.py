"""Two ways to carry tokens to their experts and the answers back, equal where nobody is dropped.

`einsum`: a buffer of fixed size for every expert and group, filled and read by products with one-hot masks (GShard). What does not fit is
dropped.

`ragged`: rows sorted by expert go through `jax.lax.ragged_dot`, or another `product`; nobody is dropped, whatever the capacity.

On a mesh each device does this for its own tokens. `mesh` says along which axes experts are kept on different devices, to which rows go
by an all-to-all, and come back the same way; `ragged` leaves room for the case that all rows go to one device.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int, Key

from rootstock.models.layers import products
from rootstock.models.layers.moe import experts as side_by_side
from rootstock.models.layers.moe.routes import ByExperts, ByTokens


@dataclasses.dataclass(frozen=True)
class Mesh:
    """Mesh axes along which the experts are parted (`across`), and the hidden units of each (`summed`); none on one device."""

    across: tuple[str, ...] = ()
    summed: tuple[str, ...] = ()


Dispatch = Callable[..., Array]
Product = side_by_side.Product
ALONE = Mesh()


def default() -> Dispatch:
    """`ragged` where its kernel is a real one, `einsum` on a CPU, where it is the faster one."""
    return einsum if jax.default_backend() == "cpu" else ragged


def drops(dispatch: Dispatch) -> bool:
    """Whether an expert's places are counted. Recipes hand over functions in a wrapper of gin's, which keeps attributes, code also
    a functools.partial."""
    return not getattr(getattr(dispatch, "func", dispatch), "dropless", False)


def einsum(
    experts: nnx.Module, x: Float[Array, "G N width"], routes: ByTokens | ByExperts, key: Key[Array, ""] | None, mesh: Mesh = ALONE
) -> Float[Array, "G N width"]:
    mask, weights = routes.masks()
    buffers = products.einsum("gnec,gnd->egcd", mask.astype(x.dtype), x)
    if mesh.across:
        buffers = jax.lax.all_to_all(buffers, mesh.across, 0, 1, tiled=True)
    batched = side_by_side.with_products(experts, lambda dense: side_by_side.Batched(dense, mesh.summed))
    rows = buffers.reshape(buffers.shape[0], -1, buffers.shape[-1])
    answers = batched(rows, key).reshape(buffers.shape)
    if mesh.across:
        answers = jax.lax.all_to_all(answers, mesh.across, 1, 0, tiled=True)
    return products.einsum("gnec,egcd->gnd", weights.astype(answers.dtype), answers)


def ragged(
    experts: nnx.Module,
    x: Float[Array, "G N width"],
    routes: ByTokens | ByExperts,
    key: Key[Array, ""] | None,
    mesh: Mesh = ALONE,
    product: Product = jax.lax.ragged_dot,
) -> Float[Array, "G N width"]:
    groups, length, width = x.shape
    pairs = routes.pairs()
    order = jnp.argsort(pairs.experts.reshape(-1))
    tokens = (pairs.tokens + length * jnp.arange(groups)[:, None]).reshape(-1)[order]
    sizes = jnp.bincount(pairs.experts.reshape(-1), length=routes.experts)
    rows = x.reshape(groups * length, width)[tokens]
    here = lambda rows, sizes: _here(experts, rows, sizes, key, mesh, product)
    answers = _abroad(here, rows, sizes, mesh) if mesh.across else here(rows, sizes)
    weighted = answers * pairs.weights.reshape(-1)[order].astype(answers.dtype)[:, None]
    return jnp.zeros((groups * length, width), answers.dtype).at[tokens].add(weighted).reshape(x.shape)


ragged.dropless = True


def tokamax(rows: Float[Array, "N d"], kernels: Float[Array, "E d f"], sizes: Int[Array, "E"]) -> Float[Array, "N f"]:
    """`jax.lax.ragged_dot` by the kernels of the library tokamax (https://github.com/openxla/tokamax), which picks one for the device:
    `dispatch.ragged.product = @dispatch.tokamax`.
    """
    try:
        from absl import flags
        from tokamax import ragged_dot
    except ImportError as error:
        raise ValueError("dispatch.tokamax needs the library tokamax: pip install --editable '.[tokamax]' in Rootstock's folder") from error
    if not flags.FLAGS.is_parsed():  # tokamax would parse the command line, which is ours
        flags.FLAGS.mark_as_parsed()
    return ragged_dot(rows, kernels, sizes)


def _here(experts: nnx.Module, rows: Array, sizes: Int[Array, "E"], key: Key[Array, ""] | None, mesh: Mesh, product: Product) -> Array:
    """Rows sorted by expert, `sizes` of them to each, through the experts of this device; what is beyond them gives 0."""
    owners = _owners(sizes, len(rows))
    alone = lambda dense: side_by_side.Ragged(dense, sizes, jnp.minimum(owners, len(sizes) - 1), mesh.summed, product)
    answers = side_by_side.with_products(experts, alone)(rows[None], key)[0]
    return jnp.where((owners < len(sizes))[:, None], answers, jnp.zeros((), answers.dtype))


def _abroad(here: Callable[[Array, Array], Array], rows: Array, sizes: Int[Array, "E"], mesh: Mesh) -> Array:
    """The same, through the experts of all devices: `sizes` counts those of all, `here` is what each device does with its own."""
    swapped = lambda x: jax.lax.all_to_all(x, mesh.across, 0, 0, tiled=True)
    devices, most = jax.lax.axis_size(mesh.across), len(rows)
    parts = sizes.reshape(devices, -1)
    leaving = parts.sum(1)
    place = (jnp.cumsum(leaving) - leaving)[:, None] + jnp.arange(most)[None]  # of the rows that leave for each device
    going = jnp.arange(most)[None] < leaving[:, None]
    there = swapped(jnp.where(going[..., None], rows[jnp.minimum(place, most - 1)], jnp.zeros((), rows.dtype)))
    arrived = swapped(parts)
    order = jnp.argsort(jax.vmap(lambda part: _owners(part, most))(arrived).reshape(-1))
    answers = here(there.reshape(devices * most, -1)[order], arrived.sum(0))
    back = swapped(jnp.zeros_like(answers).at[order].set(answers).reshape(devices, most, -1))
    return jnp.zeros(rows.shape, back.dtype).at[jnp.where(going, place, most)].add(back, mode="drop")


def _owners(sizes: Int[Array, "E"], rows: int) -> Int[Array, "N"]:
    """The expert of each row; for rows that are nobody's, the number of experts."""
    return jnp.searchsorted(jnp.cumsum(sizes), jnp.arange(rows), side="right")
