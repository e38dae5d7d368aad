import json
from pathlib import Path

import pytest

from calora.backbone import Backbone
from calora.bench.demo import Demo
from calora.bench.settings import demo_settings
from calora.calibration import read_calibration
from calora.errors import CaloraError
from tests.bench.kill import cells, torture

PHASES = (
    "adapters/summary",
    "cells/zero-shot.json",
    "merge-search.json",
    "calibrations/column-bias-factors",
    "timing.json",
)


@pytest.mark.slow
def test_a_run_killed_in_its_phases_ends_as_an_unbroken_one(llama: Backbone, tmp_path: Path) -> None:
    killed = torture(["--quick", "--backbone", llama.name], tmp_path, wait=0.2, only=PHASES)
    assert len(killed) >= len(PHASES) - 1  # the last step may end before the signal comes


def test_one_task_is_no_demo(llama: Backbone, tmp_path: Path) -> None:
    with pytest.raises(CaloraError, match="summary is one task"):
        Demo(demo_settings("quick", "summary", llama.name), tmp_path)


@pytest.mark.slow
@pytest.mark.real_backbone
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_the_whole_way_on_a_real_backbone(tmp_path: Path) -> None:
    """A few records only: what is asked is that the way is whole, and that training moves answers where it should."""
    plain = demo_settings("quick", "summary+casual", "smollm2-135m")
    settings = plain.model_copy(update={"train_records": 24, "validation_records": 12, "test_records": 12})
    demo = Demo(settings, tmp_path)
    before = {name: value.clone() for name, value in demo.backbone.model.state_dict().items()}
    results = demo.go()
    after = demo.backbone.model.state_dict()
    assert all(bool((after[name] == value).all()) for name, value in before.items())

    assert results["multi-step"].costs.passes == 2
    calibrated = [results[name] for name in ("column-bias-factors", "low-rank-factors")]
    assert all(cell.costs.passes == 1 and cell.costs.mebibytes < 0.5 for cell in calibrated)
    assert results["neighbour"].n == len(cells(tmp_path)["neighbour"][1].splitlines()) == 12

    calibration = read_calibration(tmp_path / "calibrations" / "low-rank-factors")
    losses = [entry["eval_loss"] for entry in calibration.card.training["validation"]]
    tried = json.loads((tmp_path / "merge-search.json").read_text())["tried"]
    start = min(one["loss"] for one in tried if one["merge"] == {"start": "factors", "strengths": [0.5, 0.5]})
    assert min(losses) < start, "calibrating did not lower the validation loss of the merge it started from"
    parents = [demo.steps.run / "adapters" / name for name in ("summary", "casual")]
    assert all((parent / "adapter_model.safetensors").exists() for parent in parents)
