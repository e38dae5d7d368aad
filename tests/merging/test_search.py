from typing import Any

import numpy as np
import pytest

from calora.adapter import Adapter
from calora.errors import CaloraError
from calora.merging import merge
from calora.merging.search import METHODS, search_merge
from tests.conftest import random_adapter
from tests.merging.helpers import SHAPES, dense, several


def distance_to(wanted: dict[str, Any]) -> Any:
    def loss(adapter: Adapter) -> float:
        return float(sum(np.sum((dense(adapter)[m] - update) ** 2) for m, update in wanted.items()))

    return loss


def test_it_finds_the_method_and_the_strengths_that_made_it() -> None:
    adapters = several(0, 2)
    loss = distance_to(dense(merge(adapters, "product", (1.5, 0.4))))
    told: list[int] = []
    tried = search_merge(adapters, loss, lambda one: -loss(one), budget=100, follow=lambda: told.append(1))
    assert tried[0].method == "product"
    assert tried[0].strengths == pytest.approx((1.5, 0.4), abs=0.15)
    assert {trial.method for trial in tried} == set(METHODS)
    assert len(told) == 104
    assert [trial.score is not None for trial in tried] == [True] * 4 + [False] * (len(tried) - 4)
    assert all(0.2 <= strength <= 1.8 for trial in tried for strength in trial.strengths)


def test_answers_decide_among_the_finalists_and_nothing_else() -> None:
    adapters = several(0, 2)
    loss = distance_to(dense(merge(adapters, "product")))
    scored: list[Adapter] = []

    def score(adapter: Adapter) -> float:
        scored.append(adapter)
        return float(len(scored))

    tried = search_merge(adapters, loss, score, budget=16, finalists=3)
    assert len(scored) == 3
    assert [trial.score for trial in tried[:3]] == [3.0, 2.0, 1.0]
    assert tried[0].loss >= tried[2].loss
    assert len({trial.method for trial in tried[:3]}) == 3, "near strengths of one method answer alike"
    assert tried[2].loss == min(trial.loss for trial in tried)


def test_where_methods_are_fewer_than_finalists_the_next_best_answer_as_well() -> None:
    adapters = several(0, 2)
    loss = distance_to(dense(merge(adapters, "product", (0.7, 0.7))))
    tried = search_merge(adapters, loss, lambda one: 0.0, budget=12, finalists=4, methods=("product", "karcher"))
    assert {trial.method for trial in tried[:2]} == {"product", "karcher"}
    assert [trial.score is not None for trial in tried] == [True] * 4 + [False] * (len(tried) - 4)
    rest = [trial.loss for trial in tried[4:]]
    assert rest == sorted(rest)


def test_a_seed_makes_it_again_and_ranks_that_differ_leave_factors_out() -> None:
    adapters = [random_adapter(SHAPES, 0, 2), random_adapter(SHAPES, 1, 3)]
    loss = distance_to(dense(merge(adapters, "product", (0.5, 0.5))))
    first, second = (search_merge(adapters, loss, lambda one: 0.0, budget=20, seed=4) for _ in range(2))
    assert first == second
    assert "factors" not in {trial.method for trial in first}


def test_many_adapters_begin_within_the_bounds() -> None:
    adapters = several(0, 6)
    loss = distance_to(dense(merge(adapters, "factors")))
    assert search_merge(adapters, loss, lambda one: -loss(one), budget=30)[0].method == "factors"


@pytest.mark.parametrize(
    ("given", "message"),
    [({"budget": 13}, "budget 13 for 7 methods"), ({"finalists": 0}, "0 finalists"), ({"methods": ("tied",)}, "tied")],
)
def test_what_cannot_be_searched_is_told(given: dict[str, Any], message: str) -> None:
    with pytest.raises(CaloraError, match=message):
        search_merge(several(0, 2), lambda one: 0.0, lambda one: 0.0, **given)
