import numpy as np

from calora.merging import cat, linear_product
from tests.conftest import random_adapter
from tests.merging.helpers import SHAPES, Q, assert_same, dense


def test_it_is_the_mean_of_the_updates_unless_told() -> None:
    adapters = [random_adapter(SHAPES, seed, rank=seed) for seed in (1, 2, 3)]
    merged = cat(adapters)
    assert merged.rank == 6
    mean = np.mean([dense(adapter)[Q] for adapter in adapters], axis=0)
    np.testing.assert_allclose(dense(merged)[Q], mean, atol=1e-6)
    assert_same(cat(adapters, [1, 1, 1]), linear_product(adapters))
