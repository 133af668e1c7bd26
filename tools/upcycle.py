"""Makes a mixture of experts of a dense checkpoint (sparse upcycling), or a dense model of a mixture.

    python -m rootstock.tools.upcycle --from=MODEL_DIR --to=MODEL_DIR2 --gin_file=pretrain/upcycle_bert_base.gin
    python -m rootstock.tools.upcycle --reverse --from=MODEL_DIR2 --to=MODEL_DIR3 [--gin_file=...]

The recipe binds `mixture.Mixture`, maybe `upcycling.Surgery`, and `train.Run.update`, whose state goes into the checkpoint too (of
further phases that of each); --gin.NAME and --gin_bindings change it as in training. Training goes on with
`train.Run.continue_from = MODEL_DIR2`, at the dense run's step. --reverse averages the experts. Nothing is ever whole in memory but one
layer's matrices; nothing of --to is left of a surgery that fails.
"""

import argparse
import copy
import math
import pathlib
import re
import shutil
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from rootstock.engine import checkpoints, launch, model_dir, state
from rootstock.engine.describe import rebuild
from rootstock.engine.errors import UserError
from rootstock.engine.load import draw
from rootstock.engine.sockets import Update
from rootstock.engine.state import Blueprint, TrainState
from rootstock.methods import upcycling
from rootstock.tools import hf_files
from rootstock.tools.converted import drawn, one_device, told
from rootstock.tools.lazy_arrays import Saved, Writing
from rootstock.tools.surgery_plan import Maker, leaves, places, write_moments

Phases = Sequence[tuple[Update, str]]  # of a step: the update of each, and which parameters it moves


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m rootstock.tools.upcycle",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--from", dest="source", metavar="MODEL_DIR", required=True, help="a dense run's folder, or a converted checkpoint")
    parser.add_argument("--to", metavar="MODEL_DIR", required=True, help="what to write; must not exist yet")
    parser.add_argument("--gin_file", action="append", default=[], metavar="FILE", help="the recipe of the sparse run; repeatable")
    parser.add_argument("--gin_bindings", action="append", default=[], metavar="BINDING", help="repeatable")
    parser.add_argument("--gin.NAME", dest="_", metavar="VALUE", help="binds a macro, as in training")
    parser.add_argument("--step", type=int, help="which checkpoint of --from (default: the newest)")
    parser.add_argument("--reverse", action="store_true", help="average the experts of a sparse checkpoint into a dense one")
    arguments = sys.argv[1:] if argv is None else argv
    short = [argument for argument in arguments if re.match(r"--gin\.[\w./@]+=", argument)]
    flags = parser.parse_args([argument for argument in arguments if argument not in short])
    if not flags.gin_file and not flags.reverse:
        parser.error("--gin_file names the recipe with the mixture")
    bindings = flags.gin_bindings + [argument.removeprefix("--gin.").replace("=", " = ", 1) for argument in short]
    return launch.guarded(lambda: upcycle(flags.source, flags.to, flags.gin_file, bindings, flags.step, flags.reverse))


def upcycle(
    source: str, target: str, gin_files: Sequence[str] = (), bindings: Sequence[str] = (), step: int | None = None, reverse: bool = False
) -> None:
    """The whole surgery, from a checkpoint to a MODEL_DIR with one checkpoint of the same step."""
    config = model_dir.read_config(source)
    dense = draw(source, one_device())
    if gin_files:
        _bind(gin_files, bindings)
    phases, surgery = (_phases(), _surgery()) if gin_files else ([], upcycling.Surgery())
    step = checkpoints.newest(source) if step is None else step
    checkpoints.check(source, step)
    described = rebuild(config.model)
    try:
        if reverse:
            mixture, changed = upcycling.mixture_of(described), upcycling.dense_config(described)
        else:
            mixture = launch.fetch("rootstock.models.layers.moe.mixture.Mixture")
            changed = upcycling.sparse_config(described, mixture)
    except ValueError as error:
        raise UserError(f"--from={source}: {error}") from error
    with told(source):
        blueprint = drawn(rebuild(config.family), changed)
    if (saved := checkpoints.shapes(source, step)) != (wanted := {name: spec.shape for name, spec in dense.specs.items()}):
        odd = sorted(name for name in saved.keys() | wanted.keys() if saved.get(name) != wanted.get(name))
        raise UserError(f"the checkpoint in {source} does not fit its config.json: {checkpoints.listed(odd)}")
    with hf_files.fresh_folder("--to", target) as unfinished:
        written = _write(unfinished, Saved(source, step), dense, blueprint, mixture, surgery, phases, step, reverse)
        _describe(unfinished, pathlib.Path(source), blueprint, config.vocabulary)
    count = sum(math.prod(spec.shape) for spec in blueprint.specs.values())
    print(f"{target}: step {step:,}, {count:,} parameters ({written / 1e6:,.0f} MB), from {source}")


def _write(folder, saved, dense, blueprint, mixture, surgery, phases, step, reverse) -> int:
    if "carried" in {name.split(".")[0] for name in saved.names("training")}:
        raise UserError(f"{saved.folder} carries something from step to step for its objective, which the surgery does not take along")
    planned = _planned(blueprint, phases)
    writing = Writing(folder, step, planned, saved.position())
    maker = Maker(saved, writing, mixture, surgery, reverse)
    sources = places("params", {name: name for name in dense.specs})
    for name, like in planned.all_params.items():
        maker.array("params", name, name, like, sources, blueprint.specs[name].axes, values=True)
    if phases:
        before = list(leaves(_planned(dense, phases), dense))
        write_moments(maker, planned, blueprint, before, surgery.moments, step)
    for name, value in (("step", np.int32(step)), ("elapsed", np.float32(saved.read("training", "elapsed")))):
        writing.write(writing.create("training", name, (), value.dtype, 0), (), np.asarray(value))
    writing.finish()
    return writing.bytes


def _planned(blueprint: Blueprint, phases: Phases) -> TrainState:
    moved = lambda pattern: frozenset(name for name in blueprint.trainable if state.is_trainable(name, pattern))
    return state.abstract(blueprint, [(update.tx, moved(trainable)) for update, trainable in phases], ())


def _describe(folder: pathlib.Path, source: pathlib.Path, blueprint: Blueprint, vocabulary: Any) -> None:
    model_dir.write_config(folder, blueprint.model, dict(vocabulary))
    model_dir.write_atomically(folder / "model-info.txt", model_dir.parameter_table(blueprint))
    if named := vocabulary.get("folder"):
        shutil.copytree(source / named, folder / named)


def _bind(files: Sequence[str], bindings: Sequence[str]) -> None:
    """The recipe of a run; what it still requires (data, a folder) does not matter here."""
    try:
        launch.bind(files, bindings)
    except UserError:
        required = [name for name, value in launch.macros().items() if "REQUIRED" in value]
        if not required:
            raise
        launch.bind(files, [*bindings, *(f"{name} = 'not needed here'" for name in required)])


def _surgery() -> upcycling.Surgery:
    import gin

    bound = any(selector.endswith("upcycling.Surgery") for _, selector in gin.config._CONFIG)
    return launch.fetch("rootstock.methods.upcycling.Surgery") if bound else upcycling.Surgery()


def _phases() -> Phases:
    """Those of the recipe's step, built; none where it has no optimizer. What they learn from does not matter here."""
    import gin

    bound = gin.config._CONFIG
    run = next((values for (_, name), values in bound.items() if name.endswith("train.Run") and "update" in values), None)
    if run is None:
        return []
    for (_, name), values in bound.items():
        if name.endswith("train.Phase"):
            values["objective"] = None
    built = copy.deepcopy  # a copy of gin's references is what they refer to, built
    further = [(phase.update, phase.trainable) for phase in built(run.get("then", []))]
    return [(built(run["update"]), run.get("trainable", ".*")), *further]


if __name__ == "__main__":
    sys.exit(main())
