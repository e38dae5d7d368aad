"""Compare the approaches of pooled runs: intervals, and paired differences to two baselines."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from rich import box
from rich.table import Table
from rich.text import Text

from calora.metrics import Difference, bootstrap_interval, paired_difference, smallest_detectable
from calora.report.pool import BASELINES, Measure, Pool
from calora.report.table import NOTHING, markdown
from calora.report.wide_table import WideTable

Shown = TypeVar("Shown", str, Text)

_NAMES: dict[Measure, str] = {
    "retrieval": "retrieval %",
    "masked_rougeL": "masked ROUGE-L",
    "in_language": "in the asked language %",
}


@dataclass(frozen=True)
class Estimate:
    """A mean over dialogues with its 95 % bootstrap interval."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Comparison:
    """One approach under one measure.

    Attributes:
        approach: Its name.
        title: Its title.
        control: Whether it is a control row.
        estimate: Its mean with an interval.
        differences: Baseline to approach minus baseline, paired by dialogue; the baseline itself is left out.
        smallest: Baseline to the smallest difference that these dialogues show with 80 % power.
    """

    approach: str
    title: str
    control: bool
    estimate: Estimate
    differences: dict[str, Difference]
    smallest: dict[str, float]


def comparison_rows(pool: Pool, measure: Measure = "retrieval") -> list[Comparison]:
    """Compare each approach of a pool with the two baselines, multi-step and the tuned linear merge.

    Args:
        pool: What `pooled` read.
        measure: Of the three.
    """

    def row(approach: str) -> Comparison:
        own = pool.scores[approach][measure]
        others = {name: pool.scores[name][measure] for name in BASELINES if name != approach}
        return Comparison(
            approach=approach,
            title=pool.titles[approach],
            control=approach in pool.controls,
            estimate=Estimate(float(own.mean()), *bootstrap_interval(own)),
            differences={name: paired_difference(own, other) for name, other in others.items()},
            smallest={name: smallest_detectable(own, other) for name, other in others.items()},
        )

    return [row(approach) for approach in pool.titles]


def comparison_table(pool: Pool, measure: Measure = "retrieval") -> Table:
    """The rows of `comparison_rows` for the terminal; intervals stand below their means."""
    caption = Text(_caption(pool), "table.caption")
    table = WideTable(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, caption=caption, caption_justify="left")
    for index, head in enumerate(_heads(measure)):
        table.add_column(head, justify="right" if index else "left", vertical="top")
    table.joined = [place for place, head in enumerate(_heads(measure)) if head in ("p", "can\nshow")]
    rows = comparison_rows(pool, measure)
    for index, row in enumerate(rows):
        if row.control and index and not rows[index - 1].control:
            table.add_section()
        own, *others = [Text("\n").join([Text(mean), Text(span, "dim")]) for mean, span in _spans(row)]
        table.add_row(Text(row.title), own, *_against(row, others), style="dim" if row.control else None)
    return table


def comparison_markdown(pool: Pool, measure: Measure = "retrieval") -> str:
    """The same rows as GitHub Markdown, with a line on the data below."""
    body = []
    for row in comparison_rows(pool, measure):
        own, *others = [f"{mean} ({span})" if span else mean for mean, span in _spans(row)]
        body.append([f"*{row.title}*" if row.control else row.title, own, *_against(row, others)])
    heads = [head.replace("\n", " ") for head in _heads(measure)]
    return f"{markdown(heads, body)}\n\n{_caption(pool)}\n"


def _heads(measure: Measure) -> list[str]:
    against = [head for name in BASELINES for head in (f"minus\n{name}", "p", "can\nshow")]
    return ["approach", _NAMES[measure].replace(" ", "\n", 1), *against]


def _caption(pool: Pool) -> str:
    return (
        f"{pool.composition} on {pool.backbone}, {len(pool.seeds)} seed{'s' * (len(pool.seeds) > 1)} "
        f"({', '.join(map(str, pool.seeds))}), {len(pool.dialogues)} dialogues, chance retrieval {pool.chance:.1f} %. "
        "Below a mean, or in brackets, its 95 % bootstrap interval over dialogues; p of the paired sign-flip test, "
        "not adjusted for the number of rows; "
        "can show: the smallest difference seen with 80 % power."
        + (f" Not all cells are of one making: {'; '.join(pool.mixed)}." if pool.mixed else "")
    )


def _spans(row: Comparison) -> list[tuple[str, str]]:
    """(mean, interval) of the approach itself and of its difference to each baseline."""
    own = row.estimate
    spans = [(f"{own.mean:.1f}", f"{own.low:.1f} to {own.high:.1f}")]
    for name in BASELINES:
        found = row.differences.get(name)
        spans.append((f"{found.mean:+.1f}", f"{found.low:+.1f} to {found.high:+.1f}") if found else (NOTHING, ""))
    return spans


def _against(row: Comparison, differences: Sequence[Shown]) -> list[Shown | str]:
    """Behind each baseline's difference its p and the smallest difference that could be seen."""
    cells: list[Shown | str] = []
    for name, difference in zip(BASELINES, differences, strict=True):
        found = row.differences.get(name)
        p = NOTHING if found is None else "<0.001" if found.p < 0.001 else f"{found.p:.3f}"
        cells += [difference, p, f"{row.smallest[name]:.1f}" if found else NOTHING]
    return cells
