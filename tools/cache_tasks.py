"""Build caches of tasks, which runs then read without TensorFlow. See `rootstock.data.cache` for what is written.

Pretraining text, packed into rows (the cache is --out itself):
    python -m rootstock.tools.cache_tasks --text='corpus/*.txt.xz' --vocabulary=vocab.txt --length=128 --out=cache/corpus

Sentence pairs for next-sentence prediction: the same with --pairs.

SuperGLUE (one cache for each task, in a folder of its name in --out):
    python -m rootstock.tools.cache_tasks --superglue=boolq,copa --data_dir=superglue --vocabulary=vocab.txt --length=256 --out=cache

Files and folders that the working folder does not hold are looked for in the package: data/demo/novels, data/demo/vocab.txt.
"""

import argparse
import sys
from pathlib import Path

from rootstock.data import build, cache, superglue
from rootstock.data.errors import DataError
from rootstock.data.sentence_pairs import SentencePairTask
from rootstock.data.tasks import Task
from rootstock.data.text import TextTask


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m rootstock.tools.cache_tasks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--text", metavar="GLOB", help="UTF-8 text files, plain, .gz or .xz, or a folder of them; commas separate several")
    what.add_argument("--superglue", metavar="TASKS", help=f"some of {','.join(superglue.TASKS)}, or all")
    parser.add_argument("--data_dir", metavar="DIR", help="with --superglue: the folder that holds BoolQ/train.jsonl and so on")
    parser.add_argument("--vocabulary", required=True, metavar="FILE", help="vocab.txt, tokenizer.json or a SentencePiece .model")
    parser.add_argument("--length", required=True, type=int, metavar="L", help="tokens in a row, special ones included")
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="a new folder, or one that holds this very cache")
    parser.add_argument("--workers", type=int, default=2, metavar="N", help="processes; the cache is the same for any number (default 2)")
    parser.add_argument("--pairs", action="store_true", help="with --text: pairs of sentences instead of packed rows")
    parser.add_argument(
        "--validation_fraction", type=float, default=0.02, metavar="F", help="with --text: share of the documents held out (default 0.02)"
    )
    options = parser.parse_args(arguments)
    if options.superglue and not options.data_dir:
        parser.error("--superglue needs --data_dir")
    if options.workers < 1:
        parser.error(f"--workers is {options.workers}; it must be 1 or more")
    return options


def tasks(options: argparse.Namespace) -> dict[Path, Task]:
    """The tasks that were asked for, by the folder of their cache."""
    if options.text:
        kind = SentencePairTask if options.pairs else TextTask
        task = kind(tuple(options.text.split(",")), options.vocabulary, options.length, validation_fraction=options.validation_fraction)
        return {options.out: task}
    names = list(superglue.TASKS) if options.superglue == "all" else options.superglue.split(",")
    if unknown := [name for name in names if name not in superglue.TASKS]:
        raise DataError(f"--superglue names {', '.join(map(repr, unknown))}; expected some of {', '.join(superglue.TASKS)}, or all.")
    return {options.out / name: superglue.TASKS[name](options.data_dir, options.vocabulary, options.length) for name in names}


def report(directory: Path) -> None:
    """One line for each split."""
    for split, numbers in cache.read_manifest(directory)["splits"].items():
        megabytes = sum(shard["bytes"] for shard in numbers["shards"]) / 1e6
        print(
            f"{directory} {split}: {numbers['rows']:,} rows from {numbers['documents']:,} documents, {numbers['tokens']:,} tokens, "
            f"{numbers['filled'] / numbers['slots']:.1%} full, unigram entropy {numbers['unigram_entropy']:.3f} nats, {megabytes:.1f} MB"
        )


def main(arguments: list[str]) -> int:
    options = parse(arguments)
    try:
        for directory, task in tasks(options).items():
            build.build(task, directory, options.workers)
            report(directory)
    except DataError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
