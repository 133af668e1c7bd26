"""The flags that say where a corpus lies, the same for all commands that read one."""

import argparse
from collections.abc import Mapping, Sequence

from rootstock.data.sources import Files, SavedDataset, Source, Tfds

CORPORA = ("text", "tfds", "saved_dataset")


def add(parser: argparse.ArgumentParser, choices: argparse._MutuallyExclusiveGroup) -> None:
    """The corpora go to `choices`, of which one is to be given; what is said of them goes to the parser."""
    choices.add_argument(
        "--text",
        metavar="GLOB",
        help="text, .jsonl or .parquet files, or folders of them; commas separate several; text and jsonl plain, .gz, .xz or .zst",
    )
    choices.add_argument("--tfds", metavar="NAME", help="a data set of TFDS, as c4/en or wikipedia/20230601.en:1.0.0")
    choices.add_argument("--saved_dataset", metavar="DIR", help="what Hugging Face's datasets saved to disk")
    parser.add_argument("--key", metavar="KEY", help="the key, column or feature that holds the text (default text)")
    parser.add_argument("--tfds_data_dir", metavar="DIR", help="with --tfds: where it lies; nothing is downloaded")
    parser.add_argument("--split", metavar="SPLIT", help="with --tfds and --saved_dataset: the split (default train)")


def check(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    for name in CORPORA:
        if getattr(options, name) == "":
            parser.error(f"--{name} is empty; is a variable of the shell unset?")
    if options.tfds and not options.tfds_data_dir:
        parser.error("--tfds needs --tfds_data_dir")
    only_with(parser, options, {"key": CORPORA, "split": CORPORA[1:], "tfds_data_dir": ("tfds",)})


def only_with(parser: argparse.ArgumentParser, options: argparse.Namespace, belong: Mapping[str, Sequence[str]]) -> None:
    """Refuses a flag that was given without any of those that it belongs to: nothing would read it."""
    for name, others in belong.items():
        if getattr(options, name) not in (None, False) and not any(getattr(options, other) for other in others):
            parser.error(f"--{name} says nothing without --{' or --'.join(others)}")


def source(options: argparse.Namespace) -> Source | None:
    """The corpus that was given, if any."""
    key, split = options.key or "text", options.split or "train"
    if options.text:
        return Files(tuple(options.text.split(",")), key)
    if options.tfds:
        return Tfds(options.tfds, options.tfds_data_dir, split, key)
    return SavedDataset(options.saved_dataset, split, key) if options.saved_dataset else None
