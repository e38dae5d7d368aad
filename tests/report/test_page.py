import re
from collections.abc import Callable
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest

from calora.errors import CaloraError
from calora.generation import Answer
from calora.report import read_cells, write_page
from calora.report.charts import SCATTER_HEIGHT, Mark, bars, nice_ticks, panels, scatter

from .conftest import answered, write_named_cell

VOID = {"meta", "link", "br", "img", "hr", "input"}


class Balance(HTMLParser):
    """Holds the tags that are open, and the text of the page."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture
def page(write_run: Callable[..., Path]) -> str:
    run = write_run()
    path = write_page(run, {"backbone": "tiny"}, read_cells(run))
    assert path == run / "report.html"
    return path.read_text(encoding="utf-8")


def test_the_page_shows_what_the_run_holds(page: str) -> None:
    for text in (
        "summary+es on tiny",
        "Learnable Calibration++",
        "166,229",
        "Chance retrieval 25.0 %",
        "calibration low-rank-factors",
        "0.8 / 1",
        "es: adapter",
        "12.5 s",
        "KL 2.0e-05 nats",
        "ab" * 32,
        "prefers-color-scheme: dark",
    ):
        assert text in page


def test_the_page_fetches_nothing(page: str) -> None:
    assert not re.search(r"https?:|//[a-z]|@import|url\(|<script|<link|<img|<iframe", page)


def test_the_page_is_well_formed(page: str) -> None:
    parser = Balance()
    parser.feed(page)
    parser.close()
    assert parser.open == []
    assert "Undefined" not in parser.text and "None" not in parser.text


def test_answers_titles_and_settings_are_text(write_run: Callable[..., Path]) -> None:
    run = write_run()
    answers = [Answer("<script>alert('x')</script>", 5, False, 0.1), *answered(2)[1:]]
    write_named_cell(run, "zero-shot", "Zero-shot <b>", answers)
    settings = {"backbone": "</pre><script>1</script>"}
    page = write_page(run, settings, read_cells(run)).read_text(encoding="utf-8")
    assert "<script" not in page and "<b>" not in page
    assert "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;" in page


def test_a_run_with_nothing_but_one_cell_has_a_page(tmp_path: Path) -> None:
    write_named_cell(tmp_path, "zero-shot", "Zero-shot", answered(2))
    page = write_page(tmp_path, {}, read_cells(tmp_path)).read_text(encoding="utf-8")
    assert "<h2>Results</h2>" in page
    for absent in ("own task", "search for a merge", "Training", "Time of each step"):
        assert absent not in page


def test_a_run_without_results_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CaloraError, match="no results"):
        write_page(tmp_path, {}, [])


def test_a_damaged_card_is_named(write_run: Callable[..., Path]) -> None:
    run = write_run()
    (run / "store/merge-search/summary-es-cd34.json").write_text("{", encoding="utf-8")
    with pytest.raises(CaloraError, match=r"summary-es-cd34.json is not JSON"):
        write_page(run, {}, read_cells(run))


def mark(retrieval: float, seconds: float = 1.0) -> Mark:
    return Mark("title", "approach", retrieval, retrieval - 5, retrieval + 5, seconds)


@pytest.mark.parametrize("top", [0.0, 0.003, 0.25, 1.0, 7.0, 8.3, 41.7, 99.0, 100.0, 2345.0])
def test_ticks_are_few_and_hold_the_top(top: float) -> None:
    ticks = nice_ticks(top)
    assert ticks[0] == 0 and ticks[-1] >= top
    assert 2 <= len(ticks) <= 6


def test_bars_are_to_scale() -> None:
    chart = bars([mark(40.0), mark(20.0)], 10.0)
    assert chart.bars[0].width == pytest.approx(2 * chart.bars[1].width)
    assert chart.chance == pytest.approx(chart.bars[1].width / 2)
    assert chart.bars[0].high <= 100


def test_points_lie_where_they_should_and_labels_apart() -> None:
    chart = scatter([mark(50.0, 1.0), mark(50.0, 1.0), mark(0.0, 2.0), mark(1.0, 1.0)], 8.0)
    labels = sorted(point.label_y for point in chart.points)
    assert min(below - above for above, below in pairwise(labels)) >= 15
    assert all(0 <= label <= SCATTER_HEIGHT for label in labels)
    assert chart.points[2].x == 2 * chart.points[0].x and chart.points[2].y == SCATTER_HEIGHT


def test_panels_join_the_entries_of_an_epoch_and_mark_the_one_kept() -> None:
    loss, judge = panels(
        [
            {"epoch": 1.0, "eval_loss": 2.0},
            {"epoch": 1.0, "eval_judge": 30.0, "eval_score": 29.9},
            {"epoch": 2.0, "eval_loss": 1.0},
            {"epoch": 2.0, "eval_judge": 20.0, "eval_score": 19.9},
        ]
    )
    assert [dot[2:] for dot in loss.dots] == [("2.000", True), ("1.000", False)]
    assert [dot[2] for dot in judge.dots] == ["30.0", "20.0"]
    (alone,) = panels([{"epoch": 1.0, "eval_loss": 2.0}, {"epoch": 2.0, "eval_loss": 1.0}])
    assert [dot[3] for dot in alone.dots] == [False, True]
    assert panels([]) == []
