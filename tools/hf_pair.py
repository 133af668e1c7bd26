"""One of two models that were trained together: a generator and a discriminator (`models.electra.Pair`, `models.deberta_pair.Pair`)."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from rootstock.engine.errors import UserError
from rootstock.engine.state import Blueprint
from rootstock.models.layers import parameters

PARTS = ("discriminator", "generator")


def one(blueprint: Blueprint, params: Mapping[str, np.ndarray], part: str | None) -> tuple[Any, dict[str, np.ndarray], str | None]:
    """The model of that part (abstract), its parameters by storage name, and None: what is left of `part`. A model that is no pair comes
    back as it is. Tables that the discriminator keeps as another one's plus a difference (`models.sharing`) are added up.
    """
    pair = blueprint.model
    if not hasattr(pair, "discriminator_class"):
        return pair, dict(params), part
    if part not in (None, *PARTS):
        raise UserError(f"--task={part}: this checkpoint is a pair; choose {' or '.join(PARTS)}")
    full = blueprint.merge({name: jnp.asarray(value) for name, value in params.items()})
    if part == "generator":
        kind, config, modules = pair.generator_class, pair.config.generator, {"": full.generator}
    else:
        kind, config = pair.discriminator_class, pair.config.discriminator
        modules = {"encoder/": full.encoder, "detection/": full.detection}
    found = {prefix + name: np.asarray(value) for prefix, module in modules.items() for name, value in parameters.split(module)[1].items()}
    return parameters.abstract(lambda key: kind(config, key)), _added_up(found), None


def _added_up(params: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """base + delta as one table."""
    differences = {name.removesuffix("delta/table"): name for name in params if name.endswith("/delta/table")}
    whole = {f"{table}table": params[f"{table}base/table"] + params[name] for table, name in differences.items()}
    parts = {f"{table}{part}/table" for table in differences for part in ("base", "delta")}
    return {name: value for name, value in params.items() if name not in parts} | whole
