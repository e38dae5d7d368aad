from dataclasses import replace
from itertools import pairwise

import pytest

from calora.report.bench_charts import STORAGE_HEIGHT, cost_chart, pareto_front, spread_labels, storage_chart
from calora.report.compare import Estimate
from calora.report.main_table import MainRow


def row(
    title: str, mean: float, passes: int = 1, parameters: float = 0, compositions: int = 3, group: float = 1
) -> MainRow:
    overall = Estimate(mean, mean - 1, mean + 1)
    return MainRow(
        title,
        title,
        title == "control",
        {},
        overall,
        compositions,
        compositions,
        compositions,
        None,
        (passes, passes),
        parameters,
        parameters * group,
        group,
        0,
        0,
        0,
        0,
        0,
        None,
        None,
    )


ROWS = [
    row("zero-shot", 10),
    row("linear", 30),
    row("multi-step", 70, passes=2),
    row("calibration", 60, parameters=22_699),
    row("weak", 55, parameters=30_000),
    row("expert", 65, parameters=29_917_184),
]


def test_the_front_holds_what_nothing_beats() -> None:
    assert pareto_front(ROWS) == {1, 2, 3, 5}
    assert pareto_front([row("a", 10), row("b", 10)]) == {0, 1}


def test_worth_against_cost_is_to_scale() -> None:
    chart = cost_chart(ROWS)
    dots = {dot.row.title: dot for dot in chart.dots}
    assert [dot.number for dot in chart.dots] == [1, 2, 3, 4, 5, 6]
    assert dots["zero-shot"].x == dots["multi-step"].x < dots["calibration"].x < dots["weak"].x < dots["expert"].x
    assert dots["multi-step"].y < dots["expert"].y < dots["zero-shot"].y < chart.height
    assert dots["expert"].left and not dots["calibration"].left
    steps = [chart.x_ticks[index].at for index in range(1, len(chart.x_ticks))]
    widths = {round(after - before, 6) for before, after in pairwise(steps)}
    assert len(widths) == 1
    assert chart.steps[0] == (dots["linear"].x, dots["linear"].y)
    assert chart.steps[-1] == (100.0, dots["expert"].y)


def test_rows_of_several_passes_alone_have_no_front_of_one_pass() -> None:
    chart = cost_chart([row("multi-step", 70, passes=2)])
    assert chart.steps == []
    assert [dot.front for dot in chart.dots] == [True]


def test_controls_and_rows_with_fewer_compositions_are_not_drawn() -> None:
    part = replace(row("seeds", 99), asked=9)
    chart = cost_chart([*ROWS, row("some", 99, compositions=1), part, row("control", 100)])
    assert chart.absent == ["some", "seeds"]
    assert len(chart.dots) == len(ROWS)


@pytest.mark.parametrize("count", [1, 3, 40])
def test_labels_have_room(count: int) -> None:
    chart = cost_chart([row(str(index), 20.0) for index in range(count)])
    places = sorted(dot.label_y for dot in chart.dots)
    assert all(below - above >= 16.9 for above, below in pairwise(places))
    assert places[-1] <= chart.height
    assert spread_labels([5.0, 50.0], 100) == [5.0, 50.0]


def test_storage_grows_with_the_compositions() -> None:
    chart = storage_chart([*ROWS, row("control", 100)], 17)
    nothing, calibration, _, expert = chart.growths
    assert nothing.titles == ("zero-shot", "linear", "multi-step") and nothing.total == 0
    assert {y for _, y in nothing.points} == {STORAGE_HEIGHT}
    assert calibration.total == pytest.approx(17 * 22_699 * 2 / 2**20)
    assert expert.each == pytest.approx(57.06, abs=0.01)
    assert len(expert.points) == 17
    assert expert.points[0][1] > expert.points[-1][1] >= 0
    assert [tick.label for tick in chart.x_ticks][-1] == "17"
    assert [growth.total for growth in storage_chart(ROWS[:1], 1).growths] == [0]


def test_what_a_group_shares_is_stored_with_its_first_composition() -> None:
    (growth,) = storage_chart([row("shared", 50, parameters=1_000, group=3)], 7).growths
    assert growth.each == pytest.approx(3_000 * 2 / 2**20)
    assert growth.total == pytest.approx(9_000 * 2 / 2**20)
    heights = [y for _, y in growth.points]
    assert heights[0] == heights[2] > heights[3] == heights[5] > heights[6]


def test_groups_of_several_sizes_are_as_many_as_they_are() -> None:
    group = 14 / 4  # two groups of three and two of four
    (growth,) = storage_chart([row("shared", 50, parameters=1_000 / group, group=group)], 14).growths
    assert growth.each == pytest.approx(1_000 * 2 / 2**20)
    assert growth.total == pytest.approx(4_000 * 2 / 2**20)
