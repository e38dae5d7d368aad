from collections.abc import Callable
from typing import Any

import pytest

from calora.adapter import Adapter
from calora.approaches.learnt_merges import cocktail, lora_hub
from calora.approaches.tuned_merge import candidates, choose_merge, search_step
from calora.bench.case import Case
from calora.merging import Merge
from tests.merging.helpers import assert_same, several


def test_the_best_of_each_start_by_loss_answer_and_the_best_answers_win(monkeypatch: pytest.MonkeyPatch) -> None:
    grid: Any = {"product": (0.6, 0.8, 1.0), "factors": (0.5, 0.7, 0.9)}
    adapters = several(0, 1)
    losses, percents = iter([3.0, 1.0, 2.0, 6.0, 5.0, 4.0]), iter([10.0, 20.0, 20.0, 5.0])
    asked: list[Adapter] = []
    steps: list[None] = []

    def judge(adapter: Adapter) -> float:
        asked.append(adapter)
        return next(percents)

    monkeypatch.setattr("calora.training.mean_loss.mean_loss", lambda *given: next(losses))
    nothing: Any = None
    chosen, tried = choose_merge(
        nothing, adapters, nothing, judge, grid, finalists=2, follow=lambda: steps.append(None)
    )
    wanted = [("product", 0.8), ("product", 1.0), ("factors", 0.9), ("factors", 0.7)]
    finalists = [Merge(start=start, strengths=(strength,)) for start, strength in wanted]  # type: ignore[arg-type]
    for found, merge in zip(asked, finalists, strict=True):
        assert_same(found, merge(adapters))
    assert chosen == finalists[1], "of two that answer as well the one with the lower loss"
    assert [(one.merge, one.loss, one.retrieval) for one in tried[:4]] == [
        (merge, loss, percent)
        for merge, loss, percent in zip(finalists, (1.0, 2.0, 4.0, 5.0), (10.0, 20.0, 20.0, 5.0), strict=True)
    ]
    assert [(one.loss, one.retrieval) for one in tried[4:]] == [(3.0, None), (6.0, None)]
    assert {one.merge for one in tried} == set(candidates(grid, 1))
    assert len(steps) == 6 + 4


def test_each_adapter_gets_each_strength() -> None:
    found = candidates({"product": (0.5, 1.0), "factors": (0.7,)}, 2)
    expected = {("product", (a, b)) for a in (0.5, 1.0) for b in (0.5, 1.0)} | {("factors", (0.7, 0.7))}
    assert len(found) == len(expected)
    assert {(merge.start, merge.strengths) for merge in found} == expected


def test_all_that_is_searched_with_is_in_a_key(case_of: Callable[[str], Case]) -> None:
    case = case_of("summary+es")
    assert (
        len({search_step(case, **more).key for more in ({}, {"finalists": 1}, {"strengths": {"product": (1.0,)}})}) == 3
    )
    for plan, changes in ((lora_hub, {"budget": 3}), (lora_hub, {"shots": 9}), (cocktail, {"temperature": 1.0})):
        assert plan(case, **changes).parents[-1].key != plan(case).parents[-1].key
