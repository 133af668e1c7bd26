"""The one error of this folder: something is wrong with data, or with what the user said about it."""


class DataError(ValueError):
    """One clear paragraph: what was wrong, the value seen, what was expected, the file (and line)."""
