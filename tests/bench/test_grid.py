import json
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from calora.adapter import adapter_sha256
from calora.approaches.registry import Plan, approach
from calora.backbone import Backbone
from calora.bench import answering
from calora.bench.case import Case, Workplace
from calora.bench.grid import Grid
from calora.bench.progress import failures
from calora.bench.store import Store
from calora.bench.timing import Timing
from calora.errors import CaloraError, MachineError
from calora.generation import Pass, answer_all
from calora.tasks import Prompt
from tests.bench.helpers import TRAINING, lock_of, results


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:the text has:UserWarning")
def test_each_artefact_is_trained_once_and_what_is_there_is_not_made_again(
    grid: Callable[..., Grid], trained: list[str], tmp_path: Path
) -> None:
    first = grid()
    cells = first.go()
    assert not first.progress.failed
    assert len(cells) == 12
    assert sorted(trained) == sorted(set(trained))
    assert len([name for name in trained if name.startswith("adapter ")]) == 4
    by_label = {cell.approach: cell for cell in cells if cell.composition == "summary+es"}
    assert by_label["multi-step"].costs.passes == 2
    assert by_label["calibration"].costs.updates == by_label["joint-expert"].costs.updates == 1
    assert by_label["calibration"].costs.examples == 8
    measured = {label for label, cell in by_label.items() if cell.costs.times_bare and cell.costs.peak_mebibytes}
    assert measured == {label for label, cell in by_label.items() if cell.costs.passes}
    adapters = {path.name.rpartition("-")[0]: path for path in (tmp_path / "store/adapter").iterdir()}
    made_of = {f"{task} seed 0": adapter_sha256(adapters[f"{task}-seed-0"]) for task in ("summary", "es")}
    assert by_label["calibration"].provenance["adapters"] == by_label["linear"].provenance["adapters"] == made_of
    assert by_label["joint-expert"].provenance["adapters"] == by_label["zero-shot"].provenance["adapters"] == {}
    assert by_label["linear"].options == {"start": "product"}
    assert by_label["linear (tuned)"].options.keys() == {"start", "strength"}

    before = results(tmp_path / "run")
    trained.clear()
    again = grid(store="gone")  # cells whose settings are unchanged need no artefacts
    assert [cell.key for cell in again.go()] == [cell.key for cell in cells]
    assert trained == []
    assert results(tmp_path / "run") == before


def test_a_cell_that_another_process_makes_is_come_back_to(
    grid: Callable[..., Grid], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("calora.bench.grid.WAIT", 0.01)
    shared = grid(approaches=["constant", "neighbour"], compositions=["summary+es"], search=None)
    first = shared.places()[0]
    told: list[str] = []
    with ExitStack() as other:
        other.enter_context(Store(tmp_path / "store").alone(lock_of(tmp_path, first)))

        def follow(progress: Any) -> None:
            told.append(progress.now)
            if len(told) > 20 or "waiting" in progress.now:
                other.close()

        shared.follow = follow
        cells = shared.go()
    assert [cell.approach for cell in cells] == ["constant", "neighbour"]
    assert not shared.progress.failed
    made = [now for now in told if now]
    assert [now.split("--")[1:2] for now in made] == [["neighbour"], [], ["constant"]]
    assert made[1] == "waiting for another process"


def test_a_cell_that_another_process_made_meanwhile_is_not_made_again(
    grid: Callable[..., Grid], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, other = (grid(approaches=["constant"], compositions=["summary+es"], search=None) for _ in range(2))
    place = first.places()[0]
    plain = Store.alone

    def late(self: Store, key: str) -> Any:
        monkeypatch.setattr(Store, "alone", plain)
        other.cell(place)
        monkeypatch.setattr("calora.bench.grid.answer_cell", None)
        return plain(self, key)

    monkeypatch.setattr(Store, "alone", late)
    assert first.cell(place).approach == "constant"


def test_another_recipe_in_the_same_run_ends_the_first(grid: Callable[..., Grid], tmp_path: Path) -> None:
    first = grid(approaches=["constant", "neighbour"], compositions=["summary+es"], search=None)
    second = grid(approaches=["constant"], compositions=["summary+es"], search=None)
    told: list[str] = []

    def follow(progress: Any) -> None:
        told.append(progress.now)
        if len(told) == 2:  # behind its first cell
            second.go()

    first.follow = follow
    with pytest.raises(CaloraError, match=r"another process works in .* with another recipe"):
        first.go()
    assert not list((tmp_path / "run/cells").glob("*neighbour*"))


def test_a_single_task_comes_before_the_first_composition_with_it(grid: Callable[..., Grid]) -> None:
    approaches = ["constant", {"name": "zero-shot", "compositions": ["casual", "reply", "es", "fr"]}]
    places = grid(approaches=approaches, search=None).places()
    order = list(dict.fromkeys(str(place.case.composition) for place in places))
    assert order == ["es", "summary+es", "casual", "reply", "reply+casual", "fr"]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:the text has:UserWarning")
def test_a_cell_of_other_settings_is_gone_before_anything_else_is_made(
    grid: Callable[..., Grid], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = [{"name": "zero-shot"}, {"name": "calibration"}]
    grid(approaches=wanted, compositions=["summary+es"]).go()
    cells = tmp_path / "run/cells"
    kept, stale = (next(cells.glob(f"summary+es--{name}--*")) for name in ("zero-shot", "calibration"))
    before = kept.read_bytes()

    def killed(self: Grid, place: Any, *arguments: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Grid, "cell", killed)
    other = TRAINING | {"learning_rate": 2e-3}
    with (
        pytest.raises(KeyboardInterrupt),
        pytest.warns(UserWarning, match=r"1 cell of .*run had been made on other terms: moved to stale/"),
    ):
        grid(approaches=wanted, compositions=["summary+es"], calibration=other).go()
    assert not stale.exists()
    assert (tmp_path / "run/stale/cells" / stale.name).exists()
    assert (tmp_path / "run/stale/predictions" / f"{stale.stem}.jsonl").exists()
    assert not (tmp_path / "run/predictions" / f"{stale.stem}.jsonl").exists()
    assert kept.read_bytes() == before


@pytest.mark.filterwarnings("ignore:the text has:UserWarning")
def test_a_tuned_cell_of_other_settings_is_gone_though_nothing_is_chosen_yet(
    grid: Callable[..., Grid], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = [{"name": "zero-shot", "settings": ["tuned"]}]
    grid(approaches=wanted, compositions=["summary+es"]).go()
    (cell,) = (tmp_path / "run/cells").glob("*.json")

    def killed(self: Grid, place: Any, *arguments: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Grid, "cell", killed)
    search = {"compositions": ["summary+es", "reply+casual"]}
    with pytest.raises(KeyboardInterrupt):
        grid(approaches=wanted, compositions=["summary+es"], search=search).go()
    assert cell.exists()  # its own settings are what they were
    with pytest.raises(KeyboardInterrupt), pytest.warns(UserWarning, match=r"1 cell of .* other terms"):
        grid(approaches=wanted, compositions=["summary+es"], max_tokens=5).go()
    assert not cell.exists()


@pytest.mark.filterwarnings("ignore:the text has:UserWarning")
def test_another_engines_cell_has_no_costs_of_torch(
    grid: Callable[..., Grid], llama: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Engine:
        def answer_all(self, *given: Any, **more: Any) -> Any:
            return answer_all(llama, *given, **more)

    monkeypatch.setattr(Workplace, "vllm", lambda self, name: Engine())
    asked = {"approaches": ["primary-adapter"], "compositions": ["summary+es"]}
    costs = {engine: grid(run=engine, engine=engine, **asked).go()[0].costs for engine in ("torch", "vllm")}
    assert costs["torch"].times_bare is not None
    assert (costs["vllm"].times_bare, costs["vllm"].peak_mebibytes) == (None, None)
    assert costs["vllm"].tokens == costs["torch"].tokens


@pytest.mark.filterwarnings("ignore:the text has:UserWarning")
def test_a_cell_of_other_settings_is_set_aside_before_it_is_answered_again(
    grid: Callable[..., Grid], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = {"approaches": ["zero-shot"], "compositions": ["summary+es"]}
    grid(**asked).go()
    (cell,) = (tmp_path / "run/cells").glob("*.json")
    before = cell.read_text()

    def full(*given: Any, **more: Any) -> None:
        raise MachineError("the disk is full")

    monkeypatch.setattr("calora.bench.grid.answer_cell", full)
    other = grid(**asked, max_tokens=5)
    (tmp_path / "run/recipe.json").write_text(other.recipe.model_dump_json(indent=2) + "\n", encoding="utf-8")
    with pytest.raises(MachineError):
        other.cell(other.places()[0])
    assert not cell.exists()
    assert (tmp_path / "run/stale/cells" / cell.name).read_text() == before
    assert (tmp_path / "run/stale/predictions" / f"{cell.stem}.jsonl").exists()


def test_the_time_left_is_told_from_what_earlier_runs_took(grid: Callable[..., Grid], tmp_path: Path) -> None:
    record = {"kind": "adapter", "name": "any", "seconds": 50.0}
    (tmp_path / "store/records").mkdir(parents=True)
    (tmp_path / "store/records/any.json").write_text(json.dumps(record))
    begun = grid(approaches=["calibration"], compositions=["summary+es"])
    begun._estimate(begun.places())
    assert begun.progress.left == 200  # two adapters, and as long for a calibration and a cell
    begun._there = {"one that is there": 10.0}
    begun._estimate(begun.places())
    assert begun.progress.left == 100 + 30 + 10  # a calibration for the mean of both


def test_what_cannot_be_read_is_made_again_and_what_is_there_is_not_counted(
    grid: Callable[..., Grid], tmp_path: Path
) -> None:
    asked = {"approaches": ["constant", "neighbour"], "compositions": ["summary+es"], "search": None}
    grid(**asked).go()
    damaged, whole = sorted((tmp_path / "run/cells").glob("*.json"))
    before = damaged.read_text(encoding="utf-8")
    damaged.write_text("", encoding="utf-8")
    again = grid(**asked)
    with pytest.warns(UserWarning, match=r"1 cell of .* or cannot be read"):
        assert len(again.go()) == 2
    assert not again.progress.failed
    assert json.loads(damaged.read_text(encoding="utf-8"))["key"] == json.loads(before)["key"]
    assert set(again._there) == {whole.stem}


def test_a_split_that_has_nothing_to_learn_from_is_told_first(grid: Callable[..., Grid], tmp_path: Path) -> None:
    texts = [
        {
            "id": f"{split}-{number}",
            "split": split,
            "text": f"Ann: Number {number} of {split}.",
            "names": ["Ann"],
            "targets": {
                "summary": {"en": f"Ann tells of {number}."} | ({} if split == "validation" else {"es": "Ana."})
            },
        }
        for split in ("train", "validation", "test")
        for number in range(4)
    ]
    path = tmp_path / "records.jsonl"
    path.write_text("".join(json.dumps(text) + "\n" for text in texts), encoding="utf-8")
    asked = {"data": {"records": [str(path)]}, "compositions": ["summary+es"], "search": None}
    grid(**asked, approaches=["constant"]).prepare()
    with pytest.warns(UserWarning, match="no validation record of `data` has a reference for") as told:
        grid(**asked, approaches=["calibration", "calibration-taught", "adamerging"]).prepare()
    assert [str(one.message) for one in told] == [
        "no validation record of `data` has a reference for es: calibration, calibration-taught, adamerging will fail",
        "no validation record of `data` has a reference for summary+es: calibration will fail",
    ]
    searched = {"search": {"compositions": ["reply+de"]}, "approaches": [{"name": "linear", "settings": ["tuned"]}]}
    with pytest.warns(UserWarning, match="has a reference for") as told:
        grid(**(asked | searched)).prepare()
    assert any(
        "no train record of `data` has a reference for reply: linear (tuned)" in str(one.message) for one in told
    )


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:the text has:UserWarning", "ignore:2 cells of:UserWarning")
def test_a_changed_setting_redoes_that_step_and_what_hangs_on_it(grid: Callable[..., Grid], trained: list[str]) -> None:
    wanted = [{"name": "multi-step"}, {"name": "calibration"}]
    old = {(c.approach, c.composition): c.key for c in grid(approaches=wanted).go()}
    trained.clear()
    new = {
        (c.approach, c.composition): c.key
        for c in grid(approaches=wanted, calibration={"learning_rate": 2e-3, "epochs": 1}).go()
    }
    assert {name for name in old if old[name] != new[name]} == {
        ("calibration", "summary+es"),
        ("calibration", "reply+casual"),
    }
    assert sorted(trained) == [
        "calibration reply+casual column-bias seed 0",
        "calibration summary+es column-bias seed 0",
    ]


@pytest.mark.filterwarnings("ignore:the text has:UserWarning")
def test_a_step_that_fails_costs_only_what_needs_it(
    grid: Callable[..., Grid], monkeypatch: pytest.MonkeyPatch, trained: list[str]
) -> None:
    from calora.training import adapter as module

    def broken(backbone: Backbone, composition: Any, *args: Any, **extra: Any) -> Any:
        raise RuntimeError(f"no {composition} today")

    monkeypatch.setattr(module, "train_adapter", broken)
    one = grid(approaches=[{"name": "zero-shot"}, {"name": "multi-step"}, {"name": "linear"}])
    cells = one.go()
    assert [cell.approach for cell in cells] == ["zero-shot", "zero-shot"]
    assert sorted(failures(one.progress)) == [
        ("adapter reply seed 0", "no reply today", 2),
        ("adapter summary seed 0", "no summary today", 2),
    ]


@pytest.mark.filterwarnings("ignore:the text has:UserWarning")
def test_a_cell_is_answered_as_its_plan_says(grid: Callable[..., Grid], monkeypatch: pytest.MonkeyPatch) -> None:
    from calora.approaches import registry

    monkeypatch.setattr(registry, "_REGISTRY", dict(registry.approaches()))

    @approach("odd", "Odd")
    def odd(case: Case) -> Plan:
        passes = [Pass(None, Prompt("Say:\n", "\n", ""))] * 2
        return Plan(lambda *given: passes, texts=lambda examples: ["Ann: Other."] * len(examples), shared_by=3)

    read: list[Any] = []
    timed: list[Any] = []
    plain = answering.answer_all

    def answer(backbone: Any, passes: Any, texts: Any, **more: Any) -> Any:
        read.append(list(texts))
        return plain(backbone, passes, texts, **more)

    def time(backbone: Any, one: Any, several: Any, *given: Any, **more: Any) -> Timing:
        timed.append((len(one), len(several)))
        return Timing(tokens=1, texts=1, one=[6.0], several=[2.0])

    monkeypatch.setattr(answering, "answer_all", answer)
    monkeypatch.setattr(answering, "time_passes", time)
    (cell,) = grid(approaches=["odd"], compositions=["summary+es"]).go()
    assert read[-1] == ["Ann: Other."] * 3
    assert timed == [(2, 1)]
    assert (cell.costs.times_bare, cell.costs.shared_by, cell.costs.passes) == (3.0, 3, 2)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:the text has:UserWarning")
def test_nothing_that_is_made_reads_what_is_tested_on(
    grid: Callable[..., Grid], monkeypatch: pytest.MonkeyPatch
) -> None:
    making: list[str] = []
    read: list[tuple[str, str]] = []
    make, records = Store._make, Workplace.records

    def made(self: Store, step: Any, parents: Any) -> None:
        making.append(step.kind)
        make(self, step, parents)
        making.pop()

    def asked(self: Workplace, split: Any) -> Any:
        read.extend((kind, split) for kind in making)
        return records(self, split)

    monkeypatch.setattr(Store, "_make", made)
    monkeypatch.setattr(Workplace, "records", asked)
    searched = {"name": "linear-searched", "options": {"strengths": {"product": [1.0]}, "finalists": 1}}
    one = grid(approaches=[searched, "calibration"], compositions=["summary+es"], search=None)
    one.go()
    assert not one.progress.failed
    assert {kind for kind, _ in read} == {"adapter", "merge-search", "calibration"}
    assert {split for _, split in read} == {"train", "validation"}


def test_another_approach_or_version_of_it_is_another_cell(grid: Callable[..., Grid]) -> None:
    one = grid(approaches=["zero-shot"], compositions=["summary+es"])
    (place,) = one.places()
    row = place.row
    others = (row.approach, replace(row.approach, version=2), replace(row.approach, name="other"))
    keys = {one.planned(replace(place, row=replace(row, approach=other)), "test", {})[2] for other in others}
    assert len(keys) == 3
