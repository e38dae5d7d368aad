"""The exceptions a user sees: what is wrong, where, and a hint to mend it."""


class CaloraError(Exception):
    """Something the user can mend; the command line prints it and exits with code 2.

    Args:
        message: What is wrong, where (file, adapter, module, key) and what was expected.
        hint: How to mend it, one sentence.
    """

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


class FolderError(CaloraError):
    """What lies in a folder is in the way, whatever was asked for: a damaged file, a lock, other checkpoints."""


class MachineError(CaloraError):
    """The machine or the network failed, whatever was asked for: a full disk, a hub that does not answer."""


def install_hint(extra: str) -> str:
    """The command that installs what an extra brings: in a clone, as calora is on no package index."""
    return f"in a clone: pip install '.[{extra}]'"
