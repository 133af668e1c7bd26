"""Train a vocabulary on a corpus: WordPiece as BERT reads it, or a Unigram model of SentencePiece.

    python -m rootstock.tools.train_tokenizer --kind=wordpiece --size=30000 --text='corpus/*.txt.xz' --out=vocabulary
    python -m rootstock.tools.train_tokenizer --kind=unigram --size=32000 --tfds=c4/en --tfds_data_dir=tensorflow_datasets --out=vocabulary

--out then is a VOCABULARY: recipes and commands take the folder, and each checkpoint carries it. The same corpus gives the same bytes.
Unigram begins as T5 does (<pad>, </s>, <unk>), with 100 sentinels behind its pieces, or with --layout=bert as BERT, which encoders need.
"""

import argparse
import contextlib
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from tqdm import tqdm

from rootstock.data import sampling, vocabularies
from rootstock.data.errors import DataError
from rootstock.data.vocabularies.training import LAYOUTS
from rootstock.engine.launch import guarded
from rootstock.tools import corpus_flags

_CHARACTERS = 50_000_000  # 1.2 GB for Unigram, which takes 23 bytes a character
_DOCUMENT = 4096  # characters of a document of running text, which only the progress bar sees


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m rootstock.tools.train_tokenizer",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--kind", required=True, choices=("wordpiece", "unigram"))
    parser.add_argument("--size", required=True, type=int, metavar="N", help="pieces, special ones included, T5's sentinels not")
    corpus_flags.add(parser, parser.add_mutually_exclusive_group(required=True))
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="a new folder")
    parser.add_argument("--cased", action="store_true", help="with wordpiece: keep case and accents (Unigram always does)")
    parser.add_argument("--layout", choices=tuple(LAYOUTS), help="with unigram: its special pieces (default t5)")
    parser.add_argument(
        "--characters",
        type=int,
        default=_CHARACTERS,
        metavar="N",
        help=f"train on an even sample of so many characters at most, which bounds the memory (default {_CHARACTERS:,})",
    )
    options = parser.parse_args(arguments)
    corpus_flags.check(parser, options)
    if options.cased and options.kind != "wordpiece":
        parser.error("--cased says nothing without --kind=wordpiece: Unigram always keeps case")
    if options.layout and options.kind != "unigram":
        parser.error("--layout says nothing without --kind=unigram: WordPiece has BERT's special pieces")
    for name in ("size", "characters"):
        if getattr(options, name) < 1:
            parser.error(f"--{name} is {getattr(options, name)}; it must be 1 or more")
    return options


def train(options: argparse.Namespace) -> vocabularies.Vocabulary:
    if options.out.exists():
        raise DataError(f"'{options.out}' is there already; name a new folder.")
    source = corpus_flags.source(options)
    texts = sampling.sample(_shown(source.documents(_DOCUMENT)), options.characters)
    if not texts:
        raise DataError(f"there is no text in {', '.join(map(str, source.inputs()))}: no vocabulary can be trained.")
    print(f"training {options.kind} on {sum(map(len, texts)):,} characters", file=sys.stderr)
    with _new_folder(options.out) as folder:
        if options.kind == "wordpiece":
            vocabularies.train_wordpiece(texts, options.size, folder / "vocab.txt", not options.cased).save(folder)
        else:
            vocabularies.train_unigram(texts, options.size, folder / "spiece.model", options.layout or "t5").save(folder)
    return vocabularies.load(options.out)


@contextlib.contextmanager
def _new_folder(target: Path) -> Iterator[Path]:
    """A folder that is there under its name only when all went well."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as place:
        unfinished = Path(place) / target.name
        unfinished.mkdir()
        yield unfinished
        unfinished.rename(target)


def _shown(documents: Iterable[str]) -> Iterator[str]:
    with tqdm(desc="reading", unit=" characters", unit_scale=True, mininterval=0.5, file=sys.stderr) as bar:
        for document in documents:
            bar.update(len(document))
            yield document


def main(arguments: list[str]) -> int:
    options = parse(arguments)
    return guarded(lambda: _train(options))


def _train(options: argparse.Namespace) -> None:
    vocabulary = train(options)
    print(f"{options.out}: {vocabulary.size:,} ids, SHA-256 {vocabulary.checksum}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
