"""How many rows the official sets have, of each class, so that an import can say whether it is whole.

Rows are those of TFDS's splits (super_glue 1.0.2, glue 2.0.0). Classes were counted in complete copies; where none was at hand, or the
labels are not public, there is no count of classes.
"""

import dataclasses
from collections import Counter
from collections.abc import Sequence

from rootstock.data.jsonl import Record
from rootstock.data.suites.examples import UNLABELLED

# TFDS's name -> split -> rows, and rows of each class in the order of the labels
COUNTS: dict[str, dict[str, tuple[int, tuple[int, ...]]]] = {
    "super_glue/boolq": {"train": (9427, (3553, 5874)), "validation": (3270, (1237, 2033)), "test": (3245, ())},
    "super_glue/cb": {"train": (250, (115, 119, 16)), "validation": (56, (23, 28, 5)), "test": (250, ())},
    "super_glue/copa": {"train": (400, (195, 205)), "validation": (100, (55, 45)), "test": (500, ())},
    "super_glue/multirc": {"train": (27243, (15218, 12025)), "validation": (4848, (2773, 2075)), "test": (9693, ())},
    "super_glue/record": {"train": (100730, ()), "validation": (10000, ()), "test": (10000, ())},
    "super_glue/rte": {"train": (2490, (1249, 1241)), "validation": (277, (146, 131)), "test": (3000, ())},
    "super_glue/wic": {"train": (5428, (2714, 2714)), "validation": (638, (319, 319)), "test": (1400, ())},
    "super_glue/wsc": {"train": (554, (295, 259)), "validation": (104, (66, 38)), "test": (146, ())},
    "super_glue/axb": {"test": (1104, (460, 644))},
    "super_glue/axg": {"test": (356, (178, 178))},
    "glue/cola": {"train": (8551, (2528, 6023)), "validation": (1043, (322, 721)), "test": (1063, ())},
    "glue/sst2": {"train": (67349, (29780, 37569)), "validation": (872, (428, 444)), "test": (1821, ())},
    "glue/mrpc": {"train": (3668, (1194, 2474)), "validation": (408, (129, 279)), "test": (1725, ())},
    "glue/stsb": {"train": (5749, ()), "validation": (1500, ()), "test": (1379, ())},
    "glue/qqp": {"train": (363846, ()), "validation": (40430, ()), "test": (390965, ())},
    "glue/mnli": {
        "train": (392702, ()),
        "validation_matched": (9815, (3479, 3123, 3213)),
        "validation_mismatched": (9832, ()),
        "test_matched": (9796, ()),
        "test_mismatched": (9847, ()),
    },
    "glue/qnli": {"train": (104743, ()), "validation": (5463, (2702, 2761)), "test": (5463, ())},
    "glue/rte": {"train": (2490, (1249, 1241)), "validation": (277, (146, 131)), "test": (3000, ())},
    "glue/wnli": {"train": (635, (323, 312)), "validation": (71, (40, 31)), "test": (146, ())},
    "glue/ax": {"test": (1104, ())},
}

WHOLE, SUBSET, OTHER, MISSING = "whole", "subset", "other rows", "missing"


@dataclasses.dataclass(frozen=True)
class Comparison:
    """One split beside the official one."""

    split: str
    rows: int
    official: int
    verdict: str
    why: str

    def __str__(self) -> str:
        return f"{self.split}: {self.why}"


def compare(name: str, split: str, examples: Sequence[Record], labels: Sequence[str]) -> Comparison:
    """What the examples of a split of the set `name` (TFDS's) are of the official ones; none: the split is missing."""
    official, classes = COUNTS[name][split]
    rows = len(examples)
    counted = Counter(example.values["label"] for example in examples) if classes else Counter()
    found = tuple(counted[index] for index in range(len(classes)))
    said = f" ({', '.join(f'{count:,} {label}' for count, label in zip(found, labels, strict=True))})" if classes else ""
    if not rows:
        return Comparison(split, 0, official, MISSING, f"missing; the official split has {official:,} rows")
    if counted[UNLABELLED] and classes:
        why = f"{rows:,} rows, {counted[UNLABELLED]:,} of them without a label; the official split is labelled"
        return Comparison(split, rows, official, OTHER, why)
    if rows > official or any(count > most for count, most in zip(found, classes, strict=True)):
        there = f" ({', '.join(f'{count:,} {label}' for count, label in zip(classes, labels, strict=True))})" if classes else ""
        why = f"{rows:,} rows{said}, which cannot all be of the official {official:,}{there}: these are other rows"
        return Comparison(split, rows, official, OTHER, why)
    if rows < official:
        return Comparison(split, rows, official, SUBSET, f"{rows:,}{said} of the official {official:,} rows: a subset")
    return Comparison(split, rows, official, WHOLE, f"{rows:,} rows{said}, as many as the official split")
