"""What the effect runs share: commands that are shown and run, and what their runs wrote."""

import json
import pathlib
import subprocess
import sys
from collections.abc import Mapping, Sequence


def flags(files: Sequence[str], macros: Mapping[str, object], bindings: Mapping[str, object] | None = None) -> list[str]:
    """Of a command with recipes: strings are quoted as gin wants them, references (@...) are not."""
    value = lambda x: x if isinstance(x, str) and x.startswith("@") else repr(x)
    return [
        *(f"--gin_file={file}" for file in files),
        *(f"--gin.{name}={value(x)}" for name, x in macros.items()),
        *(f"--gin_bindings={name} = {value(x)}" for name, x in (bindings or {}).items()),
    ]


def run(command: Sequence[str]) -> None:
    """Ends everything where it fails."""
    print("$ python " + " ".join(f'"{part}"' if "'" in part or " " in part else part for part in command), flush=True)
    subprocess.run([sys.executable, *command], check=True)


def curve(folder: str | pathlib.Path, split: str, name: str) -> dict[int, float]:
    """A metric of a MODEL_DIR by step."""
    lines = map(json.loads, pathlib.Path(folder, "metrics.jsonl").read_text().splitlines())
    return {line["step"]: line["value"] for line in lines if line["split"] == split and line["name"] == name}


def last(folder: str | pathlib.Path, split: str, name: str) -> float:
    return next(reversed(curve(folder, split, name).values()), float("nan"))
