"""What a run of the grid has done, what is left, and what failed."""

from collections import defaultdict
from dataclasses import dataclass, field

from calora.bench.store import StepFailedError


@dataclass
class Progress:
    """What a run has done and what is left, for whoever watches.

    Args:
        done: Label to the cells that are there.
        total: Label to the cells that there will be.
        now: What is being made.
        failed: Cells that could not be made, with what was raised.
        left: Estimated seconds to the end; None as long as too little is known.
    """

    done: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    total: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    now: str = ""
    failed: list[tuple[str, Exception]] = field(default_factory=list)
    left: float | None = None


def failures(progress: Progress) -> list[tuple[str, str, int]]:
    """What failed first, why, and how many cells were lost by it."""
    counts: dict[tuple[str, str], int] = defaultdict(int)
    for name, error in progress.failed:
        what = f"{error.step.kind} {error.step.name}" if isinstance(error, StepFailedError) else name
        reason = error.reason if isinstance(error, StepFailedError) else error
        counts[(what, str(reason) or repr(reason))] += 1
    return [(what, why, count) for (what, why), count in counts.items()]
