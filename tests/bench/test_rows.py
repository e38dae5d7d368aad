from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from calora.approaches.registry import Plan, approach
from calora.bench.case import Case
from calora.bench.grid import Grid
from calora.errors import CaloraError
from calora.generation import Pass


def test_a_number_that_yaml_reads_as_text_is_a_number(grid: Callable[..., Grid]) -> None:
    one = grid(approaches=[{"name": "calibration", "options": {"rate": "1e-3"}}])
    assert one.rows[0].recipe.options == {"rate": 1e-3}


def test_two_cells_of_one_name_are_refused(grid: Callable[..., Grid]) -> None:
    twins = [{"name": "linear", "label": "a b"}, {"name": "linear", "label": "a-b"}]
    with pytest.raises(CaloraError, match="two cells would be called"):
        grid(approaches=twins)


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
