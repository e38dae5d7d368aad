import sys

import numpy as np
import pytest

from calora.backbone import Backbone
from calora.bench.timing import Timing, peak_memory, time_passes
from calora.generation import Answer, Pass
from calora.tasks import Prompt


def test_the_ratio_is_that_of_the_middle_round() -> None:
    timing = Timing(tokens=8, texts=2, one=[1.0, 3.0, 2.0], several=[2.0, 4.0, 40.0])
    assert timing.ratio == 0.5


def test_each_way_is_the_first_in_every_other_round(llama: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = (Pass(None, Prompt(before, "", "")) for before in ("a", "b"))
    order: list[str] = []

    def answer(backbone: Backbone, passes: list[Pass], texts: list[str], **options: int) -> list[Answer]:
        order.extend(step.prompt.before for step in passes)
        return [Answer("x", options["force_tokens"], False, 1.0 if passes[0] is first else 4.0) for _ in texts]

    monkeypatch.setattr("calora.bench.timing.answer_all", answer)
    found = time_passes(llama, [first], [second], ["one", "two"], tokens=3, rounds=3)
    assert "".join(order) == "abbaab"
    assert (found.one, found.several, found.ratio) == ([2.0] * 3, [8.0] * 3, 0.25)


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
