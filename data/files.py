"""Finding and reading text files: plain, gzip or xz, UTF-8."""

import glob
import gzip
import lzma
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from rootstock.data.errors import DataError

PACKAGE_ROOT = Path(__file__).resolve().parent.parent
TEXT_SUFFIXES = (".txt", ".txt.gz", ".txt.xz")

_OPENERS = {".gz": gzip.open, ".xz": lzma.open}
_DAMAGED = (EOFError, gzip.BadGzipFile, lzma.LZMAError, zlib.error)
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
    """The files that one glob, or each of several, stands for, sorted. A folder stands for the text files right inside it.

    As in `resolve`, what the working folder does not hold is looked for in the package's own folder.
    """
    found: list[Path] = []
    for pattern in [patterns] if isinstance(patterns, str | Path) else patterns:
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
            kind = f"no file that ends in {', '.join(TEXT_SUFFIXES)}" if any(Path(p).is_dir() for p in places) else "no file"
            raise DataError(f"'{pattern}' matches {kind}; looked for " + " and ".join(f"'{Path.cwd() / place}'" for place in places) + ".")
    return list(dict.fromkeys(found))


def _text_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.name.endswith(TEXT_SUFFIXES))


class TextFile:
    """The lines of a UTF-8 file, each ending in "\\n" as `open` gives them. To be read once; a context manager for reading part of it.

    A byte-order mark at the start is dropped and "\\r\\n" becomes "\\n". What is not UTF-8, looks binary, or is a damaged
    archive ends in a DataError that names the file and the byte.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        if not self.path.is_file():
            raise DataError(f"'{self.path}' is not a file.")
        self._file = _OPENERS.get(self.path.suffix, open)(self.path, "rb")

    def __enter__(self) -> "TextFile":
        return self

    def __exit__(self, *_) -> None:
        self._file.close()

    def __iter__(self) -> Iterator[str]:
        offset = 0
        try:
            with self._file:
                for raw in self._file:
                    yield self._decode(raw, offset)
                    offset += len(raw)
        except _DAMAGED as error:
            raise DataError(f"'{self.path}' is a damaged {self.path.suffix} file: {error} (after {offset:,} bytes of text).") from error

    def read(self) -> str:
        return "".join(self)

    def _decode(self, raw: bytes, offset: int) -> str:
        if offset < _LOOK_FOR_NUL and (nul := raw.find(b"\0")) >= 0:
            raise DataError(f"'{self.path}' is a binary file (a zero at byte {offset + nul:,}), expected UTF-8 text, plain, .gz or .xz.")
        try:
            line = raw.decode("utf-8-sig" if offset == 0 else "utf-8")
        except UnicodeDecodeError as error:
            seen = raw[error.start]
            raise DataError(
                f"'{self.path}' is not UTF-8 text: byte 0x{seen:02x} at offset {offset + error.start:,} ({error.reason}). "
                "Convert it to UTF-8 first; compressed files must end in .gz or .xz."
            ) from error
        return line[:-2] + "\n" if line.endswith("\r\n") else line


def open_text(path: str | Path) -> TextFile:
    """Opens a UTF-8 text file, compressed if its name ends in .gz or .xz."""
    return TextFile(path)
