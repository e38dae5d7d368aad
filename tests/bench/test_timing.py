import sys

import numpy as np
import pytest

from calora.bench.timing import Timing, peak_memory


def test_the_ratio_is_that_of_the_middle_round() -> None:
    timing = Timing(tokens=8, texts=2, one=[1.0, 3.0, 2.0], several=[2.0, 4.0, 40.0])
    assert timing.ratio == 0.5


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells the peak of memory")
def test_the_peak_of_memory_is_that_of_the_block_alone() -> None:
    size = 300
    with peak_memory() as first:
        held = np.ones(size << 20, dtype=np.uint8)
        assert held[-1] == 1
        high = first()
    del held
    with peak_memory() as second:
        low = second()
    assert high is not None
    assert low is not None
    assert size * 0.9 < high < size * 1.5
    assert low < size * 0.1
