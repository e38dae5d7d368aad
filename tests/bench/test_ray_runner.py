import json
import os
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from calora.backbone import Backbone
from calora.bench.cells import read_cell, read_predictions
from calora.bench.grid import Grid
from calora.bench.progress import failures
from calora.bench.ray_runner import Outcome, _absolute, _grid, go_on_ray, make_cell
from calora.bench.recipe import Recipe
from calora.bench.store import Store
from calora.errors import CaloraError
from calora.report.reading import read_results

RECIPE = {
    "compositions": ["summary+es", "reply+casual"],
    "approaches": [
        "zero-shot",
        "multi-step",
        {"name": "linear", "settings": ["paper", "tuned"]},
        "calibration",
        {"name": "joint-expert", "options": {"rank": 2}},
    ],
    "adapter": {"learning_rate": 1e-3, "epochs": 1},
    "calibration": {"learning_rate": 1e-3, "epochs": 1},
    "search": {"budget": 4, "compositions": ["summary+es"]},
    "data": {"train": 24, "validation": 6, "test": 6},
    "max_tokens": 24,
}
# A node that does not answer is taken for dead after five seconds, not after twenty: the run is a short one.
SOON = {"health_check_initial_delay_ms": 1000, "health_check_period_ms": 1000, "health_check_failure_threshold": 5}
# Every process computes in one precision, whichever a busy machine measures as the faster; Ray hands functions of the
# main program on as they are, so that workers do the same.
PROGRAM = """
def in_float32():
    import torch
    from calora import backbone
    backbone.native_dtype = lambda: torch.float32

def make_cell(*given):
    in_float32()
    from calora.bench import ray_runner
    return ray_runner.make_cell(*given)

in_float32()
from calora.bench import ray_runner
from calora.cli import main
ray_runner.make_cell = make_cell
main()
"""


def results(run: Path) -> dict[str, Any]:
    """Scores and answers of each cell; times differ."""
    found = {}
    for path in sorted((run / "cells").glob("*.json")):
        cell = read_cell(path)
        rows = [json.loads(line) for line in (run / "predictions" / f"{path.stem}.jsonl").read_text().splitlines()]
        found[path.stem] = (cell.key, cell.scores, [row["answer"] for row in rows])
    return found


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_cluster_of_two_nodes_makes_the_same_cells_though_one_is_killed(llama: Backbone, tmp_path: Path) -> None:
    from ray.cluster_utils import Cluster

    llama.model.save_pretrained(tmp_path / "backbone")
    llama.tokenizer.save_pretrained(tmp_path / "backbone")
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(json.dumps(RECIPE | {"backbones": [str(tmp_path / "backbone")]}))
    environment = os.environ | {"OMP_NUM_THREADS": "1", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}

    def command(name: str, *options: str) -> list[str]:
        places = ["--run", str(tmp_path / name), "--store", str(tmp_path / f"{name}-store")]
        return [sys.executable, "-W", "ignore", "-c", PROGRAM, "bench", str(recipe), *places, *options]

    local = subprocess.run(command("local"), env=environment, capture_output=True, text=True, check=False, timeout=600)
    assert local.returncode == 0, local.stderr[-2000:]
    head = {"num_cpus": 1, "include_dashboard": False, "_system_config": SOON}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        second = cluster.add_node(num_cpus=1)
        with subprocess.Popen(
            command("ray", "--runner", "ray", "--address", cluster.address),
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            cells = tmp_path / "ray/cells"
            while process.poll() is None and not any(cells.glob("*.json")):
                time.sleep(0.2)
            cluster.remove_node(second, allow_graceful=False)
            _, said = process.communicate(timeout=600)
        assert process.returncode == 0, said[-2000:]
        assert "12 of 12 cells" in said
        assert "on 2 nodes" in said
        assert "on 1 nodes" in said
    finally:
        cluster.shutdown()
    assert results(tmp_path / "ray") == results(tmp_path / "local")
    assert {read_cell(path).provenance["dtype"] for path in cells.glob("*.json")} == {"float32"}


class OneWorker:
    """What calora calls of Ray, with a worker that does one task after the other in this process."""

    def remote(self, **options: Any) -> Any:
        return lambda task: SimpleNamespace(remote=lambda *arguments: (task, arguments))

    def wait(self, asked: list[Any], **options: Any) -> Any:
        return asked[:1], asked[1:]

    def get(self, reference: Any) -> Any:
        task, arguments = reference
        return task(*arguments)

    def init(self, **options: Any) -> None: ...

    def cluster_resources(self) -> dict[str, float]:
        return {"CPU": 1.0}

    def nodes(self) -> list[dict[str, bool]]:
        return [{"Alive": True}]


@pytest.mark.filterwarnings("ignore:the text has:UserWarning")
def test_what_failed_for_one_cell_is_not_tried_again_for_the_others(
    llama: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", OneWorker())
    monkeypatch.setattr("calora.bench.ray_runner.Grid", partial(Grid, timed=False))
    monkeypatch.chdir(Path(llama.name).parent)  # the backbone's name is a relative path, as a user may give it
    tries: list[str] = []

    def make(self: Store, step: Any, parents: Any) -> None:
        tries.append(step.name)
        raise CaloraError("the adapter broke")

    monkeypatch.setattr(Store, "_make", make)
    rows = ["zero-shot", "secondary-adapter", "multi-step", "linear", "calibration", "ties", "dare"]
    recipe = Recipe.model_validate(
        RECIPE | {"backbones": ["llama"], "approaches": rows, "compositions": ["summary+es"], "search": None}
    )
    grid = Grid(recipe, tmp_path / "run", Store(tmp_path / "store"))
    assert [cell.approach for cell in go_on_ray(grid)] == ["zero-shot"]
    assert len(tries) <= 4  # of the six cells that an adapter is missing for, those that were asked for at once
    found = failures(grid.progress)
    assert {what for what, _, _ in found} <= {"adapter es seed 0", "adapter summary seed 0"}
    assert sum(count for _, _, count in found) == 6
    assert {cell.approach for cell in read_results(tmp_path / "run").cells()} == {"zero-shot"}


@pytest.mark.filterwarnings("ignore:the text has:UserWarning")
def test_a_worker_keeps_its_grid_and_does_as_the_first_process_was_told(llama: Backbone, tmp_path: Path) -> None:
    llama.model.save_pretrained(tmp_path / "backbone")
    llama.tokenizer.save_pretrained(tmp_path / "backbone")
    recipe = Recipe.model_validate(
        RECIPE | {"backbones": [str(tmp_path / "backbone")], "approaches": ["zero-shot"], "max_tokens": 4}
    )
    run, store = tmp_path / "run", tmp_path / "store"
    asked = recipe.model_dump_json(), str(run), str(store)
    places = Grid(recipe, run, Store(store)).prepare()
    before = _grid.cache_info()
    outcomes = [make_cell(*asked, place.name, False, True) for place in places]
    after = _grid.cache_info()
    assert outcomes == [Outcome()] * 2
    assert (after.misses - before.misses, after.hits - before.hits) == (1, 1)
    cell = run / "cells" / f"{places[0].name}.json"
    assert read_cell(cell).costs.times_bare is None
    assert read_predictions(cell)[0]["text"]
    other = recipe.model_copy(update={"max_tokens": 5})
    with pytest.warns(UserWarning, match="2 cells of"):
        Grid(other, run, Store(store)).prepare()
    cells = sorted((run / "cells").glob("*.json"))
    outcome = make_cell(*asked, places[0].name, False, True)  # of a worker of the run before
    assert "another process works in" in outcome.failed
    assert sorted((run / "cells").glob("*.json")) == cells == []


def test_a_worker_finds_a_packed_backbone_too(llama: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(llama.name).parent)
    names = ["llama", "llama:4bit", "gemma3-270m:4bit", "owner/name:8bit"]
    found = _absolute(Recipe.model_validate(RECIPE | {"backbones": names})).backbones
    assert found == (llama.name, f"{llama.name}:4bit", "gemma3-270m:4bit", "owner/name:8bit")
