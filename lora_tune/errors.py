"""The faults a user can mend: a message says where, what was found, what is allowed, what to do."""


class LoraTuneError(Exception):
    """A fault the user can mend; the command line shows its message and exits with code 2."""


class RecipeError(LoraTuneError):
    """A recipe or an override has a wrong key, type or value."""


class DataError(LoraTuneError):
    """Rows cannot be found, read or labelled."""


class RowError(DataError):
    """One of several rows cannot be encoded."""

    def __init__(self, row: int, fault: str) -> None:
        super().__init__(fault)
        self.row = row  # its number among those given


class ModelError(LoraTuneError):
    """A base model cannot be found, is not what it claims to be, or does not fit the recipe."""


class ArtifactError(LoraTuneError):
    """An adapter or run directory is missing, incomplete, or in the way."""


def first_line(error: BaseException) -> str:
    """What a library's error says, cut to the one line that a message of ours has room for."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
