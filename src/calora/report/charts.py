"""Where the marks of the page's charts lie; the template draws them.

Across, places are in percent of the chart's width and down in pixels, so that a chart fits a phone and its text keeps
its size.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

SCATTER_HEIGHT = 280
PANEL_HEIGHT = 64
_LABEL_HEIGHT = 17
_MIDDLE = 60  # percent across, behind which a label would leave the chart


@dataclass(frozen=True)
class Tick:
    """A place on an axis and what stands there."""

    at: float
    label: str


@dataclass(frozen=True)
class Mark:
    """One approach in a chart, before it has a place.

    Attributes:
        title: Of the approach.
        kind: `approach`, `calibrated` or `control`.
        retrieval: In percent.
        low: Lower end of its 95 % interval.
        high: Upper end.
        seconds: A request.
    """

    title: str
    kind: str
    retrieval: float
    low: float
    high: float
    seconds: float


@dataclass(frozen=True)
class Bar:
    """A mark with the ends of its bar and interval, in percent of the width."""

    mark: Mark
    width: float
    low: float
    high: float


@dataclass(frozen=True)
class Bars:
    """The bar chart of retrieval."""

    bars: list[Bar]
    ticks: list[Tick]
    chance: float


@dataclass(frozen=True)
class Point:
    """A mark with its place and its label's; the label stands on the left of its place if `left`."""

    mark: Mark
    x: float
    y: float
    label_x: float
    label_y: float
    left: bool


@dataclass(frozen=True)
class Scatter:
    """Retrieval against seconds a request."""

    points: list[Point]
    x_ticks: list[Tick]
    y_ticks: list[Tick]
    chance: float


@dataclass(frozen=True)
class Panel:
    """One figure of a training run by epoch: (x in percent, y in pixels, value, whether it is the epoch kept)."""

    name: str
    dots: list[tuple[float, float, str, bool]]


def bars(marks: Sequence[Mark], chance: float) -> Bars:
    """Lay out bars from 0 to the first tick above every interval."""
    ticks = nice_ticks(max([chance, *(mark.high for mark in marks)]))
    share = 100 / ticks[-1]
    return Bars(
        [Bar(mark, mark.retrieval * share, mark.low * share, mark.high * share) for mark in marks],
        [Tick(value * share, f"{value:g}") for value in ticks],
        chance * share,
    )


def scatter(marks: Sequence[Mark], chance: float) -> Scatter:
    """Lay out points from 0 on both axes.

    Labels stand in a column behind the cluster of their points (in front of it on the right), moved apart where they
    would meet: what takes one pass takes much the same time.
    """
    x_ticks = nice_ticks(max(mark.seconds for mark in marks))
    y_ticks = nice_ticks(max([chance, *(mark.retrieval for mark in marks)]))

    def down(value: float) -> float:
        return SCATTER_HEIGHT * (1 - value / y_ticks[-1])

    places = [(100 * mark.seconds / x_ticks[-1], down(mark.retrieval)) for mark in marks]
    labels = _apart(places)
    near = max((x for x, _ in places if x <= _MIDDLE), default=0.0)
    far = min((x for x, _ in places if x > _MIDDLE), default=100.0)
    return Scatter(
        [
            Point(mark, x, y, far if x > _MIDDLE else near, label, left=x > _MIDDLE)
            for mark, (x, y), label in zip(marks, places, labels, strict=True)
        ],
        [Tick(100 * value / x_ticks[-1], f"{value:g}") for value in x_ticks],
        [Tick(down(value), f"{value:g}") for value in y_ticks],
        down(chance),
    )


def panels(validation: Sequence[dict[str, Any]]) -> list[Panel]:
    """The validation loss and retrieval of a training run by epoch, as far as it has them."""
    epochs: dict[float, dict[str, float]] = {}
    for entry in validation:
        epochs.setdefault(entry["epoch"], {}).update(entry)
    found = [epochs[epoch] for epoch in sorted(epochs)]
    # Without a judge the loss alone chooses, and its score is not logged.
    scores = [entry.get("eval_score", -entry.get("eval_loss", math.inf)) for entry in found]
    best = scores.index(max(scores)) if scores else 0
    names = (("eval_loss", "validation loss", ".3f"), ("eval_judge", "validation retrieval %", ".1f"))
    return [
        _panel(name, [entry[key] for entry in found], best, form)
        for key, name, form in names
        if found and all(key in entry for entry in found)
    ]


def nice_ticks(top: float) -> list[float]:
    """Round numbers from 0 to the first that is not below `top`, three to six of them."""
    if top <= 0:
        return [0.0, 1.0]
    size = 10.0 ** math.floor(math.log10(top))
    step = next(size * part for part in (0.2, 0.25, 0.5, 1.0, 2.0) if top / (size * part) <= 5)
    return [round(step * index, 12) for index in range(math.ceil(top / step - 1e-9) + 1)]


def _panel(name: str, values: Sequence[float], best: int, form: str) -> Panel:
    low, high = min(values), max(values)
    last = max(1, len(values) - 1)

    def down(value: float) -> float:
        return PANEL_HEIGHT * (1 - (value - low) / (high - low)) if high > low else PANEL_HEIGHT / 2

    return Panel(
        name,
        [
            (100 * index / last if len(values) > 1 else 50.0, down(value), f"{value:{form}}", index == best)
            for index, value in enumerate(values)
        ],
    )


def _apart(places: Sequence[tuple[float, float]]) -> list[float]:
    """Move labels down, then up again from the lower edge, until each has room; of equals the nearest comes first."""
    order = sorted(range(len(places)), key=lambda index: (places[index][1], -places[index][0]))
    moved = [y for _, y in places]
    for above, below in pairwise(order):
        moved[below] = max(moved[below], moved[above] + _LABEL_HEIGHT)
    floor = float(SCATTER_HEIGHT)
    for index in reversed(order):
        moved[index] = min(moved[index], floor)
        floor = moved[index] - _LABEL_HEIGHT
    return moved
