"""What a user can get wrong: a message with a hint, exit code 2, and nothing left behind."""

import json
import os
from pathlib import Path

import pytest

from calora.adapter import write_adapter
from calora.approaches.registry import approaches
from calora.backbone import Backbone
from calora.cli import options
from calora.tasks import Composition
from tests.cli.conftest import Run
from tests.conftest import random_adapter, write_fresh_calibration

WRONG_OPTION = Path(__file__).parent / "data" / "wrong-option.yaml"


@pytest.fixture
def pair(llama: Backbone, tmp_path: Path) -> tuple[Path, Path]:
    """Two adapters of the tiny Llama, on disk."""
    folders = tmp_path / "summary", tmp_path / "es"
    for seed, folder in enumerate(folders):
        adapter = random_adapter(llama, seed, name=folder.name)
        assert adapter.card
        write_adapter(adapter.with_card(adapter.card.model_copy(update={"backbone": llama.name})), folder)
    return folders


def lines(path: Path, *rows: object) -> Path:
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("arguments", "wrong", "hint"),
    [
        (["train", "es+summary", "out"], "wrong order", "summary+es"),
        (["train", "summary+summary", "out"], "two tasks of one kind", "at most one"),
        (["train", "poem", "out"], "unknown task 'poem'", "summary"),
        (["demo", "--backbone", "nowhere/at-all"], "nowhere/at-all", "embedded names"),
        (["demo", "--composition", "summary"], "summary is no composition", "summary+es"),
        (["demo", "--composition", "reply+professional+es"], "has no reply reference", "reply references"),
        (["calibrate", "summary+es", "one", "--out", "out"], "has 2 tasks, 1 adapters were given", "in order"),
        (["demo", "--quick", "--full"], "exclude each other", "one of them"),
        (["train", "summary", ".", "--force"], "cannot write .: it has no name of its own", "name the folder"),
        (["sizes"], "no architecture", "--paper"),
        (["sizes", "absent.json"], "absent.json", "config.json"),
        (["evaluate", "summary", "--rouge", "mine"], "unknown ROUGE tokenizer", "paper"),
        (["evaluate", "summary", "--split", "all"], "unknown split", "test"),
        (["run", "nothing-here", os.devnull], "the text is empty", "dialogue"),
        (["compare", "nothing-here"], "nothing-here", ""),
        (["bench"], "no recipe is given", "--list"),
        (["bench", "nothing-here.yaml"], "recipe nothing-here.yaml cannot be read", "recipes/"),
        (["bench", str(WRONG_OPTION)], "option rank = 'lots'", "docstring"),
        (["judge", "nothing-here"], "recipe.json is missing", "Recipe"),
        (["judge", str(WRONG_OPTION)], "cannot be read", "Recipe"),
        (["judge", "nothing-here", "--llm", "http://127.0.0.1:9/v1"], "needs the name of a model", "--model"),
        (["report", "nothing-here"], "recipe.json is missing", "Recipe"),
        (["merge", "nothing-here", "--out", "out"], "adapter_config.json is missing", "expected a folder"),
        (["inspect", "nothing-here", "--preset", "mergekit"], "--preset mergekit needs a --method", "karcher"),
        (["verify", "a.gguf", "--adapter", "es"], "--adapter would be ignored", "leave out"),
    ],
)
def test_a_wrong_request_is_told(calora: Run, tmp_path: Path, arguments: list[str], wrong: str, hint: str) -> None:
    code, _, err = calora(*arguments)
    assert code == 2
    assert wrong in err
    assert "hint:" in err
    assert hint in err
    assert "Traceback" not in err
    assert list(tmp_path.iterdir()) == []


def test_a_line_of_data_that_does_not_parse_is_named(calora: Run, tmp_path: Path) -> None:
    data = lines(tmp_path / "my.jsonl", {"text": "a", "target": "b"}, '{"text": "half')
    code, _, err = calora("train", "summary", "out", "--data", data)
    assert code == 2
    assert "my.jsonl:2" in err
    assert not (tmp_path / "out").exists()


def test_few_examples_to_choose_an_epoch_by_are_told(tmp_path: Path) -> None:
    rows = [{"text": f"a {n}", "target": "b"} for n in range(60)]
    few, many = lines(tmp_path / "few.jsonl", *rows[:14]), lines(tmp_path / "many.jsonl", *rows)
    with pytest.warns(UserWarning, match="1 of 14 examples is held out"):
        options.training_examples(Composition.parse("summary"), few, 0)
    train, validation = options.training_examples(Composition.parse("summary"), many, 0)
    assert (len(train(0)), len(validation(0))) == (54, 6)


def test_every_approach_is_listed_with_its_options(calora: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    code, out, _ = calora("bench", "--list")
    assert code == 0
    assert all(name in out for name in approaches())
    assert "density=0.2, strength=None" in out and "learnt_on, kind=column-bias" in out


def test_another_rank_in_a_factors_merge_is_refused(calora: Run, llama: Backbone, pair: tuple[Path, Path]) -> None:
    write_adapter(random_adapter(llama, 5, rank=2, name="es"), pair[1])
    code, _, err = calora("merge", *pair, "--out", "merged")
    assert code == 2
    assert "one rank" in err
    assert "product" in err
    assert not Path("merged").exists()


def test_a_damaged_adapter_is_refused(calora: Run, pair: tuple[Path, Path]) -> None:
    tensors = pair[0] / "adapter_model.safetensors"
    tensors.write_bytes(tensors.read_bytes()[:-100])
    code, _, err = calora("merge", *pair, "--out", "merged")
    assert code == 2
    assert "not a whole safetensors file" in err


def test_a_place_that_is_taken_is_kept(calora: Run, pair: tuple[Path, Path]) -> None:
    code, _, err = calora("merge", *pair, "--out", pair[0])
    assert code == 2
    assert "--force" in err


def test_a_place_that_cannot_be_written_is_told(calora: Run, tmp_path: Path, pair: tuple[Path, Path]) -> None:
    (tmp_path / "file").write_text("not a folder")
    code, _, err = calora("merge", *pair, "--out", tmp_path / "file" / "merged")
    assert code == 2
    assert "cannot write" in err


def test_an_adapter_of_another_backbone_is_refused(
    calora: Run, backbones: dict[str, Backbone], pair: tuple[Path, Path], tmp_path: Path
) -> None:
    text = tmp_path / "text.txt"
    text.write_text("Ann: hello\nBob: hello")
    code, _, err = calora("run", pair[0], text, "--backbone", backbones["gemma3"].name, "--composition", "summary")
    assert code == 2
    assert "use the backbone the adapter was trained on" in err


def test_merge_and_run_answer_a_text(calora: Run, pair: tuple[Path, Path], tmp_path: Path) -> None:
    code, _, _ = calora("merge", *pair, "--out", "merged", "--method", "product", "--composition", "summary+es")
    assert code == 0
    text = tmp_path / "text.txt"
    text.write_text("Ann: hello\nBob: hello")
    code, out, _ = calora("run", "merged", text, "--max-tokens", 4)
    assert code == 0
    assert out.endswith("\n")


def test_a_calibration_whose_parent_changed_is_stale(
    calora: Run, llama: Backbone, pair: tuple[Path, Path], tmp_path: Path
) -> None:
    write_fresh_calibration({folder.name: folder for folder in pair}, tmp_path / "both", backbone=llama.name)
    text = tmp_path / "text.txt"
    text.write_text("Ann: hello\nBob: hello")
    asked = ["run", "both", text, "--composition", "summary+es", "--max-tokens", 2]
    parents = [option for folder in pair for option in ("--adapter", folder)]
    assert calora(*asked, *parents)[0] == 0
    code, _, err = calora(*asked)
    assert code == 2
    assert "--adapter" in err
    write_adapter(random_adapter(llama, 9, name="es"), pair[1])
    code, _, err = calora(*asked, *parents)
    assert code == 2
    assert "calibrate again" in err


def test_parents_in_another_order_than_the_tasks_are_not_calibrated(calora: Run, pair: tuple[Path, Path]) -> None:
    code, _, err = calora("calibrate", "summary+es", *reversed(pair), "--out", "both")
    assert code == 2
    assert "both is for summary+es and has es, summary as its parents" in err
    assert "in the order of the tasks" in err
    assert not Path("both").exists()


@pytest.mark.parametrize("fold", ["both", "both/lora", "."])
def test_a_calibration_and_its_fold_are_two_folders(calora: Run, pair: tuple[Path, Path], fold: str) -> None:
    code, _, err = calora("calibrate", "summary+es", *pair, "--out", "both", "--fold", fold)
    assert code == 2
    assert "lie in each other" in err or "no name of its own" in err
    assert not Path("both").exists()


def test_a_backbone_that_an_adapter_names_and_is_not_here_can_be_named(calora: Run, llama: Backbone) -> None:
    adapter = random_adapter(llama, 0, name="summary")
    assert adapter.card
    write_adapter(adapter.with_card(adapter.card.model_copy(update={"backbone": "gone/model.gguf"})), "summary")
    Path("text.txt").write_text("Ann: Hi.", encoding="utf-8")
    for asked in (["run", "summary", "text.txt"], ["evaluate", "summary", "summary"]):
        code, _, err = calora(*asked)
        assert code == 2
        assert "gone/model.gguf does not exist" in err
        assert "made for gone/model.gguf: name the backbone with --backbone" in err
    code, _, err = calora("run", "summary", "text.txt", "--backbone", "gone/other.gguf")
    assert "--backbone" not in err


def test_an_adapter_of_another_task_is_told_before_it_is_calibrated(
    calora: Run, pair: tuple[Path, Path], tmp_path: Path
) -> None:
    data = lines(tmp_path / "my.jsonl", {"text": "a", "target": "b"})
    _, _, err = calora("calibrate", "summary+fr", *pair, "--out", "both", "--data", data)
    assert f"warning: {pair[1]} is for es, and is asked for fr" in err


def test_sizes_of_the_paper(calora: Run) -> None:
    code, out, _ = calora("sizes", "--paper")
    assert code == 0
    for figure in ("22,699", "166,229", "29,917,184", "0.08", "0.56"):
        assert figure in out


def test_strengths_that_are_no_numbers_are_refused(calora: Run, pair: tuple[Path, Path]) -> None:
    code, _, err = calora("merge", *pair, "--out", "merged", "--strengths", "1,much")
    assert code == 2
    assert "1,much" in err
