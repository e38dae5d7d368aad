"""A grid on a Ray cluster: a task a cell, on folders that all nodes see.

What several cells need is made by whichever task comes first; one that finds its lock held gives its place to another.
A lock ends with its process, so that a node that is lost costs what it was making and nothing else: Ray gives its tasks
to other nodes.
"""

import time
from collections import deque
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from calora.bench.cells import Cell, read_cell
from calora.bench.grid import Grid
from calora.bench.recipe import Recipe
from calora.bench.rows import Place
from calora.bench.store import WAIT, BusyError, Step, StepFailedError, Store
from calora.errors import CaloraError, install_hint
from calora.packing import split_packing

# A node may be lost more than once in a long run.
_TRIES = 20
# So many tasks wait or work for each that the cluster has room for: what fails is known before most are asked for.
_QUEUED = 2


@dataclass(frozen=True)
class Outcome:
    """What a worker tells of a cell; nothing where it is there.

    Args:
        busy: Whether another task is making it, or something that it needs.
        failed: Why it cannot be made, in words, as not every error can travel.
        step: The key of the step that failed.
    """

    busy: bool = False
    failed: str = ""
    step: str = ""


def go_on_ray(grid: Grid, address: str | None = None, *, cpus: float = 1, gpus: float = 0) -> list[Cell]:
    """Make every cell that is not there, on a cluster.

    Args:
        grid: Its run folder and store must be seen by every node under the same path.
        address: Of the cluster, such as `ray://head:10001` or `auto`; a cluster of this machine alone if None.
        cpus: Of a task.
        gpus: Of a task.

    Returns:
        The cells that are there at the end; `grid.progress` holds what failed.

    Raises:
        CaloraError: Ray is not installed or gives no cluster, or a file or a backbone is not found.
    """
    try:
        import ray
    except ImportError as error:
        raise CaloraError("a cluster needs ray, which is not installed", install_hint("cluster")) from error
    grid.recipe = _absolute(grid.recipe)  # what the folder says must be what the workers write
    places = grid.prepare()
    recipe, run, store = grid.recipe.model_dump_json(), grid.run.resolve(), grid.store.folder.resolve()
    try:
        ray.init(address=address or "local", ignore_reinit_error=True, log_to_driver=False)
    except ConnectionError as error:
        raise CaloraError(f"no cluster at {address}: {error}", "start one with `ray start --head`") from error
    task = ray.remote(num_cpus=cpus, num_gpus=gpus, max_retries=_TRIES)(make_cell)

    waiting, asked = deque(places), dict[Any, Place]()
    cells: dict[str, Cell] = {}
    while waiting or asked:
        room = int(_QUEUED * max(1.0, _cpus() / cpus))
        while waiting and len(asked) < room:
            place = waiting.popleft()
            hopeless = next((grid.store.failed[s.key] for s in _steps(grid, place) if s.key in grid.store.failed), None)
            if hopeless is None:
                asked[task.remote(recipe, str(run), str(store), place.name, grid.timed, grid.texts)] = place
            else:
                grid.progress.failed.append((place.name, hopeless))
        ended, _ = ray.wait(list(asked), num_returns=1, timeout=1.0) if asked else ([], [])
        for reference in ended:
            place = asked.pop(reference)
            try:
                outcome = ray.get(reference)
                if outcome.busy:
                    waiting.append(place)
                    continue
                if outcome.failed:
                    raise _error(grid, place, outcome)
                cells[place.name] = read_cell(run / "cells" / f"{place.name}.json")
                grid.progress.done[place.row.label] += 1
            except Exception as error:
                grid.progress.failed.append((place.name, error))
        now = f"{len(waiting) + len(asked)} cells on {len(_nodes())} nodes"
        if now != grid.progress.now:
            grid.progress.now = now
            grid.follow(grid.progress)
    return [cells[place.name] for place in places if place.name in cells]


def _steps(grid: Grid, place: Place) -> list[Step[Any]]:
    """What a cell hangs on, as far as that is known: where a search has still to choose, nothing is."""
    try:
        if place.row.setting == "tuned" and not grid.search(place.row, place.case.backbone_name).found:
            return []
        plan = grid.planned(place, "test", grid.options(place))[0]
    except Exception:  # the worker will tell
        return []
    return [step for parent in plan.parents for step in parent.lineage()]


def _error(grid: Grid, place: Place, outcome: Outcome) -> Exception:
    """What a worker told; a step that failed is remembered, so that it is not tried again for another cell."""
    reason = CaloraError(outcome.failed)
    for step in _steps(grid, place):
        if step.key == outcome.step:
            return grid.store.failed.setdefault(step.key, StepFailedError(step, reason))
    return reason


def _cpus() -> float:
    """Of all nodes that there are now."""
    import ray

    resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    return resources.get("CPU", 1.0)


def _nodes() -> list[Any]:
    import ray

    nodes: list[Any] = ray.nodes()  # type: ignore[no-untyped-call]
    return [node for node in nodes if node["Alive"]]


def _absolute(recipe: Recipe) -> Recipe:
    """The recipe with whole paths: a worker runs in a folder of its own."""
    data = recipe.data
    paths = {
        "records": tuple(path.resolve() for path in data.records),
        "tested_on": tuple(path.resolve() for path in data.tested_on),
        "outside": {task: path.resolve() for task, path in data.outside.items()},
    }
    backbones = tuple(map(_absolute_backbone, recipe.backbones))
    return recipe.model_copy(update={"data": data.model_copy(update=paths), "backbones": backbones})


def _absolute_backbone(name: str) -> str:
    plain, packing = split_packing(name)
    whole = str(Path(plain).resolve()) if Path(plain).exists() else plain
    return whole if packing is None else f"{whole}:{packing}"


def make_cell(recipe: str, run: str, store: str, name: str, timed: bool, texts: bool) -> Outcome:
    """Make one cell; run by a worker of the cluster.

    Args:
        recipe: As JSON.
        run: The run folder.
        store: Where artefacts lie.
        name: Of the cell.
        timed: As for `Grid`.
        texts: As for `Grid`.

    Returns:
        `busy` if another task is making it or something that it needs, so that its place on the node goes to another
        cell.
    """
    grid = _grid(recipe, Path(run), Path(store), timed, texts)
    place = next(place for place in grid.places() if place.name == name)
    try:
        grid.cell(place)
    except BusyError:
        time.sleep(WAIT)
        return Outcome(busy=True)
    except StepFailedError as error:
        return Outcome(failed=_said(error.reason), step=error.step.key)
    except Exception as error:
        return Outcome(failed=_said(error))
    finally:
        grid.store.forget()
    return Outcome()


@lru_cache(maxsize=1)
def _grid(recipe: str, run: Path, store: Path, timed: bool, texts: bool) -> Grid:
    """A worker's own, with its records and its backbone: Ray gives one worker many tasks."""
    return Grid(Recipe.model_validate_json(recipe), run, Store(store), timed=timed, texts=texts)


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"
