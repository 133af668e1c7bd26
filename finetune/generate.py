"""Generates from a text-to-text checkpoint, or goes on from prompts with a decoder, under the mesh and rules of training.

    python -m rootstock.finetune.generate --checkpoint=MODEL_DIR --input=FILE --output=OUT.jsonl
    python -m rootstock.finetune.generate --checkpoint=MODEL_DIR --input=rows.jsonl --beams=4 --length_penalty=0.6
    python -m rootstock.finetune.generate --checkpoint=MODEL_DIR --input=FILE --temperature=0.8 --top_p=0.95 --seed=1

FILE holds a text a line, or, where its name ends in .jsonl, objects with the text under "input"; .gz and .xz too. OUT.jsonl gets a line for
each: the row's own fields, "input", "output" and "score", the log-likelihood of what was generated (of a beam search divided by its
length to the power of the length penalty). Without --output the lines are printed. The likeliest token is taken at every step unless
--beams or one of --temperature, --top_k and --top_p is given.
"""

import argparse
import contextlib
import json
import pathlib
import sys
from collections.abc import Callable, Iterator
from typing import Any

from tqdm import tqdm

from rootstock.data import files, jsonl
from rootstock.engine import mesh
from rootstock.engine.errors import UserError
from rootstock.engine.launch import guarded
from rootstock.engine.progress import say
from rootstock.models.decoding.beam import BeamSearch
from rootstock.models.decoding.choices import Sampling
from rootstock.models.decoding.protocol import Search
from rootstock.models.decoding.stepwise import Stepwise

AT_ONCE = 64  # batches whose rows are sorted by length together


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m rootstock.finetune.generate",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--checkpoint", required=True, metavar="MODEL_DIR", help="of an encoder-decoder or a decoder")
    parser.add_argument("--step", type=int, help="which checkpoint (default: the newest)")
    parser.add_argument("--input", required=True, metavar="FILE", help="a text a line, or .jsonl with the key input")
    parser.add_argument("--output", metavar="OUT.jsonl", help="default: standard output")
    parser.add_argument("--beams", type=int, metavar="N", help="beam search with N beams")
    parser.add_argument("--length_penalty", type=float, metavar="A", help="of a beam search: scores are divided by length^A (default 1)")
    parser.add_argument("--temperature", type=float, metavar="T", help="draw from softmax(logits / T)")
    parser.add_argument("--top_k", type=int, metavar="K", help="draw among the K likeliest tokens")
    parser.add_argument("--top_p", type=float, metavar="P", help="draw among the fewest tokens whose probability is P together")
    parser.add_argument("--max_length", type=int, default=64, metavar="N", help="tokens generated at most (default 64)")
    parser.add_argument(
        "--input_length", type=int, default=512, metavar="N", help="tokens read at most; what is cut is counted (default 512)"
    )
    parser.add_argument("--batch_size", type=int, default=32, metavar="N")
    parser.add_argument("--seed", type=int, default=0, help="of what is drawn; a row's draws depend on its number and on nothing else")
    parser.add_argument(
        "--mesh", default="", metavar="AXIS=N,...", help="devices along each mesh axis, e.g. data=4,tensor=2 (default: one device)"
    )
    flags = parser.parse_args(argv)
    return guarded(lambda: _run(flags))


def _run(flags: argparse.Namespace) -> None:
    from rootstock.data import vocabularies
    from rootstock.engine.load import load
    from rootstock.finetune.decoding import Generator, check_generative
    from rootstock.finetune.recipe import vocabulary_of
    from rootstock.finetune.texts import Texts

    if flags.max_length < 1:
        raise UserError(f"--max_length={flags.max_length} must be at least 1")
    if not 0 <= flags.seed < 2**32:
        raise UserError(f"--seed={flags.seed} must be a number from 0 to {2**32 - 1}")
    search, rows = chosen_search(flags), read(flags.input)
    with _written(flags.output) as write:
        blueprint, params = load(flags.checkpoint, mesh.parse(flags.mesh), flags.step)
        check_generative(blueprint)
        how = {"length": flags.max_length, "batch_size": flags.batch_size, "seed": flags.seed}
        texts = Texts(vocabularies.load(vocabulary_of(flags.checkpoint)), blueprint.model, flags.input_length)
        generator = Generator(blueprint, search, end_id=texts.end_id, pad_id=texts.pad_id, **how)
        inputs, cut = texts.inputs([row["input"] for row in rows])
        window = AT_ONCE * flags.batch_size
        with tqdm(total=len(rows), unit=" rows", disable=not sys.stderr.isatty()) as bar:
            for first in range(0, len(rows), window):
                answers = generator(params, inputs[first : first + window], first, bar.update)
                for row, answer in zip(rows[first : first + window], answers, strict=True):
                    write({**row, "output": texts.text(answer.ids), "score": answer.score})
    told = f"; {cut:,} inputs were longer than {flags.input_length} tokens and were cut (--input_length)" if cut else ""
    say(f"{len(rows):,} rows generated{told}")


def chosen_search(flags: argparse.Namespace) -> Search:
    """What the flags ask for."""
    drawn = {name: value for name in ("temperature", "top_k", "top_p") if (value := getattr(flags, name)) is not None}
    if flags.beams is None and flags.length_penalty is not None:
        raise UserError(f"--length_penalty={flags.length_penalty} is of a beam search: add for example --beams=4")
    if flags.beams is not None and drawn:
        raise UserError(f"--beams={flags.beams} searches and --{next(iter(drawn))} draws: give one of them")
    if flags.beams is not None:
        return BeamSearch(flags.beams, 1.0 if flags.length_penalty is None else flags.length_penalty)
    return Stepwise(Sampling(**drawn)) if drawn else Stepwise()


def read(path: str) -> list[dict[str, Any]]:
    """The rows of a file, each with the key "input". All of it is read at once: a wrong line shows before anything is generated."""
    if ".jsonl" in pathlib.Path(path).suffixes:
        rows = [{**record.values, "input": record.text("input")} for record in jsonl.records(path)]
    else:
        rows = [{"input": line.rstrip("\n")} for line in files.open_text(path)]
    if not rows:
        raise UserError(f"--input={path} holds no line")
    return rows


@contextlib.contextmanager
def _written(path: str | None) -> Iterator[Callable[[dict[str, Any]], object]]:
    """A function that writes a row; the file appears when all are written."""
    if path is None:
        yield lambda row: print(json.dumps(row, ensure_ascii=False))
        return
    if pathlib.Path(path).is_dir():
        raise UserError(f"--output={path} is a folder; name a file")
    unfinished = pathlib.Path(f"{path}.tmp")
    try:
        file = unfinished.open("w", encoding="utf-8")
    except OSError as error:
        raise UserError(f"--output={path} cannot be written: {error.strerror}") from error
    try:
        with file:
            yield lambda row: file.write(json.dumps(row, ensure_ascii=False) + "\n")
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


if __name__ == "__main__":
    sys.exit(main())
