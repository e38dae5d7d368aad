import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from calora.backbone import Backbone
from calora.bench.cells import read_cell

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
PROGRAM = "from calora.cli import main; main()"


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

    local = subprocess.run(command("local"), env=environment, capture_output=True, text=True, check=False)
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
