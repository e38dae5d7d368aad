import errno
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from calora.bench.cells import read_cell
from calora.bench.grid import Grid
from calora.bench.search import Search, choose, search_of
from calora.bench.store import StepFailedError
from calora.errors import CaloraError, FolderError
from calora.storage import writing_folder
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


def full_disk(path: Path) -> CaloraError:
    """What calora's own writers raise there."""
    with pytest.raises(CaloraError, match="the disk is full") as caught, writing_folder(path):
        raise OSError(errno.ENOSPC, "no space left")
    return caught.value


@pytest.mark.parametrize("in_a_step", [True, False])
def test_what_says_nothing_of_the_candidate_ends_the_search(search: Search, in_a_step: bool) -> None:
    damaged = search.path.with_name("cell.json")
    damaged.write_text("", encoding="utf-8")
    with pytest.raises(FolderError, match="Invalid JSON") as unread:
        read_cell(damaged)
    for reason in (full_disk(search.path.with_name("x")), OSError("no space left"), unread.value):
        error = diverged(reason) if in_a_step else reason
        with pytest.raises(type(error)):
            choose(search, scoring({3.0: error}))
        assert not search.path.exists()


def test_equal_shares_of_dialogues_are_a_tie_whatever_their_rounding(search: Search) -> None:
    """19 and 24 of 36 are 43 of 72, as 21 and 22 are; the mean of the rounded shares is not the same."""
    shares = {1.0: (21, 22), 2.0: (19, 24), 3.0: (0, 0)}

    def answer(place: Any, options: Any) -> Any:
        found = shares[options["rate"]][place.case.composition == Composition.parse("reply+de")]
        rouge = 9.0 if options["rate"] == 1.0 else 5.0
        scores = {"retrieval": round(100 * found / 36, 4), "masked_rougeL": rouge, "masked_weighted": rouge}
        return SimpleNamespace(scores=scores)

    choice = choose(search, answer)
    assert choice.tried[1].retrieval > choice.tried[0].retrieval
    assert choice.options == {"rate": 1.0}


def test_where_every_candidate_fails_the_first_is_told(search: Search) -> None:
    with pytest.raises(CaloraError, match="the first: never finite"):
        choose(search, scoring(dict.fromkeys(RATES, CaloraError("never finite"))))


def test_a_search_hangs_on_the_cells_of_its_candidates(grid: Callable[..., Grid]) -> None:
    one = grid()
    row = next(row for row in one.rows if row.setting == "tuned")
    keys = {
        search_of(one.workplace, one.run, row, one.recipe.backbones[0], lambda *given, word=word: word).key
        for word in "ab"
    }
    assert len(keys) == 2
