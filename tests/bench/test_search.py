from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from calora.bench.search import Search, choose
from calora.bench.store import StepFailedError
from calora.errors import CaloraError
from calora.tasks import Composition

RATES = (1.0, 2.0, 3.0)


@pytest.fixture
def search(tmp_path: Path) -> Search:
    """Three candidates on two compositions; what is not looked at stands for itself."""
    row: Any = SimpleNamespace(label="some (tuned)", approach=SimpleNamespace(name="some"))
    cases = [SimpleNamespace(composition=Composition.parse(name)) for name in ("summary+es", "reply+de")]
    places: Any = [SimpleNamespace(case=case) for case in cases]
    return Search(row, [{"rate": rate} for rate in RATES], places, "key", tmp_path / "choice.json")


def scoring(fails: dict[float, Exception]) -> Callable[[Any, Any], Any]:
    """The higher the rate the better, but for those that fail on the second composition."""

    def answer(place: Any, options: Any) -> Any:
        if options["rate"] in fails and place.case.composition == Composition.parse("reply+de"):
            raise fails[options["rate"]]
        scores = {"retrieval": 10 * options["rate"], "masked_rougeL": 5.0, "masked_weighted": 3.0}
        return SimpleNamespace(scores=scores)

    return answer


def diverged(reason: Exception) -> StepFailedError:
    step: Any = SimpleNamespace(kind="adapter", name="es")
    return StepFailedError(step, reason)


def test_the_best_in_the_mean_is_chosen_and_all_are_written_down(search: Search) -> None:
    choice = choose(search, scoring({}))
    assert choice.options == {"rate": 3.0}
    assert [(trial.retrieval, trial.rouge) for trial in choice.tried] == [(10.0, 4.0), (20.0, 4.0), (30.0, 4.0)]
    assert search.found == choice


def test_a_candidate_that_fails_costs_only_itself(search: Search) -> None:
    choice = choose(search, scoring({3.0: diverged(CaloraError("some values are not finite"))}))
    assert choice.options == {"rate": 2.0}
    assert [trial.failed for trial in choice.tried] == [None, None, "adapter es: some values are not finite"]
    assert search.found == choice


def test_what_says_nothing_of_the_candidate_ends_the_search(search: Search) -> None:
    with pytest.raises(StepFailedError):
        choose(search, scoring({3.0: diverged(OSError("no space left"))}))
    assert not search.path.exists()


def test_where_every_candidate_fails_the_first_is_told(search: Search) -> None:
    with pytest.raises(CaloraError, match="the first: never finite"):
        choose(search, scoring(dict.fromkeys(RATES, CaloraError("never finite"))))
