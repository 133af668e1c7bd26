"""Makes a MODEL_DIR of a T5X checkpoint: T5, mT5, byT5 and UMT5 as T5X trains them.

    python -m rootstock.tools.convert_t5x --from=DIR --to=MODEL_DIR [--step=N] [--vocabulary=FILE]
        [--activation=NAME] [--dropout=RATE] [--slots]

DIR is a checkpoint (`.../checkpoint_1000000`) or the folder that holds several, of which --step names one (by default the newest), local or
gs://bucket/... (there --step must be said); in either of T5X's layouts, its layers scanned or not. The shapes of the arrays tell the
configuration. With --slots Adafactor's moments go into the checkpoint too, which is then of T5X's step.
"""

import argparse
import pathlib
import sys

from rootstock.data import vocabularies
from rootstock.data.errors import DataError
from rootstock.engine import checkpoints
from rootstock.engine.errors import UserError
from rootstock.engine.launch import guarded
from rootstock.models import hf
from rootstock.tools import hf_files, hf_vocabulary, t5x_files, t5x_names, t5x_slots
from rootstock.tools.converted import check_shapes, drawn, told, write_model_dir


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m rootstock.tools.convert_t5x",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--from", dest="source", metavar="DIR", required=True, help="a checkpoint of T5X, or the folder that holds several")
    parser.add_argument("--to", metavar="MODEL_DIR", required=True, help="what to write; must not exist yet")
    parser.add_argument("--step", type=int, help="which checkpoint of DIR (default: the newest)")
    parser.add_argument("--vocabulary", metavar="FILE", help="its SentencePiece model, to go with the model")
    parser.add_argument("--activation", choices=t5x_names.ACTIVATIONS, help="default: gelu where the MLP is gated, else relu")
    parser.add_argument("--dropout", type=float, default=0.1, metavar="RATE", help="what further training uses (default: 0.1)")
    parser.add_argument("--slots", action="store_true", help="take the moments of its Adafactor along")
    flags = parser.parse_args(argv)
    return guarded(lambda: convert(flags.source, flags.to, flags.step, flags.vocabulary, flags.activation, flags.dropout, flags.slots))


def convert(
    source: str,
    target: str,
    step: int | None = None,
    vocabulary: str | None = None,
    activation: str | None = None,
    dropout: float = 0.1,
    slots: bool = False,
) -> None:
    """The parameters of a T5X checkpoint as an ordinary MODEL_DIR with one checkpoint, of step 0 (with `slots`: of T5X's step)."""
    if not 0 <= dropout < 1:
        raise UserError(f"--dropout={dropout}: expected a number of at least 0 and below 1")
    folder, leaves = t5x_files.find(source, step)
    found = t5x_files.read({name: leaf for name, leaf in leaves.items() if name.startswith("target/")}, folder)
    with told(folder):
        arrays = t5x_names.apart(found)
        config = t5x_names.config(arrays, activation, dropout=dropout)
        form, _ = hf.choose(t5x_names.FAMILY, None, set(arrays), config)
        table = hf.Table(t5x_names.FAMILY, form, config)
        blueprint = drawn(t5x_names.FAMILY.forms[form].model, config)
        check_shapes(table, arrays, blueprint)
        opt_state, at = (), 0
        if slots:
            state = t5x_files.read({name: leaf for name, leaf in leaves.items() if name.startswith("state/")}, folder)
            moments, at = t5x_slots.adafactor(state, table, blueprint, folder)
            opt_state = (moments,)
    params = checkpoints.restack(table.convert(arrays), {name: spec.shape for name, spec in blueprint.specs.items()})
    with hf_files.fresh_folder("--to", target) as unfinished:
        described = None if vocabulary is None else _take(vocabulary, unfinished, config.vocab_size)
        write_model_dir(unfinished, blueprint, params, described, opt_state, at)
    if vocabulary is None:
        print("warning: no --vocabulary is given: the model will take input_ids and no texts")
    print(f"{target}: T5 from {folder}, {sum(value.size for value in params.values()):,} parameters")


def _take(path: str, model_dir: pathlib.Path, vocab_size: int) -> dict[str, str]:
    """Copies the vocabulary into MODEL_DIR; what config.json says of it."""
    try:
        vocabulary = vocabularies.load(path)
        vocabulary.save(model_dir / hf_vocabulary.FOLDER)
    except DataError as error:
        raise UserError(f"--vocabulary={path}: {error}") from error
    if vocabulary.size > vocab_size:
        raise UserError(f"the vocabulary {path} has {vocabulary.size:,} pieces, the model's vocab_size is {vocab_size:,}")
    return {"checksum": vocabulary.checksum, "folder": hf_vocabulary.FOLDER}


if __name__ == "__main__":
    sys.exit(main())
