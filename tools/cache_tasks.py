"""Build caches of tasks, which runs then read without TensorFlow. See `rootstock.data.cache` for what is written.

Pretraining text, packed into rows (the cache is --out itself):
    python -m rootstock.tools.cache_tasks --text='corpus/*.txt.xz' --vocabulary=vocab.txt --length=128 --out=cache/corpus

Sentence pairs for next-sentence prediction: the same with --pairs. A set of TFDS (--tfds=c4/en --tfds_data_dir=DIR) or one that Hugging
Face's datasets saved (--saved_dataset=DIR) may stand in the place of --text.

Rows of raw tokens, which runs corrupt anew at every reading (T5's 512 inputs are 568 tokens), or with EOS behind each document for LMs:
    python -m rootstock.tools.cache_tasks --text='corpus/*.txt.xz' --vocabulary=spiece.model --raw --length=568 --out=cache/t5
    python -m rootstock.tools.cache_tasks --text='corpus/*.txt.xz' --vocabulary=spiece.model --raw --closed --length=1024 --out=cache/lm

SuperGLUE (one cache for each task, in a folder of its name in --out):
    python -m rootstock.tools.cache_tasks --superglue=boolq,copa --data_dir=superglue --vocabulary=vocab.txt --length=256 --out=cache

A seqio Task that the module registers (the cache is --out itself), or a Mixture: a cache for each of its tasks in --out, and their rates,
which `streams.Interleaved.cached` reads. Inputs and targets are packed as pairs; documents (--feature, or targets alone) as TEXT is:
    python -m rootstock.tools.cache_tasks --mixture=NAME --module=my.tasks --vocabulary=x.model --length=512 --target_length=128 --out=DIR

The cache is the same for any number of --workers. What was interrupted goes on from the shards that were finished when the same command is
given again; given for a cache that is whole, it compares task, files and checksums. Files and folders that the working folder does not hold
are looked for in the package: data/demo/novels, data/demo/vocab.txt.
"""

import argparse
import functools
import sys
from pathlib import Path

from rootstock.data import build, cache, seqio_bridge
from rootstock.data.errors import DataError
from rootstock.data.raw_text import RawTextTask
from rootstock.data.sentence_pairs import SentencePairTask
from rootstock.data.suites import superglue
from rootstock.data.tasks import Task
from rootstock.data.text import TextTask
from rootstock.engine.launch import guarded
from rootstock.tools import corpus_flags

BELONG = dict.fromkeys(("pairs", "raw", "validation_fraction"), corpus_flags.CORPORA) | {
    "closed": ("raw",), "data_dir": ("superglue",), "module": ("mixture",), "target_length": ("mixture",), "feature": ("mixture",),
}  # fmt: skip


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m rootstock.tools.cache_tasks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    what = parser.add_mutually_exclusive_group(required=True)
    corpus_flags.add(parser, what)
    what.add_argument("--superglue", metavar="TASKS", help=f"some of {','.join(superglue.TASKS)}, or all")
    what.add_argument("--mixture", metavar="NAME", help="a seqio Task or Mixture")
    parser.add_argument("--data_dir", metavar="DIR", help="with --superglue: the folder that holds BoolQ/train.jsonl and so on")
    parser.add_argument("--module", metavar="MODULE", help="with --mixture: the Python module that registers it")
    parser.add_argument(
        "--vocabulary",
        required=True,
        metavar="FILE",
        help="vocab.txt, tokenizer.json, vocab.json, a SentencePiece .model, a folder with one of them, or bytes",
    )
    parser.add_argument("--length", required=True, type=int, metavar="L", help="tokens in a row, special ones included")
    parser.add_argument("--target_length", type=int, metavar="T", help="with --mixture: tokens in the targets of a row")
    parser.add_argument("--feature", metavar="NAME", help="with --mixture: the feature whose documents are packed")
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="a new folder, or one that holds this very cache")
    parser.add_argument("--workers", type=int, default=2, metavar="N", help="processes; the cache is the same for any number (default 2)")
    rows = parser.add_mutually_exclusive_group()
    rows.add_argument("--pairs", action="store_true", help="with a corpus: pairs of sentences instead of packed rows")
    rows.add_argument("--raw", action="store_true", help="with a corpus: rows of raw tokens, nothing framed or packed")
    parser.add_argument("--closed", action="store_true", help="with --raw: every document ends with EOS")
    parser.add_argument(
        "--validation_fraction", type=float, metavar="F", help="with a corpus: share of the documents held out (default 0.02)"
    )
    options = parser.parse_args(arguments)
    corpus_flags.check(parser, options)
    if options.superglue and not options.data_dir:
        parser.error("--superglue needs --data_dir")
    if options.mixture and not options.module:
        parser.error("--mixture needs --module, the Python module that registers it")
    corpus_flags.only_with(parser, options, BELONG)
    if options.workers < 1:
        parser.error(f"--workers is {options.workers}; it must be 1 or more")
    return options


def tasks(options: argparse.Namespace) -> dict[Path, Task]:
    """The tasks that were asked for, by the folder of their cache."""
    if source := corpus_flags.source(options):
        kind = TextTask
        if options.pairs:
            kind = SentencePairTask
        elif options.raw:
            kind = functools.partial(RawTextTask, closed=options.closed)
        held_out = {} if options.validation_fraction is None else {"validation_fraction": options.validation_fraction}
        return {options.out: kind(source, options.vocabulary, options.length, **held_out)}
    if options.mixture:
        rates = seqio_bridge.components(options.mixture, options.module)
        folders = {options.out: options.mixture} if rates is None else {options.out / name: name for name in rates}
        how = (options.module, options.vocabulary, options.length, options.target_length, options.feature)
        return {folder: seqio_bridge.find(name, *how) for folder, name in folders.items()}
    names = list(superglue.TASKS) if options.superglue == "all" else options.superglue.split(",")
    if unknown := [name for name in names if name not in superglue.TASKS]:
        raise DataError(f"--superglue names {', '.join(map(repr, unknown))}; expected some of {', '.join(superglue.TASKS)}, or all.")
    return {options.out / name: superglue.TASKS[name](options.data_dir, options.vocabulary, options.length) for name in names}


def report(directory: Path) -> None:
    """One line for each split, whose checksums are compared first."""
    for split, numbers in cache.read_manifest(directory)["splits"].items():
        cache.Source(directory, split).verify()
        megabytes = sum(shard["bytes"] for shard in numbers["shards"]) / 1e6
        filled = f", {numbers['filled'] / numbers['slots']:.1%} full" if numbers["slots"] else ""
        print(
            f"{directory} {split}: {numbers['rows']:,} rows from {numbers['documents']:,} documents ({numbers['dropped']:,} dropped), "
            f"{numbers['tokens']:,} tokens{filled}, unigram entropy {numbers['unigram_entropy']:.3f} nats, {megabytes:.1f} MB"
        )


def main(arguments: list[str]) -> int:
    options = parse(arguments)
    return guarded(lambda: _build(options))


def _build(options: argparse.Namespace) -> None:
    for directory, task in tasks(options).items():
        build.build(task, directory, options.workers)
        report(directory)
    if options.mixture and (rates := seqio_bridge.components(options.mixture, options.module)):
        cache.write_rates(options.out, rates)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
