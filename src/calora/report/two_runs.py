"""Two runs of a benchmark side by side: each row that both have, on the compositions that both have."""

from dataclasses import dataclass

from rich import box
from rich.table import Table
from rich.text import Text

from calora.errors import CaloraError
from calora.metrics import Difference, holm, mean_score, paired_difference, smallest_detectable
from calora.report.reading import mixed
from calora.report.results import MEASURE_NAMES, Measure, Results, Scores, scores_of
from calora.report.wide_table import WideTable


@dataclass(frozen=True)
class RunDifference:
    """One row in two runs.

    Attributes:
        title: Of the row, in the first run.
        compositions: How many both runs have.
        first: Mean over these in the first run.
        second: In the second.
        difference: First minus second, paired by dialogue.
        adjusted: Its p-value by Holm, over all rows.
        smallest: The smallest difference that these dialogues show with 80 % power.
    """

    title: str
    compositions: int
    first: float
    second: float
    difference: Difference
    adjusted: float
    smallest: float


def compare_runs(first: Results, second: Results, measure: Measure = "retrieval") -> list[RunDifference]:
    """Compare the rows of one label, controls aside; backbones and seeds may differ, each run is the mean over its own.

    Args:
        first: One run.
        second: The other.
        measure: Of all figures.

    Raises:
        CaloraError: The runs have other test dialogues or references, or share no row on any composition.
    """
    if first.dialogues != second.dialogues:
        odd = set(first.dialogues) ^ set(second.dialogues)
        raise CaloraError(
            f"{second.run} has other test dialogues than {first.run}: {min(odd) if odd else 'another order'}",
            "compare runs of the same records",
        )
    for name, examples in first.examples.items():
        if name in second.examples and second.examples[name] != examples:
            raise CaloraError(
                f"{second.run} asks other texts of {name} than {first.run}, or has other references",
                "compare runs of the same records",
            )
    tables = {label: _shared(first, second, label, measure) for label in first.titles if label not in first.controls}
    tables = {label: pair for label, pair in tables.items() if pair[0].size}
    if not tables:
        raise CaloraError(f"{first.run} and {second.run} share no scores of {measure}", "compare runs with common rows")
    differences = {label: paired_difference(*pair) for label, pair in tables.items()}
    adjusted = holm({label: difference.p for label, difference in differences.items()})
    return [
        RunDifference(
            title=first.titles[label],
            compositions=len(one),
            first=mean_score(one),
            second=mean_score(other),
            difference=differences[label],
            adjusted=adjusted[label],
            smallest=smallest_detectable(one, other),
        )
        for label, (one, other) in tables.items()
    ]


def runs_table(first: Results, second: Results, measure: Measure = "retrieval") -> Table:
    """The rows of `compare_runs` for the terminal; bold where the adjusted p-value is below 0.05."""
    caption = (
        f"{MEASURE_NAMES[measure]}: {first.run} minus {second.run}, paired by dialogue, on the compositions "
        "that both have, with a 95 % interval; p of the sign-flip test, adjusted by Holm; can show: the "
        f"smallest difference seen with 80 % power.{_other_making(first, second)}"
    )
    table = WideTable(
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        caption=Text(caption, "table.caption"),
        caption_justify="left",
    )
    heads = ("approach", "of", first.run.name, second.run.name, "difference", "95 % interval", "p", "can show")
    for head in heads:
        table.add_column(Text(head), justify="left" if head == heads[0] else "right")
    for row in compare_runs(first, second, measure):
        found = row.difference
        table.add_row(
            Text(row.title),
            str(row.compositions),
            f"{row.first:.1f}",
            f"{row.second:.1f}",
            Text(f"{found.mean:+.1f}", "bold" if row.adjusted < 0.05 else ""),
            f"{found.low:+.1f} to {found.high:+.1f}",
            "<0.001" if row.adjusted < 0.001 else f"{row.adjusted:.3f}",
            f"{row.smallest:.1f}",
        )
    return table


def _other_making(first: Results, second: Results) -> str:
    """In what the cells of the runs differ that should be the same for all."""
    found = mixed(first.cells() + second.cells())
    return f" Not all cells are of one making: {'; '.join(found)}." if found else ""


def _shared(first: Results, second: Results, label: str, measure: Measure) -> tuple[Scores, Scores]:
    """The scores [compositions, dialogues] of a row in each run, on the compositions that both have."""
    theirs = second.having(label, measure)
    common = [name for name in first.having(label, measure) if name in theirs]
    return scores_of(first, label, measure, common), scores_of(second, label, measure, common)
