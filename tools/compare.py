"""Lays the reports of several runs side by side: curves in the same pictures, a column for each run in the tables, and what differs.

    python -m rootstock.tools.compare runs/one runs/two --out=compare.html

Runs are named by their folders, with as much of the path before them as tells them apart. Runs under way and killed ones may be among them.
"""

import argparse
import pathlib
import sys
from collections.abc import Sequence

from rootstock.engine.errors import UserError
from rootstock.engine.launch import guarded


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m rootstock.tools.compare", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+", metavar="MODEL_DIR", help="two or more")
    parser.add_argument("--out", default="compare.html", metavar="FILE", help="default: compare.html")
    flags = parser.parse_args(argv)
    return guarded(lambda: _run(flags))


def _run(flags: argparse.Namespace) -> None:
    from rootstock.engine import report

    try:
        print(report.compare_runs(named(flags.runs), flags.out))
    except OSError as error:
        raise UserError(f"--out={flags.out} cannot be written: {error.strerror}") from error


def named(folders: Sequence[str]) -> dict[str, pathlib.Path]:
    """Each folder by the shortest end of its path that no other has."""
    paths = [pathlib.Path(folder).resolve() for folder in folders]
    if len(paths) < 2:
        raise UserError(f"there is only {folders[0]} to compare; name two runs or more")
    if twice := [folder for folder, path in zip(folders, paths, strict=True) if paths.count(path) > 1]:
        raise UserError(f"{' and '.join(twice)} are the same run; name each once")
    longest = max(len(path.parts) for path in paths)
    ends = (["/".join(path.parts[-count:]) for path in paths] for count in range(1, longest + 1))
    names = next(names for names in ends if len(set(names)) == len(names))
    return dict(zip(names, paths, strict=True))


if __name__ == "__main__":
    sys.exit(main())
