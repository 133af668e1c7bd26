"""Turn the official files of SuperGLUE or GLUE into TFDS directories, without a network:

    python -m rootstock.tools.import_dataset super_glue/boolq --from=superglue --to=tensorflow_datasets
    python -m rootstock.tools.import_dataset glue --from=glue_data --to=tensorflow_datasets

NAME is TFDS's: a set (super_glue/boolq, glue/cola), or a suite (super_glue, glue) for all its sets that are found. --from is the folder
that holds BoolQ/train.jsonl or CoLA/train.tsv and so on, plain, .gz or .xz. Names, versions, features and row numbers are TFDS's, so
`tfds.load("super_glue/boolq", data_dir=..., download=False)` reads the result, and so does every task of ours, given as its data_dir.

Rows and labels are compared with the official counts; of a subset it is said that it is one, here and in metadata.json.
"""

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path

from rootstock.data import files
from rootstock.data.errors import DataError
from rootstock.data.suites import glue_sets, superglue_sets, tfds_folders, tfds_writer
from rootstock.data.suites.sets import Set
from rootstock.engine.launch import guarded

SUITES: Mapping[str, Mapping[str, Set]] = {
    suite: {of.tfds: of for of in sets.values()} for suite, sets in (("super_glue", superglue_sets.SETS), ("glue", glue_sets.SETS))
}


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m rootstock.tools.import_dataset",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    names = ", ".join(name for suite in SUITES.values() for name in suite)
    parser.add_argument("name", metavar="NAME", help=f"super_glue, glue, or one of {names}")
    parser.add_argument("--from", required=True, dest="source", metavar="DIR", help="the folder of the official files")
    parser.add_argument("--to", required=True, type=Path, metavar="TFDS_DIR", help="a TFDS data_dir; what it holds is never overwritten")
    return parser.parse_args(arguments)


def sets(name: str, source: str) -> list[Set]:
    """The sets that were asked for."""
    if name in SUITES:
        found = [of for of in SUITES[name].values() if any(of.official(source, split) for split in of.files)]
        if not found:
            folders = ", ".join(of.folder for of in SUITES[name].values())
            raise DataError(f"'{source}' holds official files of no set of {name}; looked into its folders {folders}.")
        return found
    known = {name: of for suite in SUITES.values() for name, of in suite.items()}
    if name not in known:
        raise DataError(f"there is no set or suite '{name}' to import; known are {', '.join(SUITES)}, {', '.join(known)}.")
    return [known[name]]


def main(arguments: list[str]) -> int:
    options = parse(arguments)
    return guarded(lambda: _import(options))


def _import(options: argparse.Namespace) -> None:
    source = str(files.resolve(options.source))
    wanted = sets(options.name, source)
    tfds_folders.require("writing TFDS directories").disable_progress_bar()
    for of in wanted:
        tfds_writer.target(of, options.to)
    for of in wanted:
        read = tfds_writer.read(of, source)
        print(tfds_writer.write(read, options.to), *read.report(), sep="\n  ", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
