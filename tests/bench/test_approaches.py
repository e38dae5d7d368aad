from collections.abc import Callable

import pytest

from calora.approaches.registry import approaches
from calora.bench.grid import Grid
from calora.merging import merge_methods


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:the text has:UserWarning")
def test_every_approach_answers_two_tasks_and_nearly_all_three(grid: Callable[..., Grid]) -> None:
    names = list(approaches())
    options = {
        "lorahub": {"budget": 3},
        "auto-merge": {"budget": 14},
        "calibration-few": {"examples": 4},
        "calibration-without": {"domain": "arts"},
        "calibration-transferred": {"learnt_on": "summary+es"},
        "calibration-stale": {"recalibrated_on": 4},
    }
    wanted = [{"name": name, "options": options.get(name, {})} for name in names]
    # Two domains, so that one can be left out.
    data = {"train": 8, "validation": 6, "test": 3}
    one = grid(approaches=wanted, compositions=["summary+casual", "summary+casual+fr"], data=data)
    cells = one.go()
    by_name = {cell.approach: cell for cell in cells if cell.composition == "summary+casual"}
    assert by_name["calibration-few"].costs.examples == by_name["calibration-stale"].costs.examples == 8  # one batch
    assert by_name["auto-merge"].provenance["found"]["method"] in merge_methods()
    assert by_name["linear-searched"].provenance["found"]["start"] in ("factors", "product")
    assert "found" not in by_name["linear"].provenance
    missing = {(name, "summary+casual+fr") for name in ("calibration-shared", "slerp")}
    assert {(cell.approach, cell.composition) for cell in cells} == {
        (name, composition) for name in names for composition in ("summary+casual", "summary+casual+fr")
    } - missing
    assert sorted(str(error) for _, error in one.progress.failed) == [
        "SLERP is between two adapters, not 3",
        "summary+casual+fr is not of a primary and one secondary task",
    ]
