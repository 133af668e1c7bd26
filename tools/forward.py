"""Runs a checkpoint on given token ids.

    python -m rootstock.tools.forward --checkpoint=MODEL_DIR --input=IN.npz --output=OUT.npz

IN.npz holds `input_ids` [B, L] and maybe `attention_mask` and `token_type_ids`; of an encoder-decoder also `decoder_input_ids` [B, T].
OUT.npz gets `logits` and `last_hidden_state` in float32 (an encoder alone has no logits).
"""

import argparse
import os
import pathlib
import sys
import zipfile

import numpy as np

from rootstock.engine.errors import UserError
from rootstock.engine.launch import guarded

NAMES = ("input_ids", "attention_mask", "token_type_ids", "decoder_input_ids")


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m rootstock.tools.forward", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--checkpoint", required=True, metavar="MODEL_DIR", help="a run's folder, or a converted checkpoint")
    parser.add_argument("--input", required=True, metavar="IN.npz")
    parser.add_argument("--output", required=True, metavar="OUT.npz")
    parser.add_argument("--step", type=int, help="which checkpoint (default: the newest)")
    parser.add_argument("--task", help="which head, where the checkpoint has several")
    flags = parser.parse_args(argv)
    return guarded(lambda: _run(flags))


def _run(flags: argparse.Namespace) -> None:
    from rootstock.tools.loaded import open_model

    given = _read(flags.input)
    output = open_model(flags.checkpoint, flags.step)(
        given["input_ids"], given.get("attention_mask"), given.get("token_type_ids"), flags.task, given.get("decoder_input_ids")
    )
    found = {"logits": output.logits, "last_hidden_state": output.last_hidden_state}
    arrays = {name: value for name, value in found.items() if value is not None}
    target = pathlib.Path(flags.output)
    unfinished = target.with_name(target.name + ".tmp")
    try:
        with unfinished.open("wb") as file:
            np.savez(file, **arrays)
        os.replace(unfinished, target)
    except OSError as error:
        raise UserError(f"--output={flags.output} cannot be written: {error.strerror}") from error
    print(f"{flags.output}: {', '.join(f'{name} {value.shape}' for name, value in arrays.items())}")


def _read(path: str) -> dict[str, np.ndarray]:
    try:
        with open(path, "rb") as file:
            found = np.load(file, allow_pickle=False)
            if isinstance(found, np.ndarray):
                raise ValueError("it holds one array without a name")
            arrays = {name: found[name] for name in found.files}
    except (OSError, EOFError, ValueError, zipfile.BadZipFile, AttributeError) as error:
        raise UserError(f"--input={path} is not a readable npz file: {error}") from error
    unknown = sorted(arrays.keys() - set(NAMES))
    if "input_ids" not in arrays or unknown:
        raise UserError(f"--input={path} holds {sorted(arrays)}; expected input_ids and, if wanted, {', '.join(NAMES[1:])}")
    return arrays


if __name__ == "__main__":
    sys.exit(main())
