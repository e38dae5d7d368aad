from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calora.errors import CaloraError
from calora.merging import linear_product, lm_cocktail
from tests.merging.helpers import assert_same, several


@given(losses=st.lists(st.floats(0, 20), min_size=1, max_size=4), temperature=st.floats(0.5, 20))
def test_weights_are_the_softmax_of_minus_the_losses(losses: list[float], temperature: float) -> None:
    adapters = several(0, len(losses))
    merged, weights = lm_cocktail(adapters, losses, temperature)
    powers = [np.exp(-loss / temperature) for loss in losses]
    np.testing.assert_allclose(weights, np.array(powers) / sum(powers), rtol=1e-9)
    assert sum(weights) == pytest.approx(1)
    assert_same(merged, linear_product(adapters, weights))


def test_the_temperature_is_five_unless_told() -> None:
    _, (better, worse) = lm_cocktail(several(0, 2), [1.0, 6.0])
    assert better / worse == pytest.approx(np.e)


def test_large_losses_do_not_overflow() -> None:
    _, weights = lm_cocktail(several(0, 2), [5000.0, 4000.0], temperature=0.1)
    assert weights == (0.0, 1.0)


@pytest.mark.parametrize(
    ("count", "losses", "temperature", "message"),
    [
        (0, [], 5.0, "nothing to merge"),
        (2, [1.0], 5.0, "1 losses for 2 adapters"),
        (2, [1.0, float("nan")], 5.0, "not all finite"),
        (2, [1.0, 2.0], 0.0, "temperature 0.0 is not above 0"),
    ],
)
def test_what_does_not_fit_is_refused(count: int, losses: Any, temperature: float, message: str) -> None:
    with pytest.raises(CaloraError, match=message):
        lm_cocktail(several(0, count), losses, temperature)
