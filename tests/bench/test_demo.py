import json
from pathlib import Path

import pytest

from calora.backbone import Backbone
from calora.bench.demo import demo_recipe, run_demo
from calora.errors import CaloraError
from tests.bench.kill import cells, torture

PHASES = (
    "adapter summary seed 0",
    "cell summary+es--zero-shot--llama--0",
    "merge-search summary+es seed 0",
    "calibration summary+es column-bias seed 0",
    "timing summary+es",
)


@pytest.mark.slow
def test_a_run_killed_in_its_phases_ends_as_an_unbroken_one(llama: Backbone, tmp_path: Path) -> None:
    killed = torture(["--quick", "--backbone", llama.name], tmp_path, wait=0.2, only=PHASES)
    assert len(killed) >= len(PHASES) - 1  # the last step may end before the signal comes


@pytest.mark.parametrize("composition", ["summary", "es", "casual+es"])
def test_what_has_not_a_primary_and_a_secondary_task_is_no_demo(composition: str) -> None:
    with pytest.raises(CaloraError, match="is no composition of a primary") as error:
        demo_recipe("quick", composition)
    assert "summary+es" in str(error.value.hint)


def test_full_has_the_papers_rates_and_tuned_ones_as_rows_of_their_own() -> None:
    recipe = demo_recipe("full", seed=2)
    rows = {approach.label: approach for approach in recipe.approaches if approach.name == "any-calibration"}
    assert list(rows) == ["column-bias-paper", "low-rank-paper", "column-bias-tuned", "low-rank-tuned"]
    assert "rate" not in rows["column-bias-paper"].options
    assert recipe.calibration.learning_rate == 5e-4
    assert rows["low-rank-tuned"].options["start"] == "searched"
    assert recipe.seeds == (2,)


@pytest.mark.slow
@pytest.mark.real_backbone
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_the_whole_way_on_a_real_backbone(tmp_path: Path) -> None:
    """A few records only: what is asked is that the way is whole, and that training moves answers where it should."""
    plain = demo_recipe("quick", "summary+casual", "smollm2-135m")
    data = plain.data.model_copy(update={"train": 16, "validation": 3, "test": 3})
    made, timing = run_demo(plain.model_copy(update={"data": data, "max_tokens": 24}), tmp_path)
    results = {cell.approach: cell for cell in made}
    assert results["multi-step"].costs.passes == 2
    calibrated = [results[name] for name in ("column-bias-factors", "low-rank-factors")]
    assert all(cell.costs.passes == 1 and 0 < cell.costs.mebibytes < 0.5 for cell in calibrated)
    assert all(cell.costs.updates == 2 and cell.costs.examples == 16 for cell in calibrated)
    assert results["neighbour"].n == len(cells(tmp_path)["summary+casual--neighbour--smollm2-135m--0"][1].splitlines())
    assert results["ceiling"].costs.passes == 1
    assert 0 < timing.ratio < 1.5

    (training,) = calibrated[1].provenance["training"]
    losses = [entry["eval_loss"] for entry in training["validation"] if "eval_loss" in entry]
    (search,) = (tmp_path / "store" / "merge-search").iterdir()
    tried = json.loads(search.read_text())["tried"]
    start = min(one["loss"] for one in tried if one["merge"] == {"start": "factors", "strengths": [0.5, 0.5]})
    assert min(losses) < start, "calibrating did not lower the validation loss of the merge it started from"
    adapters = {folder.name.partition("-seed")[0] for folder in (tmp_path / "store" / "adapter").iterdir()}
    assert adapters == {"summary", "casual"}
