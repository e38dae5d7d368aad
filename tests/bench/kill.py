"""Kill the demo, or a benchmark, with SIGKILL, start it again each time, and compare what it ends with.

python tests/bench/kill.py --quick              # the demo in the middle of every phase: a quarter of an hour
python tests/bench/kill.py --bench RECIPE.yaml  # a grid at ten random moments
"""

import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Container
from pathlib import Path
from typing import Any

from calora import backbone

# A step's line: hours, minutes, seconds, and what is being made: an artefact or a cell.
STEP = re.compile(r"^\s*\d+:\d\d:\d\d  (?P<name>.+)$")


RUNS = ("unbroken", "broken")
PROGRAM = """
import torch
from calora import backbone
backbone.native_dtype = lambda: {dtype}
from calora.cli import main
main()
"""


def calora() -> list[str]:
    """The command, in one precision: a busy machine might measure another one as the faster each time."""
    return [sys.executable, "-W", "ignore", "-c", PROGRAM.format(dtype=backbone.native_dtype())]


def run(arguments: list[str], folder: Path, kill: str | None = None, wait: float = 0.0) -> tuple[list[str], int]:
    """Run `calora demo`; kill it `wait` seconds after the step `kill` begins.

    Returns:
        The steps that were made in this process, and its exit status.
    """
    made: list[str] = []
    with subprocess.Popen(
        [*calora(), "demo", *arguments, "--run", str(folder)],
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
    """Every cell of a run, times and memory aside, with its predictions."""
    found = {}
    for file in sorted((folder / "cells").glob("*.json")):
        cell = json.loads(file.read_text())
        for measured in ("seconds", "times_bare", "peak_mebibytes"):
            del cell["costs"][measured]
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


def torture_grid(recipe: Path, place: Path, kills: int = 10, seed: int = 0) -> list[float]:
    """Run a grid once unbroken; once killed at random moments of that time, as often as it lasts; compare.

    Returns:
        After how many seconds each process was killed.

    Raises:
        AssertionError: The results differ.
    """
    command = [*calora(), "bench", str(recipe), "--run"]
    begin = time.monotonic()
    subprocess.run([*command, str(place / "unbroken")], check=True, stderr=subprocess.DEVNULL)
    whole = time.monotonic() - begin
    moments: list[float] = []
    draw = random.Random(seed)
    while len(moments) < kills:
        process = subprocess.Popen([*command, str(place / "broken")], stderr=subprocess.DEVNULL, start_new_session=True)
        moment = draw.uniform(0, 2 * whole / kills)  # all together as long as the whole, of which some is lost
        try:
            process.wait(moment)
            break
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            moments.append(round(moment, 1))
    subprocess.run([*command, str(place / "broken")], check=True, stderr=subprocess.DEVNULL)
    assert len(moments) == kills, f"the run ended after {len(moments)} kills: take a larger recipe"
    for part in (".", "validation"):
        assert cells(place / "broken" / part) == cells(place / "unbroken" / part) != {}, part
    chosen = [{file.name: file.read_text() for file in (place / run / "choices").glob("*")} for run in RUNS]
    assert chosen[0] == chosen[1] != {}, "the recipe has no search"
    return moments


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        if sys.argv[1:2] == ["--bench"]:
            seconds = torture_grid(Path(sys.argv[2]), Path(temporary))
            print(f"killed {len(seconds)} times, after {seconds} seconds; the same cells and predictions at the end")
            sys.exit()
        names = torture(sys.argv[1:], Path(temporary), wait=4.0)
    print(f"killed in {len(names)} steps, each finished step made once, the same cells and predictions at the end")
