"""What is evaluated, what is said of it, and what would be ignored."""

import json
import warnings
from pathlib import Path

import pytest

from calora.adapter import read_adapter, write_adapter
from calora.backbone import Backbone
from calora.bench.case import Case, Workplace
from calora.bench.cells import Cell, read_cell
from calora.bench.recipe import Recipe
from calora.calibration import fold
from calora.cli.options import evaluation_examples
from calora.report.folder import predictions_of, read_cells
from calora.tasks import Composition
from tests.cli.conftest import Run
from tests.conftest import random_adapter, write_fresh_calibration

FEW = ("--data", "mine.jsonl", "--max-tokens", 3)


@pytest.fixture
def parents(llama: Backbone, tmp_path: Path) -> list[object]:
    """The options that name two adapters of the tiny Llama; `both`, calibrated on them; `folded`; and pairs."""
    for seed, name in enumerate(("summary", "es")):
        adapter = random_adapter(llama, seed, name=name)
        assert adapter.card
        settings = {"settings": {"seed": 4}}
        card = adapter.card.model_copy(update={"backbone": llama.name, "training": settings})
        write_adapter(adapter.with_card(card), tmp_path / name)
    folders = {name: tmp_path / name for name in ("summary", "es")}
    merged, calibration = write_fresh_calibration(folders, tmp_path / "both", training={"settings": {"seed": 7}})
    write_adapter(fold(merged, calibration), tmp_path / "folded")
    rows = [{"text": f"Ann: Shall we meet at {hour}?\nBob: Yes.", "target": f"A las {hour}."} for hour in (1, 2)]
    (tmp_path / "mine.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return ["--adapter", "summary", "--adapter", "es"]


def scored(calora: Run, *arguments: object) -> tuple[Cell, str]:
    """The cell of an evaluation, and what was said."""
    code, _, err = calora("evaluate", "summary+es", *arguments, *FEW, "--out", "scored")
    assert code == 0, err
    (file,) = Path("scored/cells").glob("*.json")
    cell = read_cell(file)
    file.unlink()
    return cell, err


def test_a_fold_counts_what_its_calibration_does(calora: Run, parents: list[object]) -> None:
    calibrated, _ = scored(calora, "both", *parents)
    folded, said = scored(calora, "folded")
    assert folded.costs.parameters == calibrated.costs.parameters > 0
    assert (folded.seed, calibrated.seed) == (7, 7)
    assert "not counted" not in said
    card = read_adapter("folded").card
    assert card
    alone = card.model_copy(update={"parents": {}})
    write_adapter(read_adapter("folded").with_card(alone), "folded")
    assert scored(calora, "folded")[0].costs.parameters == calibrated.costs.parameters


def test_what_an_adapter_does_not_say_is_not_counted_and_told(
    calora: Run, llama: Backbone, parents: list[object]
) -> None:
    Path("folded/calora.json").unlink()
    cell, said = scored(calora, "folded", "--backbone", llama.name)
    assert (cell.costs.parameters, cell.costs.mebibytes) == (None, None)
    assert "folded does not say what was learnt for summary+es: added parameters are not counted" in said


def test_multi_step_adds_nothing_and_has_its_adapters_seed(calora: Run, parents: list[object]) -> None:
    cell, said = scored(calora, "--multi-step", *parents)
    assert (cell.costs.passes, cell.costs.parameters, cell.seed) == (2, 0, 4)
    assert "warning" not in said


def test_adapters_in_the_wrong_order_are_told(calora: Run, parents: list[object]) -> None:
    _, said = scored(calora, "--multi-step", "--adapter", "es", "--adapter", "summary")
    assert "warning: es is for es, and is asked for summary" in said
    assert "warning: summary is for summary, and is asked for es" in said


def test_an_answer_has_no_more_tokens_than_it_may(calora: Run, parents: list[object]) -> None:
    assert 0 < scored(calora, "folded")[0].costs.tokens <= 3


def test_each_text_that_is_cut_is_told(calora: Run, parents: list[object], tmp_path: Path) -> None:
    row = {"text": "Ann: Shall we meet? " * 400, "target": "No."}
    (tmp_path / "mine.jsonl").write_text("\n".join([json.dumps(row)] * 2), encoding="utf-8")
    with warnings.catch_warnings():
        warnings.resetwarnings()
        _, said = scored(calora, "folded")
    told = [line for line in said.splitlines() if "its beginning is cut" in line]
    assert len(told) == 2
    assert told[0].startswith("warning: the text has ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["summary", "--adapter", "es"], "es would be ignored: summary is an adapter"),
        (["both", "--multi-step", "--adapter", "summary", "--adapter", "es"], "both would be ignored: --multi-step"),
        (["--adapter", "summary", "--adapter", "es"], "--adapter would be ignored: no calibration is named"),
    ],
)
def test_what_would_be_ignored_is_refused(
    calora: Run, parents: list[object], arguments: list[str], message: str
) -> None:
    code, _, err = calora("evaluate", "summary+es", *arguments, *FEW)
    assert code == 2
    assert message in err


@pytest.mark.parametrize("text", ["es", "casual", "summary+es", "reply+casual"])
def test_the_examples_are_those_of_the_benchmark(text: str) -> None:
    recipe = Recipe.model_validate({"compositions": ["summary+es"], "approaches": ["zero-shot"]})
    composition = Composition.parse(text)
    case = Case(Workplace(recipe), "tiny", composition, 0)
    assert evaluation_examples(composition, None, "test") == case.evaluation_examples("test")
    assert len(evaluation_examples(composition, None, "test")) == 108


def test_cells_lie_where_reports_look_for_them(
    calora: Run, parents: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def evaluate(composition: str, folder: str) -> str:
        options = ["--data", tmp_path / "mine.jsonl", "--max-tokens", 3, "--out", tmp_path / "scored"]
        code, _, err = calora("evaluate", composition, folder, *options)
        assert code == 0, err
        return err

    assert "is replaced" not in evaluate("summary+es", "folded") + evaluate("summary", "folded")
    cells = read_cells(tmp_path / "scored")
    assert sorted(cell.composition for cell in cells) == ["summary", "summary+es"]
    assert all(len(predictions_of(tmp_path / "scored", cell)) == cell.n == 2 for cell in cells)
    monkeypatch.chdir("folded")
    assert "folded--" in evaluate("summary", ".") and "is replaced" in evaluate("summary", ".")
    assert {cell.title for cell in read_cells(tmp_path / "scored")} == {"folded"}
