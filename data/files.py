"""Finding and reading text files: plain, gzip, xz or zstd, UTF-8."""

import glob
import gzip
import lzma
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

from rootstock.data.errors import DataError

PACKAGE_ROOT = Path(__file__).resolve().parent.parent
COMPRESSED = (".gz", ".xz", ".zst")
KINDS = (".txt", ".jsonl", ".ndjson", ".parquet")  # those that a folder stands for; a .json in it may describe the others

_DAMAGED = (EOFError, gzip.BadGzipFile, lzma.LZMAError, zlib.error)
_WINDOW = 31  # log2 of the bytes that zstd may look back: what `zstd --long=31` makes is read too
_LOOK_FOR_NUL = 8192  # bytes at the start of a file, as git does to tell a binary file


def resolve(path: str | Path) -> Path:
    """The file or folder `path`: from the working folder if it is there, else from the package's own folder."""
    path = Path(path).expanduser()
    if path.exists():
        return path
    if path.is_absolute():
        raise DataError(f"'{path}' does not exist.")
    packaged = PACKAGE_ROOT / path
    if packaged.exists():
        return packaged
    raise DataError(f"'{path}' does not exist: neither in the working folder ('{Path.cwd() / path}') nor in the package ('{packaged}').")


def expand(patterns: str | Sequence[str]) -> list[Path]:
    """The files that one glob, or each of several, stands for, sorted. A folder stands for the files of `KINDS` right inside it.

    As in `resolve`, what the working folder does not hold is looked for in the package's own folder.
    """
    found: list[Path] = []
    for pattern in [patterns] if isinstance(patterns, str | Path) else patterns:
        if not str(pattern):
            raise DataError("a pattern for files is empty; is there a comma too many, or a variable without a value?")
        places = [str(Path(pattern).expanduser())]
        if not Path(places[0]).is_absolute():
            places.append(str(PACKAGE_ROOT / pattern))
        for place in places:
            matches = _text_files(Path(place)) if Path(place).is_dir() else sorted(Path(p) for p in glob.glob(place, recursive=True))
            matches = [path for path in matches if path.is_file()]
            if matches:
                found += matches
                break
        else:
            kind = (
                f"no file that ends in {', '.join(KINDS)} (or {', '.join(COMPRESSED)} after it)"
                if any(Path(p).is_dir() for p in places)
                else "no file"
            )
            raise DataError(f"'{pattern}' matches {kind}; looked for " + " and ".join(f"'{Path.cwd() / place}'" for place in places) + ".")
    return list(dict.fromkeys(found))


def _text_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if kind(path) in KINDS)


def kind(path: Path) -> str:
    """The suffix of a file without that of its compression: ".jsonl" for x.jsonl.gz."""
    return (path.with_suffix("") if path.suffix in COMPRESSED else path).suffix


def _open(path: Path) -> tuple[IO[bytes], tuple[type[Exception], ...]]:
    """The bytes of a file, and what a damaged one raises."""
    if path.suffix == ".gz":
        return gzip.open(path, "rb"), _DAMAGED
    if path.suffix == ".xz":
        return lzma.open(path, "rb"), _DAMAGED
    if path.suffix != ".zst":
        return open(path, "rb"), _DAMAGED
    try:
        from backports import zstd
    except ImportError as error:
        raise DataError(
            f"reading '{path}' needs backports.zstd, which is not installed: pip install --editable '.[corpora]' in Rootstock's folder."
        ) from error
    return zstd.open(path, "rb", options={zstd.DecompressionParameter.window_log_max: _WINDOW}), (*_DAMAGED, zstd.ZstdError)


class TextFile:
    """The lines of a UTF-8 file, each ending in "\\n" as `open` gives them. To be read once; a context manager for reading part of it.

    A byte-order mark at the start is dropped and "\\r\\n" becomes "\\n". What is not UTF-8, looks binary, or is a damaged
    archive ends in a DataError that names the file and the line.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        if not self.path.is_file():
            raise DataError(f"'{self.path}' is not a file.")
        self._file, self._damaged = _open(self.path)

    def __enter__(self) -> "TextFile":
        return self

    def __exit__(self, *_) -> None:
        self._file.close()

    def __iter__(self) -> Iterator[str]:
        offset = 0
        try:
            with self._file:
                for line, raw in enumerate(self._file, start=1):
                    yield self._decode(raw, line, offset)
                    offset += len(raw)
        except self._damaged as error:
            raise DataError(f"'{self.path}' is a damaged {self.path.suffix} file: {error} (after {offset:,} bytes of text).") from error

    def read(self) -> str:
        return "".join(self)

    def _decode(self, raw: bytes, line: int, offset: int) -> str:
        if offset < _LOOK_FOR_NUL and b"\0" in raw:
            raise DataError(f"'{self.path}' is a binary file (a zero in line {line:,}), expected UTF-8 text, plain, .gz, .xz or .zst.")
        try:
            text = raw.decode("utf-8-sig" if line == 1 else "utf-8")
        except UnicodeDecodeError as error:
            seen = raw[error.start]
            raise DataError(
                f"'{self.path}' is not UTF-8 text: byte 0x{seen:02x} at offset {error.start:,} of line {line:,} ({error.reason}). "
                "Convert it to UTF-8 first; compressed files must end in .gz, .xz or .zst."
            ) from error
        return text[:-2] + "\n" if text.endswith("\r\n") else text


def open_text(path: str | Path) -> TextFile:
    """Opens a UTF-8 text file, compressed if its name ends in .gz, .xz or .zst."""
    return TextFile(path)
