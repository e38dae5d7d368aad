import sys

import numpy as np
import pytest

from calora.adapter import Adapter
from calora.errors import CaloraError
from calora.merging import linear_factors, lorahub
from tests.conftest import random_adapter
from tests.merging.helpers import SHAPES, Q, assert_same, dense, several


@pytest.mark.parametrize("true", [(0.8, 0.5), (0.5, -0.4), (1.2, 0.1), (0.6, 0.4, -0.5)])
def test_it_finds_the_weights_that_made_the_target(true: tuple[float, ...]) -> None:
    """Up to a sign of all, which changes no update; the penalty and the budget leave 0.1."""
    adapters = several(3, len(true))
    target = dense(linear_factors(adapters, true))[Q]
    asked = []

    def loss(adapter: Adapter) -> float:
        asked.append(adapter)
        return float(100 * np.mean((dense(adapter)[Q] - target) ** 2))

    merged, weights = lorahub(adapters, loss, seed=1)
    assert len(asked) == 40
    assert not dense(asked[0])[Q].any()  # w = 0
    assert min(np.abs(np.array(weights) - side * np.array(true)).max() for side in (1, -1)) < 0.1
    assert_same(merged, linear_factors(adapters, weights))


def test_weights_stay_in_the_box_and_nothing_to_gain_leaves_them_at_zero() -> None:
    adapters = several(0, 2)
    _, far = lorahub(adapters, lambda adapter: -adapter.norm())
    assert max(np.abs(far)) <= 1.5
    assert max(np.abs(far)) > 1.4
    _, near = lorahub(adapters, lambda adapter: 0.0)
    assert max(np.abs(near)) < 0.02


def test_one_seed_is_one_search() -> None:
    adapters = several(0, 2)
    found = [lorahub(adapters, lambda adapter: (adapter.norm() - 1) ** 2, seed=5)[1] for _ in range(2)]
    assert found[0] == found[1]


def test_what_cannot_be_searched_is_refused_before_the_search(monkeypatch: pytest.MonkeyPatch) -> None:
    def loss(adapter: Adapter) -> float:
        raise AssertionError

    with pytest.raises(CaloraError, match=r"ranks \[2, 3\]"):
        lorahub([random_adapter(SHAPES, rank=2), random_adapter(SHAPES, rank=3)], loss)
    with pytest.raises(CaloraError, match="budget 0 is below 1"):
        lorahub(several(0, 2), loss, budget=0)
    monkeypatch.setitem(sys.modules, "nevergrad", None)
    with pytest.raises(CaloraError, match="needs nevergrad") as caught:
        lorahub(several(0, 2), loss)
    assert caught.value.hint == "in a clone: pip install '.[search]'"
