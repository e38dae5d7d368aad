"""Kill the demo with SIGKILL in the middle of every phase, start it again each time, and compare its table.

python tests/bench/kill.py --quick            # real backbone: about a quarter of an hour
"""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Container
from pathlib import Path
from typing import Any

# A step's line: hours, minutes, seconds, and what is being made: an artefact or a cell.
STEP = re.compile(r"^\s*\d+:\d\d:\d\d  (?P<name>.+)$")


def run(arguments: list[str], folder: Path, kill: str | None = None, wait: float = 0.0) -> tuple[list[str], int]:
    """Run `calora demo`; kill it `wait` seconds after the step `kill` begins.

    Returns:
        The steps that were made in this process, and its exit status.
    """
    command = [sys.executable, "-W", "ignore", "-c", "from calora.cli import main; main()", "demo", *arguments]
    made: list[str] = []
    with subprocess.Popen(
        [*command, "--run", str(folder)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            match = STEP.match(line.rstrip())
            if match is None:
                continue
            made.append(match["name"])
            if match["name"] == kill:
                time.sleep(wait)
                os.killpg(process.pid, signal.SIGKILL)
                break
    return made, process.returncode


def cells(folder: Path) -> dict[str, Any]:
    """Every cell of a run, times aside, with its predictions."""
    found = {}
    for file in sorted((folder / "cells").glob("*.json")):
        cell = json.loads(file.read_text())
        del cell["costs"]["seconds"]
        predictions = (folder / "predictions" / f"{file.stem}.jsonl").read_text()
        found[file.stem] = cell, predictions
    return found


def finished(folder: Path) -> set[str]:
    """The steps whose artefact or cell is there."""
    records = [json.loads(file.read_text()) for file in (folder / "store" / "records").glob("*.json")]
    made = {f"{record['kind']} {record['name']}" for record in records}
    return made | {f"cell {file.stem}" for file in (folder / "cells").glob("*.json")}


def torture(arguments: list[str], place: Path, wait: float, only: Container[str] | None = None) -> list[str]:
    """Run once unbroken; once killed in each of its steps, or in those of `only`; compare.

    Returns:
        The steps in which it was killed.

    Raises:
        AssertionError: A finished step was made again, or the tables differ.
    """
    steps, status = run(arguments, place / "unbroken")
    assert status == 0, status
    killed = []
    for step in steps:
        before = finished(place / "broken")
        if step in before or (only is not None and step not in only):
            continue
        made, status = run(arguments, place / "broken", kill=step, wait=wait)
        print(f"killed in {step}: exit {status}, made in this process: {', '.join(made)}", file=sys.stderr)
        again = [name for name in made if name in before]
        assert not again, f"finished before and made again: {again}"
        if status == -signal.SIGKILL:
            killed.append(step)
    _, status = run(arguments, place / "broken")
    assert status == 0, status
    assert cells(place / "broken") == cells(place / "unbroken")
    return killed


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        names = torture(sys.argv[1:], Path(temporary), wait=4.0)
    print(f"killed in {len(names)} steps, each finished step made once, the same cells and predictions at the end")
