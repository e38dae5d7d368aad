from dataclasses import replace
from pathlib import Path

import pytest

from calora.backbone import Backbone
from calora.bench.case import Workplace
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
