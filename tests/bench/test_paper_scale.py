"""The recipes at the paper's scale, end to end, on tiny random models of the same architectures."""

from pathlib import Path

import pytest

from calora.backbone import Backbone
from calora.bench.case import Workplace
from calora.bench.grid import Grid
from calora.bench.judging import judge_run
from calora.bench.recipe import Recipe, read_recipe
from calora.bench.store import Store
from calora.corpus import TextRecord, load_everyday, make_examples
from calora.report.bench_page import write_bench_page
from calora.report.browser import browser_data
from calora.report.main_table import main_table
from calora.report.reading import read_results
from calora.tasks import Composition

RECIPES = Path(__file__).parents[2] / "recipes/paper-scale"
MODELS = {"llama-3.2-1b": "llama", "qwen2.5-1.5b": "qwen2", "stablelm2-1.6b": "stablelm"}


def write_records(path: Path, field: str) -> None:
    """What `calora compose-data` writes, of some dialogues of the Everyday corpus."""
    lines = []
    for split in ("train", "validation", "test"):
        for number, record in enumerate(load_everyday(split)[:4]):
            keys = {key: f"{field}+{key}" if key != "en" else field for key in ("en", "es", "de", "casual")}
            made = {key: make_examples([record], Composition.parse(name), seed=0)[0] for key, name in keys.items()}
            text = TextRecord(
                id=f"{record.id}-{field}",
                split=split,
                domain=field,
                text=made["en"].text,
                names=made["en"].names,
                # TED lacks a language here and there.
                targets={field: {key: one.target for key, one in made.items() if key != "es" or number != 2}},
            )
            lines.append(text.model_dump_json())
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:the text has:UserWarning")
@pytest.mark.parametrize("name", MODELS)
def test_a_recipe_runs_from_composed_records_to_its_cells(
    backbones: dict[str, Backbone], tmp_path: Path, name: str
) -> None:
    backbone = backbones[MODELS[name]]
    for field in ("summary", "reply"):
        write_records(tmp_path / f"{field}.jsonl", field)
    wanted = read_recipe(RECIPES / f"{name}.yaml").model_dump()
    rows = [row | {"settings": ("paper",)} for row in wanted["approaches"]]
    for row in rows:
        if row["name"] == "lorahub":
            row["options"] = {"budget": 3}
    recipe = Recipe.model_validate(
        wanted
        | {
            "backbones": [backbone.name],
            "compositions": ["summary+es", "reply+casual"],
            "approaches": rows,
            "search": None,
            "max_tokens": 4,
            "data": {
                "records": [tmp_path / "summary.jsonl", tmp_path / "reply.jsonl"],
                "train": 6,
                "outside": {"es": tmp_path / "summary.jsonl"},
            },
        }
    )
    grid = Grid(recipe, tmp_path / "run", Store(tmp_path / "store"), place=Workplace(recipe, lambda _: backbone))
    cells = grid.go()
    assert grid.progress.failed == []
    assert {(cell.composition, cell.approach) for cell in cells} == {
        (composition, row["name"]) for composition in recipe.compositions for row in rows
    }
    assert {cell.costs.examples for cell in cells if cell.approach == "calibration"} == {8}
    # Summaries and replies are of other dialogues: each composition is judged and reported on its own.
    assert {cell.composition for cell in judge_run(tmp_path / "run")} == {"summary+es", "reply+casual"}
    results = read_results(tmp_path / "run")
    assert [len(results.examples[name]) for name in recipe.compositions] == [3, 4]
    assert len(results.dialogues) == 7
    table = main_table(results)
    assert "7 dialogues, of which a composition has 3 to 4," in table.caption
    means = {(cell.approach, cell.composition): cell.scores["retrieval"] for cell in cells}
    for row in table.rows:
        both = [means[row.label, name] for name in recipe.compositions]
        assert row.overall.mean == pytest.approx(sum(both) / 2, abs=1e-3)
    shown = browser_data(results)
    for asked, count in zip(shown["compositions"], (3, 4), strict=True):
        for row in (asked["texts"], asked["references"], *asked["answers"].values()):
            assert [value is not None for value in row] == [text is not None for text in asked["texts"]]
            assert sum(value is not None for value in row) == count
    assert write_bench_page(results).exists()
