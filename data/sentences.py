"""Cutting a document into sentences, by punctuation: good enough for next-sentence prediction, which only needs plausible boundaries."""

import re

_END = re.compile(r"""[.!?]+["'”’)\]]*\s+(?=["'“‘(\[]*[A-Z0-9])""")
_ABBREVIATIONS = frozenset("mr mrs ms dr st prof rev hon col gen capt lt sgt jr sr vs etc no vol fig messrs mme m".split())
_LAST_WORD = re.compile(r"(\w+)\W*$")


def sentences(document: str) -> list[str]:
    """The sentences of a document; a newline always ends one."""
    found = []
    for paragraph in document.split("\n"):
        start = 0
        for end in _END.finditer(paragraph):
            word = _LAST_WORD.search(paragraph, start, end.end())
            if end.group()[0] == "." and word and _is_abbreviation(word.group(1)):
                continue
            found.append(paragraph[start : end.end()].strip())
            start = end.end()
        found.append(paragraph[start:].strip())
    return [sentence for sentence in found if sentence]


def _is_abbreviation(word: str) -> bool:
    """As in "Mr. Lorry" and "S. Weller"."""
    return word.lower() in _ABBREVIATIONS or (len(word) == 1 and word.isupper() and word != "I")
