"""Converts SwitchTransformersForConditionalGeneration and MixtralForCausalLM between a Hugging Face directory and a MODEL_DIR.

    python -m rootstock.tools.convert_moe --from_hf=DIR --to=MODEL_DIR
    python -m rootstock.tools.convert_moe --from=MODEL_DIR --to_hf=DIR [--step=N]

As rootstock.tools.convert_hf, for models whose experts are tensors of their own there and one parameter here.
"""

import argparse
import sys

from rootstock.engine import checkpoints
from rootstock.engine.errors import UserError
from rootstock.engine.launch import guarded
from rootstock.engine.load import load
from rootstock.models import hf, moe_names
from rootstock.models.layers import stack
from rootstock.tools import hf_files, hf_vocabulary
from rootstock.tools.converted import drawn, told, write_model_dir


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m rootstock.tools.convert_moe",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--from_hf", metavar="DIR", help="a Hugging Face directory")
    parser.add_argument("--to", metavar="MODEL_DIR", help="what to write; must not exist yet")
    parser.add_argument("--from", dest="source", metavar="MODEL_DIR", help="a run's folder, or a converted checkpoint")
    parser.add_argument("--to_hf", metavar="DIR", help="what to write; must not exist yet")
    parser.add_argument("--step", type=int, help="which checkpoint of --from (default: the newest)")
    flags = parser.parse_args(argv)
    given = {name for name in ("from_hf", "to", "source", "to_hf") if getattr(flags, name)}
    if given not in ({"from_hf", "to"}, {"source", "to_hf"}):
        parser.error("give --from_hf and --to, or --from and --to_hf")
    return guarded(lambda: convert(flags.from_hf, flags.to) if flags.from_hf else export(flags.source, flags.to_hf, flags.step))


def convert(source: str, target: str) -> None:
    """A Hugging Face directory as an ordinary MODEL_DIR with one checkpoint, of step 0."""
    folder = hf_files.local(source)
    with told(folder):
        theirs = hf_files.read_json(folder / hf_files.CONFIG)
        if (name := theirs.get("model_type")) not in moe_names.KINDS:
            raise hf.Mismatch(f"model_type is {name!r}; known here are {', '.join(moe_names.KINDS)}")
        kind = moe_names.KINDS[name]
        config = kind.config(theirs)
        blueprint = drawn(kind.model, config)
        params = kind.params(hf_files.read_tensors(hf_files.weight_files(folder)), config)
    params = checkpoints.restack(params, {name: spec.shape for name, spec in blueprint.specs.items()})
    with hf_files.fresh_folder("--to", target) as unfinished:
        vocabulary = hf_vocabulary.take(folder, unfinished, config.vocab_size)
        write_model_dir(unfinished, blueprint, params, vocabulary)
    print(f"{target}: {kind.architecture}, {sum(value.size for value in params.values()):,} parameters")


def export(source: str, target: str, step: int | None = None) -> None:
    """A checkpoint of a MODEL_DIR as a Hugging Face directory."""
    blueprint, params = load(source, step=step)
    config = blueprint.model.config
    named = [kind for kind in moe_names.KINDS.values() if kind.model is type(blueprint.model)]
    if not named:
        raise UserError(f"{source} holds a {type(blueprint.model).__name__}; only T5 and the decoder have mixtures in transformers")
    with told(source):
        described = {"architectures": [named[0].architecture], **named[0].config_back(config)}
        tensors = named[0].tensors(stack.unstack(checkpoints.to_host(params)), config)
    with hf_files.fresh_folder("--to_hf", target) as unfinished:
        hf_vocabulary.give(source, unfinished)
        hf_files.write(unfinished, {**described, "dtype": "float32"}, tensors)
    print(f"{target}: {named[0].architecture}, {sum(value.size for value in tensors.values()):,} parameters")


if __name__ == "__main__":
    sys.exit(main())
