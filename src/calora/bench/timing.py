"""Time at equal generated tokens, two ways to answer in turn and side by side, and the peak of memory."""

import ctypes
import gc
import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from calora.backbone import Backbone
from calora.generation import Pass, answer_all


class Timing(BaseModel):
    """What `time_passes` measured.

    Args:
        tokens: Generated in each pass.
        texts: Answered together.
        one: Seconds of the one pass, round by round.
        several: Seconds of the several passes, round by round.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    tokens: int
    texts: int
    one: list[float]
    several: list[float]

    @property
    def ratio(self) -> float:
        """Median over rounds of the one pass's share of the several passes' time."""
        return statistics.median(one / several for one, several in zip(self.one, self.several, strict=True))


def time_passes(
    backbone: Backbone,
    one: Sequence[Pass],
    several: Sequence[Pass],
    texts: Sequence[str],
    *,
    tokens: int,
    rounds: int,
    follow: Callable[[int], None] = lambda _: None,
) -> Timing:
    """Time two ways to answer, each pass forced to just so many tokens.

    Args:
        backbone: The model.
        one: The passes of the first way.
        several: Those of the second.
        texts: Answered as one batch.
        tokens: Of each pass.
        rounds: How often, in turn, and each time the other one first; what a noisy machine does to one it does to
            the other.
        follow: Told of each round.
    """
    first, second = list[float](), list[float]()
    for number in range(rounds):
        ways = [(first, one), (second, several)]
        for seconds, passes in ways if number % 2 == 0 else reversed(ways):
            answers = answer_all(backbone, passes, texts, batch_size=len(texts), force_tokens=tokens)
            seconds.append(sum(answer.seconds for answer in answers))
        follow(1)
    return Timing(tokens=tokens, texts=len(texts), one=first, several=second)


@contextmanager
def peak_memory() -> Iterator[Callable[[], float | None]]:
    """Watch how much memory a block takes at the most, beyond what is in use when it begins.

    Yields:
        What gives the most so far, in MiB: of a GPU's memory if there is one, else of the process's; None where the
        system does not tell (it is Linux that does).
    """
    import torch

    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        yield lambda: (torch.cuda.max_memory_allocated() - before) / 2**20
        return
    gc.collect()
    with suppress(AttributeError):  # glibc alone has it; what it kept for later would count as in use
        ctypes.CDLL(None).malloc_trim(0)
    try:
        Path("/proc/self/clear_refs").write_text("5")  # the peak becomes what is in use now
        begun = _resident("VmRSS")
    except OSError:
        yield lambda: None
        return
    yield lambda: max(0.0, _resident("VmHWM") - begun)


def _resident(name: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(f"{name}:"))
