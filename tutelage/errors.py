"""What can go wrong, as one tree.

    TutelageError                everything a user can mend; printed as one line, exit code 2
    ├── SettingsError            a recipe, a course file or a flag
    ├── RecordError              a line of data: where it stands, what was found, what to do
    ├── RunError                 a run folder: half of one, or damaged
    │   └── RunLockedError       another process is writing it
    ├── ModelError               a model folder: lacks its tokenizer, its chat template, its weights
    ├── SelfCheckError           a trainer's look at its own arithmetic failed
    ├── RoomError                it does not fit in the memory of this machine
    ├── MissingExtraError        an optional package is needed; names the extra to install
    ├── Refusal                  the labelling site's rules do not allow it (`web/refusal.py`)
    └── DatabaseError            its database cannot be used now (the same file)

A message says where, what was found, and what to do. ``assert`` is for our own faults only.
"""


class TutelageError(Exception):
    """Something the user can mend."""


class SettingsError(TutelageError):
    """A recipe, a course file or a flag is wrong."""


class RecordError(TutelageError):
    """A line of data is wrong."""


class RunError(TutelageError):
    """A run folder cannot be used."""


class RunLockedError(RunError):
    """Another process is writing this run."""


class ModelError(TutelageError):
    """A model folder cannot be used."""


class SelfCheckError(TutelageError):
    """The arithmetic of a trainer went wrong: before its first update, or by what is not finite."""


class RoomError(TutelageError):
    """There is not enough memory."""


class MissingExtraError(TutelageError):
    """An optional package is missing."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(f"{purpose} needs the package {package}: pip install 'tutelage[{extra}]'")
