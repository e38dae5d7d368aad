"""Steps of a run that are done once: found again by their settings, done again when those change."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from calora.storage import fingerprint, write_text

Value = TypeVar("Value")


class Steps:
    """The steps of one run folder.

    A step's record lies in `steps/NAME.json` and is written when the step's artefact is whole; it holds the
    fingerprint of the step's settings, which include those of the steps it builds on.
    """

    def __init__(self, run: Path, follow: Callable[[str], None] = lambda _: None) -> None:
        self.run = run
        self.follow = follow

    def do(
        self,
        name: str,
        settings: dict[str, Any],
        make: Callable[[Path], None],
        read: Callable[[Path], Value],
    ) -> Value:
        """Make an artefact unless it is there with the same settings, and read it.

        Args:
            name: Path of the artefact in the run folder.
            settings: Everything it depends on.
            make: Writes it, whole or not at all, to the path it is given.
            read: Reads it back, so that what goes on is what was stored.
        """
        target = self.run / name
        record = self.run / "steps" / f"{name.replace('/', '-')}.json"
        wanted = fingerprint(settings)
        if not (target.exists() and record.exists() and json.loads(record.read_text())["fingerprint"] == wanted):
            self.follow(f"{name}")
            begin = time.monotonic()
            make(target)
            seconds = round(time.monotonic() - begin, 1)
            write_text(
                record, json.dumps({"fingerprint": wanted, "seconds": seconds, "settings": settings}, indent=2) + "\n"
            )
        else:
            self.follow(f"{name} (done before)")
        return read(target)

    def work(self, name: str, settings: dict[str, Any]) -> Path:
        """A folder for a step's checkpoints, of its settings alone: other settings never resume from it."""
        return self.run / "work" / f"{name.replace('/', '-')}-{fingerprint(settings)}"
