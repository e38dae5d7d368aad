"""Any command that reads lines and writes as many, such as Apertium."""

import shlex
import shutil
import subprocess
from collections.abc import Sequence
from functools import cache
from typing import Literal

from calora.corpus.teachers.base import BaseTeacher
from calora.errors import CaloraError

_ASKING_SECONDS = 10


class CommandTeacher(BaseTeacher):
    """A command of this machine, `apertium -u eng-spa` say; it is run without a shell.

    Args:
        command: The program and its arguments.
        version: Of it; what `PROGRAM --version`, `-V` or `-v` says first if None.
        timeout: Seconds for one batch.
    """

    teacher: Literal["command"] = "command"
    command: str
    version: str | None = None
    timeout: float = 600.0

    def answer(self, texts: Sequence[str]) -> list[str | None]:
        """Send all texts at once, a line each; a text of several lines is sent as several and put together again.

        An empty line behind each text keeps it apart from the next one: Apertium moves words over a line's end.

        Raises:
            CaloraError: There is no such program, it fails, is too slow, or writes another number of lines.
        """
        parts = [[*text.splitlines(), ""] for text in texts]
        lines = [line for part in parts for line in part]
        try:
            done = subprocess.run(
                self._arguments(),
                input="".join(f"{line}\n" for line in lines),
                capture_output=True,
                text=True,
                encoding="utf-8",
                timeout=self.timeout,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired, UnicodeDecodeError) as error:
            raise CaloraError(f"command {self.command!r}: {error}", "try it by hand on a line of text") from error
        if done.returncode:
            said = (done.stderr.strip() or "it said nothing").splitlines()[-1]
            raise CaloraError(f"command {self.command!r} ended with {done.returncode}: {said}", "try it by hand")
        found = done.stdout.split("\n")[:-1] if done.stdout.endswith("\n") else done.stdout.split("\n")
        if len(found) != len(lines):
            raise CaloraError(
                f"command {self.command!r} wrote {len(found)} lines for {len(lines)}", "it must write one line for each"
            )
        rest = iter(found)
        return ["\n".join([next(rest) for _ in part][:-1]).strip() or None for part in parts]

    def about(self) -> dict[str, str]:
        """The command and its version."""
        return {"teacher": self.command, "version": self.version or _version_of(self._arguments()[0])}

    def _arguments(self) -> list[str]:
        arguments = shlex.split(self.command)
        if not arguments or shutil.which(arguments[0]) is None:
            raise CaloraError(f"command {self.command!r}: no such program", "install it, or mend the recipe")
        return arguments


@cache
def _version_of(program: str) -> str:
    for option in ("--version", "-V", "-v"):
        try:
            asked = subprocess.run(
                [program, option],
                capture_output=True,
                text=True,
                timeout=_ASKING_SECONDS,
                check=False,
                stdin=subprocess.DEVNULL,
            )
        except (OSError, subprocess.TimeoutExpired, UnicodeDecodeError):
            continue
        lines = (asked.stdout.strip() or asked.stderr.strip()).splitlines()
        if lines and not asked.returncode:
            return lines[0]
    return "unknown"
