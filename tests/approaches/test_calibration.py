from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from calora.approaches.calibration import calibrated
from calora.backbone import Backbone
from calora.bench.case import Case, Workplace
from calora.bench.grid import Grid
from calora.bench.recipe import Recipe
from calora.bench.store import Store
from calora.corpus import TextRecord, load_everyday, make_examples, write_pairs
from calora.tasks import Composition

TRAINING = {"learning_rate": 1e-3, "epochs": 1}


@pytest.mark.filterwarnings("ignore:the text has:UserWarning")
@pytest.mark.filterwarnings("ignore:no (train|validation) record .* for summary.es. calibration will fail:UserWarning")
def test_a_calibration_that_is_taught_needs_no_composed_reference(llama: Backbone, tmp_path: Path) -> None:
    """Training and validation have English summaries alone; the translations come from elsewhere, as in the paper."""
    records, pairs = [], []
    for split in ("train", "validation", "test"):
        for record in load_everyday(split)[:4]:
            own = {key: make_examples([record], Composition.parse(key), seed=0)[0] for key in ("summary", "summary+es")}
            targets = {"en": own["summary"].target} | ({"es": own["summary+es"].target} if split == "test" else {})
            text = TextRecord(
                id=record.id,
                split=split,
                domain=record.domain,
                text=own["summary"].text,
                names=own["summary"].names,
                targets={"summary": targets},
            )
            records.append(text.model_dump_json())
        for record in load_everyday(split)[4:8]:
            own = {key: make_examples([record], Composition.parse(key), seed=0)[0] for key in ("summary", "summary+es")}
            pairs.append(replace(own["summary"], target=own["summary+es"].target, text=own["summary"].target))
    (tmp_path / "records.jsonl").write_text("\n".join(records) + "\n", encoding="utf-8")
    write_pairs(pairs * 2, tmp_path / "pairs.jsonl")
    data = {"records": [tmp_path / "records.jsonl"], "outside": {"es": tmp_path / "pairs.jsonl"}}
    rows = ["calibration-taught", "adamerging", "calibration"]
    recipe = Recipe.model_validate(
        {
            "backbones": [llama.name],
            "compositions": ["summary+es"],
            "approaches": rows,
            "adapter": TRAINING,
            "calibration": TRAINING,
            "data": data,
            "max_tokens": 8,
        }
    )
    grid = Grid(recipe, tmp_path / "run", Store(tmp_path / "store"), place=Workplace(recipe, lambda name: llama))
    made = {cell.approach for cell in grid.go()}
    assert made == {"calibration-taught", "adamerging"}
    assert ["no summary reference" in str(error) for _, error in grid.progress.failed] == [True]


@pytest.mark.parametrize(
    "changes",
    [
        {"kind": "low-rank"},
        {"shared": "layer"},
        {"sites": ["q_proj"]},
        {"rate": 2e-3},
        {"epochs": 2},
        {"start": "product"},
        {"strength": 0.7},
        {"adapters": False},
        {"taught": True},
    ],
)
def test_all_that_a_calibration_is_made_with_is_in_its_key(case_of: Callable[[str], Case], changes: Any) -> None:
    case = case_of("summary+es")
    assert calibrated(case, **changes).parents[-1].key != calibrated(case).parents[-1].key
    low = calibrated(case, kind="low-rank").parents[-1].key
    assert calibrated(case, kind="low-rank", rank=2).parents[-1].key != low
