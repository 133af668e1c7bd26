"""Converts between a Hugging Face directory and a MODEL_DIR.

    python -m rootstock.tools.convert_hf --from_hf=DIR --to=MODEL_DIR
    python -m rootstock.tools.convert_hf --from=MODEL_DIR --to_hf=DIR [--step=N] [--task=NAME]

DIR holds config.json, model.safetensors (or several with their index) and maybe a vocabulary; --from_hf may name a model on the hub.
Models with a head become an encoder with one head, whose task is called --task, or after the class (`token_classification`). From a
MODEL_DIR with several heads, --task chooses one; of a generator and a discriminator that were trained together, --task=generator the
former, otherwise the latter.
"""

import argparse
import dataclasses
import pathlib
import re
import sys
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from rootstock.data.vocabularies import Vocabulary
from rootstock.engine import checkpoints
from rootstock.engine.errors import UserError
from rootstock.engine.launch import guarded
from rootstock.engine.load import load
from rootstock.engine.state import Blueprint
from rootstock.finetune import finetuned, heads, heads_hf
from rootstock.models import hf
from rootstock.models.layers import stack
from rootstock.tools import hf_files, hf_pair, hf_vocabulary
from rootstock.tools.converted import check_shapes, drawn, told, write_model_dir


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m rootstock.tools.convert_hf",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--from_hf", metavar="DIR", help="a Hugging Face directory, or a model's name on the hub")
    parser.add_argument("--to", metavar="MODEL_DIR", help="what to write; must not exist yet")
    parser.add_argument("--from", dest="source", metavar="MODEL_DIR", help="a run's folder, or a converted checkpoint")
    parser.add_argument("--to_hf", metavar="DIR", help="what to write; must not exist yet")
    parser.add_argument("--step", type=int, help="which checkpoint of --from (default: the newest)")
    parser.add_argument("--task", help="with --from_hf: the name of the head's task; with --from: which head, where there are several")
    flags = parser.parse_args(argv)
    given = {name for name in ("from_hf", "to", "source", "to_hf") if getattr(flags, name)}
    if given not in ({"from_hf", "to"}, {"source", "to_hf"}) or (flags.from_hf and flags.step is not None):
        parser.error("give --from_hf and --to, or --from and --to_hf (and maybe --step)")
    return guarded(
        lambda: convert(flags.from_hf, flags.to, flags.task) if flags.from_hf else export(flags.source, flags.to_hf, flags.step, flags.task)
    )


class Taken(NamedTuple):
    """What a Hugging Face directory holds, as ours: the model, its parameters by storage name, the table that they were read by, the
    task of its head, and how many words its embeddings know.
    """

    blueprint: Blueprint
    params: dict[str, np.ndarray]
    table: hf.Table
    task: str | None
    vocab_size: int


def convert(source: str, target: str, task: str | None = None) -> None:
    """A Hugging Face directory as an ordinary MODEL_DIR with one checkpoint, of step 0."""
    folder = hf_files.local(source)
    taken = take(folder, task)
    with hf_files.fresh_folder("--to", target) as unfinished:
        vocabulary = hf_vocabulary.take(folder, unfinished, taken.vocab_size)
        write_model_dir(unfinished, taken.blueprint, taken.params, vocabulary)
    count = sum(value.size for value in taken.params.values())
    print(f"{target}: {taken.table.form}, {count:,} parameters{f', task {taken.task}' if taken.task else ''}")


def take(folder: pathlib.Path, task: str | None = None) -> Taken:
    """Model and parameters of a Hugging Face directory."""
    with told(folder):
        family, theirs = _family(hf_files.read_json(folder / hf_files.CONFIG))
        architecture, tensors, config = _read(folder, family, theirs)
        blueprint, task = _drawn(family, architecture, config, heads_hf.head(family, architecture, theirs), task)
        table = hf.Table(family, architecture, config)
        check_shapes(table, tensors, blueprint, lambda name: _ours(name, task))
    params = {_ours(name, task): value for name, value in table.convert(tensors).items()}
    params = checkpoints.restack(params, {name: spec.shape for name, spec in blueprint.specs.items()})
    return Taken(blueprint, params, table, task, config.vocab_size)


def export(source: str, target: str, step: int | None = None, task: str | None = None) -> None:
    """A checkpoint of a MODEL_DIR as a Hugging Face directory."""
    blueprint, params = load(source, step=step)
    model, params, task = hf_pair.one(blueprint, checkpoints.to_host(params), task)
    params = stack.unstack(params)
    with told(source):
        config = _encoder_config(model)
        family = hf.family_of(config)
        architecture, head, task = _architecture(family, model, task)
        params = {
            _theirs(name, task): value
            for name, value in params.items()
            if not name.startswith("heads/") or name.startswith(f"heads/{task}/")
        }
        params = _without_pooler(family, architecture, params, bool(family.forms[architecture].model or head))
        tensors = hf.Table(family, architecture, config).convert_back(params)
        described = {"architectures": [architecture], **hf.config_back(family, config)}
        described |= heads_hf.head_back(family, architecture, head, described) if head else {}
    with hf_files.fresh_folder("--to_hf", target) as unfinished, told(source):
        vocabulary = hf_vocabulary.give(source, unfinished, family.pieces)
        hf_files.write(unfinished, {**described, **_ids(family, described, vocabulary), "dtype": "float32"}, tensors)
    print(f"{target}: {architecture}, {sum(value.size for value in tensors.values()):,} parameters")


def _family(theirs: Mapping[str, Any]) -> tuple[hf.Family, dict[str, Any]]:
    """The family that a config.json speaks of, by `model_type`, and where that is absent by the class."""
    known = hf.families()
    kind, classes = theirs.get("model_type"), theirs.get("architectures") or []
    if not isinstance(classes, list) or not all(isinstance(name, str) for name in classes) or len(classes) > 1:
        raise hf.Mismatch(f"architectures is {classes!r}; expected a list with the name of one class")
    if kind is None and classes:
        kind = next((name for name, family in known.items() if classes[0] in family.forms), None)
    if not isinstance(kind, str) or kind not in known:
        raise hf.Mismatch(f"model_type is {kind!r}; known are {', '.join(known)}")
    return known[kind], {**theirs, "architectures": classes}


def _read(folder: pathlib.Path, family: hf.Family, theirs: Mapping[str, Any]) -> tuple[str, dict[str, np.ndarray], Any]:
    """Their class, its tensors as the table spells them, and our configuration of its encoder."""
    config = hf.config(family, theirs)
    files = hf_files.weight_files(folder)
    spelt = hf.spelt(family, files)
    tensors = hf_files.read_tensors({name: files[name] for name in spelt})
    tensors = hf.original(family, config, {spelt[name]: value for name, value in tensors.items()})
    declared = next(iter(theirs["architectures"]), None)
    architecture, pooler = hf.choose(family, declared, set(tensors), config)
    if declared and architecture != declared:
        print(f"{folder} calls itself {declared}, and its tensors are those of {architecture}: all of them are taken")
    config = dataclasses.replace(config, pooler=pooler) if family.pools else config
    table = hf.Table(family, architecture, config)
    if unused := sorted(name for name in tensors if not table.reads(name)):
        print(f"{architecture} does not use {', '.join(unused)}: left out")
    return architecture, {name: value for name, value in tensors.items() if name not in unused}, config


def _drawn(
    family: hf.Family, architecture: str, config: Any, named: heads_hf.Named | None, task: str | None
) -> tuple[Blueprint, str | None]:
    """Our model without values, and the name of its head's task."""
    if task is not None and (named is None or not re.fullmatch(r"[A-Za-z]\w*", task)):
        raise UserError(
            f"--task={task}: {'a task is called by letters, digits and _' if named else f'{architecture} has no head for a task'}"
        )
    task = (task or named.task) if named else None
    form = family.forms[architecture]
    described = config if form.model else finetuned.Config(finetuned.Encoder(family.encoder, config), {task: named.head} if named else {})
    return drawn(form.model or finetuned.Finetuned, described), task


def _ours(name: str, task: str | None) -> str:
    return f"heads/{task}/{name.removeprefix('head/')}" if task and name.startswith("head/") else name


def _theirs(name: str, task: str | None) -> str:
    return f"head/{name.removeprefix(f'heads/{task}/')}" if name.startswith(f"heads/{task}/") else name


def _encoder_config(model: Any) -> Any:
    """The configuration of a model, or of the encoder below its heads."""
    return model.config.encoder.config if isinstance(model, finetuned.Finetuned) else model.config


def _ids(family: hf.Family, described: Mapping[str, Any], vocabulary: Vocabulary | None) -> dict[str, int]:
    """The ids of special pieces; one that the model itself says (RoBERTa's padding, behind which positions begin) must be the same."""
    ids = {}
    for name, (kind, default) in family.ids.items():
        found = getattr(vocabulary, f"{kind}_id", None)
        ids[name] = described.get(name, default) if found is None else found
        if ids[name] != described.get(name, ids[name]):
            raise hf.Mismatch(f"{name} would be {described[name]} by its configuration, and its vocabulary has {ids[name]}")
    return ids


def _architecture(family: hf.Family, model: Any, task: str | None) -> tuple[str, heads.Head | None, str | None]:
    """Their class for our model, the head that goes with it, and its task."""
    if not isinstance(model, finetuned.Finetuned):
        if task is not None:
            raise UserError(f"--task={task}: this checkpoint has no heads for tasks")
        named = [name for name, form in family.forms.items() if form.model is type(model)]
        if not named:
            raise hf.Mismatch(f"transformers' {family.model_type} has no class like our {type(model).__name__}")
        return named[0], None, None
    known = model.config.heads
    if task not in known if task else len(known) > 1:
        raise UserError(f"--task={task}: choose one of the heads for {', '.join(known) or 'no task: this checkpoint is an encoder alone'}")
    if not known:
        return next(iter(family.forms)), None, None
    task = task or next(iter(known))
    suffix = heads_hf.suffix(known[task])
    named = [name for name in family.forms if name.endswith(f"For{suffix}")]
    if not named:
        raise hf.Mismatch(f"transformers' {family.model_type} has no class for {suffix}")
    return named[0], known[task], task


def _without_pooler(family: hf.Family, architecture: str, params: dict[str, np.ndarray], headed: bool) -> dict[str, np.ndarray]:
    """Where their class has no pooler, ours is left out, and said so; where it has one, ours must be there."""
    asked = family.forms[architecture].pooler
    ours = {name for name in params if name.startswith("encoder/pooler/")}
    if asked and not ours:
        raise hf.Mismatch(f"{architecture} has a pooler, and this model has none (Config.pooler is False)")
    if asked or not ours or (family.pooler and not headed):
        return params
    print(f"{architecture} has no pooler: that of the checkpoint is left out")
    return {name: value for name, value in params.items() if name not in ours}


if __name__ == "__main__":
    sys.exit(main())
