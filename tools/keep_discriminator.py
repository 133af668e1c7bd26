"""Keeps the discriminator of a pair.

    python -m rootstock.tools.keep_discriminator --from=PAIR --to=MODEL_DIR

PAIR is the MODEL_DIR of a run of ELECTRA or DeBERTa-v3; MODEL_DIR becomes that of its discriminator, ready for fine-tuning and conversion.
Tables that were learnt as a difference to the generator's (gradient-disentangled embeddings) become their sum. The generator is left
behind.
"""

import argparse
import pathlib
import re
import sys
from collections.abc import Mapping

import numpy as np
from jaxtyping import Float

from rootstock.engine import checkpoints, model_dir
from rootstock.engine.describe import rebuild
from rootstock.engine.errors import UserError
from rootstock.engine.launch import guarded
from rootstock.models import deberta, deberta_pair, electra
from rootstock.tools import converted, hf_files

DISCRIMINATORS = {electra.Pair: electra.Discriminator, deberta_pair.Pair: deberta.Discriminator}

_BASE = re.compile(r"/base/table$")


def keep(pair: str, target: str, step: int | None = None) -> None:
    """Writes the MODEL_DIR `target` from a checkpoint of `pair`, the newest by default."""
    config = model_dir.read_config(pair)
    family = DISCRIMINATORS.get(rebuild(config.family))
    if family is None:
        names = " or ".join(f"{kind.__module__.split('.')[-1]}.{kind.__name__}" for kind in DISCRIMINATORS)
        raise UserError(f"{pair} holds a {config.family[1:]}; only of {names} can a discriminator be kept")
    blueprint = converted.drawn(family, rebuild(config.model).discriminator)
    params = summed(checkpoints.read_params(pair, step=step))
    with hf_files.fresh_folder("--to", target) as unfinished:
        kept = {name: params[name] for name in blueprint.specs}
        converted.write_model_dir(unfinished, blueprint, kept, _vocabulary(pair, unfinished))


def summed(params: Mapping[str, Float[np.ndarray, "..."]]) -> dict[str, Float[np.ndarray, "..."]]:
    """Every `X/base/table` and `X/delta/table` as their sum, `X/table`."""
    found = {name: np.asarray(value) for name, value in params.items()}
    for name in [name for name in found if _BASE.search(name)]:
        stem = _BASE.sub("", name)
        found[f"{stem}/table"] = found.pop(name) + found.pop(f"{stem}/delta/table")
    return found


def _vocabulary(pair: str, out: pathlib.Path) -> dict[str, str] | None:
    known = model_dir.read_config(pair).vocabulary
    if known.get("folder") is None:
        return None
    return model_dir.adopt_vocabulary(out, f"{pair}/{known.folder}", known.checksum)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m rootstock.tools.keep_discriminator", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--from", dest="pair", required=True, metavar="PAIR", help="MODEL_DIR of a run of ELECTRA or DeBERTa-v3")
    parser.add_argument("--to", required=True, metavar="MODEL_DIR", help="where the discriminator goes; must not exist")
    parser.add_argument("--step", type=int, help="of the checkpoint of PAIR (default: the newest)")
    flags = parser.parse_args(arguments)
    return guarded(lambda: keep(flags.pair, flags.to, flags.step))


if __name__ == "__main__":
    sys.exit(main())
