import json
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from calora.adapter import adapter_sha256
from calora.approaches.registry import Plan, approach, approaches
from calora.approaches.shared import group_of
from calora.backbone import Backbone
from calora.bench.case import Case, Workplace
from calora.bench.grid import Grid
from calora.bench.progress import failures
from calora.bench.recipe import Recipe
from calora.bench.store import Store
from calora.errors import CaloraError
from calora.generation import Pass
from calora.storage import fingerprint

APPROACHES = [
    {"name": "zero-shot"},
    {"name": "multi-step"},
    {"name": "linear", "settings": ["paper", "tuned"], "options": {"start": "product"}},
    {"name": "calibration"},
    {"name": "joint-expert", "options": {"rank": 2}},
]
TRAINING = {"learning_rate": 1e-3, "epochs": 1}


def small(backbone: Backbone, **changes: Any) -> Recipe:
    values = {
        "backbones": [backbone.name],
        "compositions": ["summary+es", "reply+casual"],
        "approaches": APPROACHES,
        "adapter": TRAINING,
        "calibration": TRAINING,
        "search": {"compositions": ["summary+es"]},
        "data": {"train": 8, "validation": 3, "test": 3},
        "max_tokens": 4,
    }
    return Recipe.model_validate(values | changes)


@pytest.fixture
def grid(llama: Backbone, tmp_path: Path) -> Callable[..., Grid]:
    """A grid of a small recipe in a folder of its own; the backbone is not loaded again."""

    def build(run: str = "run", store: str = "store", **changes: Any) -> Grid:
        recipe = small(llama, **changes)
        return Grid(recipe, tmp_path / run, Store(tmp_path / store), place=Workplace(recipe, lambda name: llama))

    return build


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is trained from here on."""
    names: list[str] = []
    plain = Store._make

    def make(self: Store, step: Any, parents: Any) -> None:
        names.append(f"{step.kind} {step.name}")
        plain(self, step, parents)

    monkeypatch.setattr(Store, "_make", make)
    return names


def lock_of(folder: Path, place: Any) -> str:
    """The lock of a place's cell in `run`."""
    return fingerprint(str((folder / f"run/cells/{place.name}.json").resolve()))


def results(run: Path) -> dict[str, Any]:
    """Every file of a run's results, times and memory aside."""
    found: dict[str, Any] = {}
    for path in sorted(run.rglob("*.json*")):
        text = path.read_text(encoding="utf-8")
        if path.parent.name == "cells":
            cell = json.loads(text)
            for measured in ("seconds", "times_bare", "peak_mebibytes"):
                del cell["costs"][measured]
            text = json.dumps(cell)
        found[str(path.relative_to(run))] = text
    return found


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
    with pytest.raises(KeyboardInterrupt):
        grid(approaches=wanted, compositions=["summary+es"], calibration=other).go()
    assert not stale.exists()
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
    with pytest.raises(KeyboardInterrupt):
        grid(approaches=wanted, compositions=["summary+es"], max_tokens=5).go()
    assert not cell.exists()


def test_the_time_left_is_told_from_what_earlier_runs_took(grid: Callable[..., Grid], tmp_path: Path) -> None:
    record = {"kind": "adapter", "name": "any", "seconds": 50.0}
    (tmp_path / "store/records").mkdir(parents=True)
    (tmp_path / "store/records/any.json").write_text(json.dumps(record))
    begun = grid(approaches=["calibration"], compositions=["summary+es"])
    begun._estimate(begun.places())
    assert begun.progress.left == 200  # two adapters, and as long for a calibration and a cell


def test_a_group_has_what_there_are_references_for(llama: Backbone) -> None:
    tasks = {
        "title": {"role": "primary", "instruction": "Find a title.", "then": "find a title.", "label": "title"},
        "it": {"role": "language", "instruction": "Translate it.", "then": "translate it.", "label": "Italian"},
    }
    place = Workplace(small(llama, tasks=tasks), lambda name: llama)
    case = Case(place, llama.name, place.recipe.parse("summary+es"), 0)
    assert [str(one) for one in group_of(case, "role")] == ["summary+es", "summary+fr", "summary+de"]
    assert len(group_of(case, "all")) == 14


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:the text has:UserWarning")
def test_every_approach_answers_two_tasks_and_nearly_all_three(grid: Callable[..., Grid]) -> None:
    names = list(approaches())
    options = {
        "lorahub": {"budget": 3},
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
    missing = {(name, "summary+casual+fr") for name in ("calibration-shared", "slerp")}
    assert {(cell.approach, cell.composition) for cell in cells} == {
        (name, composition) for name in names for composition in ("summary+casual", "summary+casual+fr")
    } - missing
    assert sorted(str(error) for _, error in one.progress.failed) == [
        "SLERP is between two adapters, not 3",
        "summary+casual+fr is not of a primary and one secondary task",
    ]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:the text has:UserWarning")
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


def test_a_number_that_yaml_reads_as_text_is_a_number(grid: Callable[..., Grid]) -> None:
    one = grid(approaches=[{"name": "calibration", "options": {"rate": "1e-3"}}])
    assert one.rows[0].recipe.options == {"rate": 1e-3}


def test_two_cells_of_one_name_are_refused(grid: Callable[..., Grid]) -> None:
    twins = [{"name": "linear", "label": "a b"}, {"name": "linear", "label": "a-b"}]
    with pytest.raises(CaloraError, match="two cells would be called"):
        grid(approaches=twins)


def test_leaving_out_the_only_domain_is_told(llama: Backbone) -> None:
    recipe = small(llama)
    place = Workplace(recipe)
    (domain,) = {record.domain for record in place.records("validation")}
    case = Case(place, llama.name, recipe.parse("summary+es"), 0, without=domain)
    with pytest.raises(CaloraError, match=f"without {domain} no validation dialogue is left"):
        case.training_examples("validation")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"approaches": ["telepathy"]}, "unknown approach 'telepathy'"),
        ({"approaches": [{"name": "linear", "options": {"force": 2}}]}, "approach linear has no option force"),
        (
            {"approaches": [{"name": "linear", "options": {"strength": "lots"}}]},
            "approach linear: option strength = 'lots': Input should be a valid number",
        ),
        ({"approaches": [{"name": "linear", "options": {"start": "middle"}}]}, "option start = 'middle'"),
        ({"approaches": ["calibration-without"]}, "approach calibration-without needs the option domain"),
        ({"approaches": [{"name": "multi-step", "settings": ["tuned"]}]}, "multi-step has nothing to search"),
        ({"search": {"compositions": ["summary+es"], "budget": 1}}, "would try 2 candidates, the budget is 1"),
    ],
)
def test_what_a_grid_cannot_do_is_said_before_any_work(
    grid: Callable[..., Grid], changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(CaloraError) as caught:
        grid(**changes)
    assert message in str(caught.value)


@pytest.mark.filterwarnings("ignore:the text has:UserWarning")
def test_another_package_adds_an_approach(grid: Callable[..., Grid], monkeypatch: pytest.MonkeyPatch) -> None:
    from calora.approaches import registry

    def load() -> None:
        @approach("parrot", "Parrot")
        def parrot(case: Case) -> Plan:
            return Plan(lambda backbone, values: [Pass(None, backbone.prompt(case.composition))])

    entries = [SimpleNamespace(name="parrot", load=load)]
    monkeypatch.setattr(registry, "_REGISTRY", dict(registry.approaches()))
    monkeypatch.setattr(registry, "entry_points", lambda group: entries if group == "calora.approaches" else [])
    registry._load.cache_clear()
    cells = grid(approaches=["parrot"], compositions=["summary+es"]).go()
    registry._load.cache_clear()
    assert [cell.title for cell in cells] == ["Parrot"]


@pytest.mark.filterwarnings("ignore:the text has:UserWarning")
def test_the_approach_in_the_readme_answers(grid: Callable[..., Grid], monkeypatch: pytest.MonkeyPatch) -> None:
    from calora.approaches import registry

    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    (code,) = [block.partition("```")[0] for block in readme.split("```python\n") if "@approach" in block]
    monkeypatch.setattr(registry, "_REGISTRY", dict(registry.approaches()))
    exec(code, {"__name__": "readme"})
    halves = {"name": "halves", "options": {"strength": 0.4}}
    (cell,) = grid(approaches=[halves], compositions=["summary+es"]).go()
    assert (cell.title, cell.options) == ("Half of each adapter", {"strength": 0.4})
