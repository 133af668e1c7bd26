"""A seal over a checkpoint's files. Tensorstore accepts a flipped bit in an array without a word, so a checkpoint carries its own
checksums.
"""

import json
import pathlib
import zlib

SEAL = "checksums.json"


def seal(folder: pathlib.Path) -> None:
    """Writes size and CRC-32 of every file in a finished checkpoint."""
    sums = {str(path.relative_to(folder)): _sum(path) for path in sorted(folder.rglob("*")) if path.is_file()}
    unfinished = folder / (SEAL + ".tmp")
    unfinished.write_text(json.dumps(sums))
    unfinished.rename(folder / SEAL)


def sealed(folder: pathlib.Path) -> bool:
    return (folder / SEAL).exists()


def damage(folder: pathlib.Path) -> str | None:
    """What is wrong with a sealed checkpoint, or None. One that was killed before it was sealed is whole by Orbax's own rename."""
    if not sealed(folder):
        return None
    try:
        sums = {name: (int(size), int(crc)) for name, (size, crc) in json.loads((folder / SEAL).read_text()).items()}
    except (ValueError, TypeError, AttributeError):
        return f"{SEAL} is no list of checksums"
    for name, (size, crc) in sums.items():
        file = folder / name
        if not file.is_file():
            return f"{name} is missing"
        if file.stat().st_size != size:
            return f"{name} has {file.stat().st_size} bytes instead of {size}"
        if _sum(file)[1] != crc:
            return f"{name} has another checksum than when it was written"
    return None


def _sum(path: pathlib.Path) -> tuple[int, int]:
    size = crc = 0
    with path.open("rb") as file:
        while block := file.read(1 << 22):
            size, crc = size + len(block), zlib.crc32(block, crc)
    return size, crc
