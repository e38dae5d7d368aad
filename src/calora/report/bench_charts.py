"""Where the marks of a benchmark's charts lie: worth against cost, and storage as compositions are added.

Places across are in percent of the chart's width and down in pixels, as in `calora.report.charts`.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from calora.report.charts import Tick, nice_ticks
from calora.report.main_table import MainRow
from calora.sizes import mebibytes

STORAGE_HEIGHT = 260
_LEAST_HEIGHT = 300
_LABEL = 17.0
_NOTHING = 3.0  # percent across, where no MiB stand; a logarithm has no place for them
_FIRST, _LAST = 20.0, 97.0
_APART = 12.0  # percent across between clusters of points, each of which has its labels in a column
_BEHIND = 66.0  # percent across, behind which labels stand on the left
_ASIDE = 2.5  # percent across from a cluster to its labels
_ABOVE, _BELOW = 9.0, 5.0  # pixels that a label stands higher on the front, lower behind it: out of the front's line


@dataclass(frozen=True)
class Dot:
    """A row in the chart of worth against cost.

    Attributes:
        row: The row.
        number: For the key below the chart.
        x: Percent across.
        y: Pixels down.
        label_x: Of its label.
        label_y: Of the label.
        left: Whether the label stands on the left.
        front: Whether no other row is at least as good with as few passes and MiB.
    """

    row: MainRow
    number: int
    x: float
    y: float
    label_x: float
    label_y: float
    left: bool
    front: bool


@dataclass(frozen=True)
class CostChart:
    """Worth against MiB of a composition, with the front of the rows that take one pass.

    Attributes:
        dots: Rows that have every composition that any has, and every cell of them if any row has.
        absent: Titles of the other rows.
        steps: Corners (x, y) of the front.
        x_ticks: In MiB, by the logarithm.
        y_ticks: In the measure's unit.
        height: In pixels.
    """

    dots: list[Dot]
    absent: list[str]
    steps: list[tuple[float, float]]
    x_ticks: list[Tick]
    y_ticks: list[Tick]
    height: float


@dataclass(frozen=True)
class Growth:
    """What rows of one size add to the adapters as compositions are added.

    Attributes:
        titles: Of the rows.
        each: MiB of the first composition.
        total: MiB of all compositions.
        points: (x, y) by number of compositions.
        label_y: Of the label at the end.
    """

    titles: tuple[str, ...]
    each: float
    total: float
    points: list[tuple[float, float]]
    label_y: float


@dataclass(frozen=True)
class StorageChart:
    """Storage beside the adapters that are installed anyway, in MiB by the logarithm."""

    growths: list[Growth]
    compositions: int
    x_ticks: list[Tick]
    y_ticks: list[Tick]


def cost_chart(rows: Sequence[MainRow]) -> CostChart:
    """Lay out worth against cost, controls aside.

    Rows that lack compositions or cells are left out, since their means are of other things.

    Args:
        rows: Of the main table, at least one of which is no control.
    """
    rows = [row for row in rows if not row.control]
    most = max(row.compositions for row in rows)
    whole = [row for row in rows if row.compositions == most and row.cells == row.asked]
    whole = whole or [row for row in rows if row.compositions == most]
    across, x_ticks = _logarithmic([row.mebibytes for row in whole], _NOTHING, _FIRST, _LAST)
    xs = [across(row.mebibytes) for row in whole]
    groups = _clusters(xs)
    height = max(_LEAST_HEIGHT, _LABEL * (2 + max(map(len, groups))))
    y_ticks = nice_ticks(max(row.overall.mean for row in whole))

    def down(value: float) -> float:
        return height * (1 - value / y_ticks[-1])

    ys = [down(row.overall.mean) for row in whole]
    front = pareto_front(whole)
    dots: dict[int, Dot] = {}
    for group in groups:
        left = max(xs[index] for index in group) > _BEHIND
        edge = min(xs[index] for index in group) - _ASIDE if left else max(xs[index] for index in group) + _ASIDE
        labels = spread_labels([ys[index] + (-_ABOVE if index in front else _BELOW) for index in group], height)
        for index, label in zip(group, labels, strict=True):
            dots[index] = Dot(whole[index], index + 1, xs[index], ys[index], edge, label, left, index in front)
    one_pass = sorted((xs[index], ys[index]) for index in front if whole[index].passes[1] == 1)
    return CostChart(
        [dots[index] for index in range(len(whole))],
        [row.title for row in rows if row not in whole],
        _staircase(one_pass),
        x_ticks,
        [Tick(down(value), f"{value:g}") for value in y_ticks],
        height,
    )


def pareto_front(rows: Sequence[MainRow]) -> set[int]:
    """Places of the rows that no other beats or equals in mean, passes and MiB, and surpasses in one of them."""

    def costs(row: MainRow) -> tuple[float, float, float]:
        return -row.overall.mean, row.passes[1], row.mebibytes

    def dominated(row: MainRow) -> bool:
        own = costs(row)
        return any(
            other != own and all(one <= two for one, two in zip(other, own, strict=True)) for other in map(costs, rows)
        )

    return {index for index, row in enumerate(rows) if not dominated(row)}


def storage_chart(rows: Sequence[MainRow], compositions: int) -> StorageChart:
    """Lay out the MiB of 1 to so many compositions, controls aside; rows of one size share a line.

    What a group shares is there whole with the first composition of the group.
    """
    sizes: dict[tuple[float, float], list[str]] = {}
    for row in sorted((row for row in rows if not row.control), key=lambda row: row.parameters):
        sizes.setdefault((row.together, row.shared_by), []).append(row.title)
    last = max(2, compositions)
    counts = range(1, last + 1)

    def stored(size: tuple[float, float], count: int) -> float:
        together, group = size
        return mebibytes(together) * math.ceil(round(count / group, 6))

    values = [stored(size, count) for size in sizes for count in (1, last)]
    upward, y_ticks = _logarithmic(values, 0.0, 16.0, 100.0)

    def place(size: tuple[float, float], count: int) -> tuple[float, float]:
        return 100 * (count - 1) / (last - 1), STORAGE_HEIGHT * (1 - upward(stored(size, count)) / 100)

    points = {size: [place(size, count) for count in counts] for size in sizes}
    labels = spread_labels([line[-1][1] - _LABEL / 2 for line in points.values()], STORAGE_HEIGHT - _LABEL / 2)
    step = next(size for size in range(1, last) if (last - 1) % size == 0 and (last - 1) // size <= 8)
    return StorageChart(
        [
            Growth(tuple(titles), stored(size, 1), stored(size, last), points[size], label)
            for (size, titles), label in zip(sizes.items(), labels, strict=True)
        ],
        last,
        [Tick(100 * (count - 1) / (last - 1), str(count)) for count in counts if (count - 1) % step == 0],
        [Tick(STORAGE_HEIGHT * (1 - tick.at / 100), tick.label) for tick in y_ticks],
    )


def spread_labels(places: Sequence[float], height: float) -> list[float]:
    """Move labels down, then up again from the lower edge, until each has room."""
    moved = list(places)
    order = sorted(range(len(places)), key=lambda index: places[index])
    least = -math.inf
    for index in order:
        moved[index] = least = max(moved[index], least + _LABEL)
    most = height + _LABEL
    for index in reversed(order):
        moved[index] = most = min(moved[index], most - _LABEL)
    return moved


def _clusters(xs: Sequence[float]) -> list[list[int]]:
    """Places of the points that lie close together across."""
    groups: list[list[int]] = []
    for index in sorted(range(len(xs)), key=lambda index: xs[index]):
        if groups and xs[index] - xs[groups[-1][-1]] < _APART:
            groups[-1].append(index)
        else:
            groups.append([index])
    return groups


def _staircase(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Corners of a front, from the point that costs least to the right edge."""
    corners = []
    for (x, y), (further, _) in pairwise([*points, (100.0, 0.0)]):
        corners += [(x, y), (further, y)]
    return corners


def _logarithmic(
    values: Sequence[float], nothing: float, first: float, last: float
) -> tuple[Callable[[float], float], list[Tick]]:
    """A scale by the logarithm from `first` to `last`, with a place of its own for 0, and its ticks."""
    positive = [value for value in values if value > 0]
    ticks = [Tick(nothing, "0")] if min(values) <= 0 else []
    if not positive:
        return lambda value: nothing, ticks
    low = math.floor(math.log10(min(positive)))
    high = max(low + 1, math.ceil(math.log10(max(positive))))

    def place(value: float) -> float:
        return nothing if value <= 0 else first + (last - first) * (math.log10(value) - low) / (high - low)

    return place, [*ticks, *(Tick(place(10.0**power), f"{10.0**power:g}") for power in range(low, high + 1))]
