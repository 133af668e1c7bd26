"""Mistakes of a user, told in one paragraph, and the exit codes of a run."""

TRAINED = 0
USER_MISTAKE = 2
SAVED_ON_SIGNAL = 75  # EX_TEMPFAIL: a launcher starts the run again
INTERRUPTED = 130


class UserError(Exception):
    """What was wrong, the value seen, what was expected, and the file or flag. Commands print it and exit with code 2."""


class Unwritten(UserError):
    """A checkpoint could not be written: the disk is full, or the folder is gone."""


class NonFinite(UserError):
    """The loss or a gradient became infinite or not a number."""


class Stopped(Exception):
    """The run was stopped by a signal after it saved; `code` is the exit code."""

    def __init__(self, message: str, code: int):
        super().__init__(message)
        self.code = code
