import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from calora.bench.case import Case, Workplace
from calora.corpus import load_everyday, spread
from calora.errors import CaloraError
from calora.report.bench_page import write_bench_page
from calora.report.browser import browser_data
from calora.report.main_table import main_table
from calora.report.reading import read_results
from calora.storage import slug

from .bench_runs import (
    BACKBONE,
    COMPOSITIONS,
    DIALOGUES,
    SEEDS,
    TITLES,
    add_judge,
    add_llm_verdicts,
    answers,
    cell_path,
    change_predictions,
    hits,
    predictions_path,
    recipe,
    write_answers,
    write_bench_run,
)

IDS = tuple(record.id for record in spread(load_everyday("test"), DIALOGUES))


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bench_run(tmp_path_factory.mktemp("runs") / "bench")


@pytest.fixture
def run(written: Path, tmp_path: Path) -> Path:
    """A run that may be changed."""
    return Path(shutil.copytree(written, tmp_path / "bench"))


def test_every_row_is_an_array_of_seeds_by_dialogues(written: Path) -> None:
    results = read_results(written)
    assert list(results.titles.items()) == list(TITLES.items())
    assert results.compositions == COMPOSITIONS
    assert results.dialogues == IDS
    assert results.left_out == ()
    assert results.measures == ["retrieval", "masked_rouge", "rouge", "in_language"]
    for (label, name), entry in results.entries.items():
        assert list(entry.cells) == [("tiny", 0), ("tiny", 1)]
        assert np.array_equal(entry.scores["retrieval"], [hits(label, name, seed) for seed in SEEDS])
    assert len(results.entries) == 11
    assert results.controls == {"constant"}
    assert results.categories == {
        "summary+translation": ("summary+es",),
        "reply+tone": ("reply+casual",),
        "three tasks": ("summary+professional+es",),
    }


def test_cells_of_a_single_task_stand_apart(run: Path) -> None:
    results = read_results(run)
    assert [cell.title for cell in results.own] == ["es: Primary adapter, seed 0", "es: Primary adapter, seed 1"]
    assert all(cell.scores["retrieval"] == pytest.approx(700 / 9) for cell in results.own)
    assert "alone" not in results.titles
    for path in (run / "cells").glob("*.json"):
        if not path.name.startswith("es--"):
            path.unlink()
    with pytest.raises(CaloraError, match="of single tasks alone"):
        read_results(run)


def test_a_control_on_a_single_task_stays_a_control(run: Path) -> None:
    for path in (run / "cells").glob("es--*.json"):
        cell = json.loads(path.read_text(encoding="utf-8"))
        path.write_text(json.dumps(cell | {"title": "control: one sentence"}), encoding="utf-8")
    titles = [cell.title for cell in read_results(run).own]
    assert titles == ["control: es: one sentence, seed 0", "control: es: one sentence, seed 1"]


def test_a_composition_of_secondary_tasks_alone_is_asked_once_a_record(run: Path) -> None:
    asked = recipe(compositions=[*COMPOSITIONS, "casual+fr"])
    (run / "recipe.json").write_text(asked.model_dump_json(), encoding="utf-8")
    place = Workplace(asked)
    examples = Case(place, BACKBONE, asked.parse("casual+fr"), 0).evaluation_examples("test")
    good = hits("multi-step", "summary+es", 0)
    for seed in SEEDS:
        write_answers(run, place, examples, answers(examples, good), ("multi-step", "Multi-step", "casual+fr", seed))
    results = read_results(run)
    assert results.compositions == (*COMPOSITIONS, "casual+fr")
    both = (results.entries["multi-step", name] for name in ("summary+es", "casual+fr"))
    of_one, of_other = (entry.scores["retrieval"][0] for entry in both)
    assert of_one.tolist() == of_other.tolist() == good.tolist()
    assert main_table(results).rows[0].overall.mean == pytest.approx(800 / 9)
    assert "casual+fr" in write_bench_page(results).read_text(encoding="utf-8")
    shown = browser_data(results)["compositions"][3]
    assert shown["references"] == [example.target for example in examples]


def test_masked_rouge_is_that_of_the_first_task(written: Path) -> None:
    results = read_results(written)
    for name, key in (("summary+es", "masked_rougeL"), ("reply+casual", "masked_weighted")):
        lines = predictions_path(written, "multi-step", name, 1).read_text(encoding="utf-8").splitlines()
        expected = [json.loads(line)["scores"][key] for line in lines]
        assert results.entries["multi-step", name].scores["masked_rouge"][1].tolist() == expected


def test_dialogues_are_in_one_order_whatever_the_order_of_the_lines(run: Path) -> None:
    change_predictions(predictions_path(run, "multi-step", "summary+es", 0), lambda rows: rows[::-1])
    entry = read_results(run).entries["multi-step", "summary+es"]
    assert np.array_equal(entry.scores["retrieval"][0], hits("multi-step", "summary+es", 0))
    assert tuple(row["id"] for row in entry.answers) == IDS


def test_a_line_separator_in_an_answer_does_not_break_the_line(run: Path) -> None:
    path = predictions_path(run, "multi-step", "summary+es", 0)
    change_predictions(path, lambda rows: [rows[0] | {"answer": "one\u2028two"}, *rows[1:]])
    assert read_results(run).entries["multi-step", "summary+es"].answers[0]["answer"] == "one\u2028two"


def test_a_judge_counts_where_every_prediction_has_it(run: Path) -> None:
    add_judge(run, "summary+es")
    path = predictions_path(run, "calibration", "summary+es", 1)
    change_predictions(path, lambda rows: [rows[0] | {"scores": {**rows[0]["scores"], "judge": 0}}, *rows[1:]])
    results = read_results(run)
    assert results.measures[-1] == "judge"
    assert results.having("calibration", "judge") == ["summary+es"]
    assert results.entries["calibration", "summary+es"].scores["judge"].sum() == 100 * (2 * DIALOGUES - 1)

    def without(rows: list[dict[str, dict[str, float]]]) -> list[dict[str, dict[str, float]]]:
        del rows[3]["scores"]["judge"]
        return rows

    change_predictions(path, without)
    assert read_results(run).having("calibration", "judge") == []


def test_what_a_language_model_said_counts_where_it_judged_these_answers(run: Path) -> None:
    cells = [cell_path(run, "calibration", "summary+es", seed) for seed in SEEDS]
    for cell in cells:
        add_llm_verdicts(cell, ["yes", "no", "unparsable"])
    results = read_results(run)
    assert results.measures[-1] == "llm_judge"
    assert results.having("calibration", "llm_judge") == ["summary+es"]
    said = results.entries["calibration", "summary+es"].scores["llm_judge"]
    assert np.array_equal(said, [[100.0 * (place % 3 == 0) for place in range(DIALOGUES)]] * len(SEEDS))

    predictions = predictions_path(run, "calibration", "summary+es", SEEDS[0])
    change_predictions(predictions, lambda rows: [rows[0] | {"answer": "another"}, *rows[1:]])
    assert read_results(run).having("calibration", "llm_judge") == []
    add_llm_verdicts(cells[0], ["yes", "failed"])
    assert read_results(run).having("calibration", "llm_judge") == []
    add_llm_verdicts(cells[0], ["yes"])
    assert read_results(run).having("calibration", "llm_judge") == ["summary+es"]


def test_verdicts_of_two_models_do_not_mix(run: Path) -> None:
    for seed, model in zip(SEEDS, ("one", "other"), strict=True):
        add_llm_verdicts(cell_path(run, "multi-step", "summary+es", seed), ["yes"], model)
    with pytest.raises(CaloraError, match="of several models: one, other"):
        read_results(run)
    add_llm_verdicts(cell_path(run, "multi-step", "summary+es", SEEDS[1]), ["yes"], "one")
    assert read_results(run).asked_model == "one"


def test_spaces_and_a_changed_title_are_the_recipes_matter(run: Path) -> None:
    changed = recipe().model_dump(mode="json")
    changed["compositions"] = [name.replace("+", " + ") for name in changed["compositions"]]
    next(row for row in changed["approaches"] if row["name"] == "multi-step")["title"] = "In turn"
    (run / "recipe.json").write_text(json.dumps(changed), encoding="utf-8")
    results = read_results(run)
    assert results.compositions == COMPOSITIONS
    assert results.titles["multi-step"] == "In turn"


def test_a_row_says_what_it_has_instead_of_the_published_settings(run: Path) -> None:
    changed = recipe().model_dump(mode="json")
    rows = {row["name"]: row for row in changed["approaches"]}
    rows["multi-step"]["title"] = "In turn"
    (run / "recipe.json").write_text(json.dumps(changed), encoding="utf-8")
    chosen = {"start": "product", "strength": 0.8}
    for label in ("linear (tuned)", "calibration", "multi-step"):
        for path in (run / "cells").glob(f"*--{slug(label)}--*"):
            cell = json.loads(path.read_text(encoding="utf-8"))
            path.write_text(json.dumps(cell | {"options": chosen}), encoding="utf-8")
    titles = read_results(run).titles
    assert titles["linear (tuned)"] == "Linear merge, tuned (start product, strength 0.8)"
    assert titles["calibration"] == "Learnable <Calibration> (start product, strength 0.8)"
    assert titles["multi-step"] == "In turn", "the recipe's own words say it"


def test_a_backbone_may_be_reached_by_another_path(run: Path) -> None:
    for path in (run / "cells").glob("*.json"):
        cell = json.loads(path.read_text(encoding="utf-8"))
        path.write_text(json.dumps(cell | {"backbone": "/elsewhere/tiny"}), encoding="utf-8")
    assert len(read_results(run).cells()) == 22


def test_cells_that_the_recipe_does_not_ask_for_are_left_out(run: Path) -> None:
    (run / "recipe.json").write_text(recipe(seeds=[0]).model_dump_json(), encoding="utf-8")
    results = read_results(run)
    assert len(results.left_out) == 12
    assert {cell.seed for cell in results.cells()} == {0}


def test_files_that_do_not_fit_are_named(run: Path) -> None:
    path = predictions_path(run, "multi-step", "summary+es", 0)
    whole = path.read_text(encoding="utf-8")

    def refused(match: str) -> None:
        with pytest.raises(CaloraError, match=match) as error:
            read_results(run)
        assert error.value.hint
        path.write_text(whole, encoding="utf-8")

    change_predictions(path, lambda rows: rows[1:])
    refused(rf"multi-step--tiny--0.jsonl has other dialogues .*: {IDS[0]}")
    change_predictions(path, lambda rows: [*rows, rows[0]])
    refused(rf"0.jsonl:10: {IDS[0]} comes twice")
    change_predictions(path, lambda rows: [{**rows[0], "answer": None}, *rows[1:]])
    refused(rf"0.jsonl:1: {IDS[0]} is no prediction")
    path.write_text(f"{whole}{{", encoding="utf-8")
    refused(r"0.jsonl:10 is no prediction")
    change_predictions(path, lambda rows: [{**rows[0], "scores": {**rows[0]["scores"], "retrieval": None}}, *rows[1:]])
    refused(r"0.jsonl: some scores of retrieval are no numbers")
    path.unlink()
    refused(r"0.jsonl cannot be read")

    cell = cell_path(run, "multi-step", "summary+es", 0)
    text = cell.read_text(encoding="utf-8")
    shutil.copy(cell, cell.with_name("copy.json"))
    refused(r"summary\+es--multi-step--tiny--0.json is the same cell as copy.json")
    cell.with_name("copy.json").unlink()
    cell.write_text(text.replace('"max_tokens": 96', '"max_tokens": 12'), encoding="utf-8")
    refused(r"tiny--0.json: max_tokens is 12, the recipe's is 96")


def test_a_folder_that_is_no_run_is_refused(run: Path, tmp_path: Path) -> None:
    with pytest.raises(CaloraError, match=r"recipe.json is missing"):
        read_results(tmp_path)
    shutil.rmtree(run / "cells")
    with pytest.raises(CaloraError, match="are none of its recipe's"):
        read_results(run)


def test_cells_of_several_makings_are_told(run: Path) -> None:
    assert read_results(run).mixed == ()
    for name, processor, sha256 in ((COMPOSITIONS[0], "this one", "aa"), (COMPOSITIONS[1], "another one", "bb")):
        path = cell_path(run, "multi-step", name, SEEDS[0])
        cell = json.loads(path.read_text(encoding="utf-8"))
        cell["provenance"] |= {"made_with": {"processor": processor}, "adapters": {"es seed 0": sha256}}
        path.write_text(json.dumps(cell), encoding="utf-8")
    made, trained = read_results(run).mixed
    assert "another one" in made and "this one" in made
    assert trained.startswith("the adapter es seed 0 of ") and trained.endswith(" was trained 2 times")
    assert trained in main_table(read_results(run)).caption
