"""The main table in each of its forms: for the terminal, Markdown, CSV, LaTeX, and as columns for the page."""

import csv
import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from calora.metrics import Difference
from calora.report.compare import Estimate
from calora.report.main_table import Against, MainRow, MainTable
from calora.report.results import MEASURE_NAMES
from calora.report.table import NOTHING, markdown, one_line
from calora.report.wide_table import WideTable

Value = float | int | None
Figure = TypeVar("Figure")


@dataclass(frozen=True)
class MainColumn:
    """One column of the main table.

    Attributes:
        head: Its heading, with line breaks where it may be broken.
        note: What it holds, in a sentence.
        text: The figure of a row.
        values: Heading in the CSV file to the figure there, which is not rounded to what can be read at a glance.
        span: The interval that goes with the figure.
        strong: Whether the figure is set in bold.
        cost: Whether it is what an approach costs rather than what it is worth.
    """

    head: str
    note: str
    text: Callable[[MainRow], str]
    values: dict[str, Callable[[MainRow], Value]]
    span: Callable[[MainRow], str] = field(default=lambda row: "")
    strong: Callable[[MainRow], bool] = field(default=lambda row: False)
    cost: bool = False


def main_columns(table: MainTable) -> list[MainColumn]:
    """The columns behind the title of a row."""
    return [
        *(_category(name, count) for name, count in table.categories.items()),
        MainColumn(
            "overall",
            "mean over its compositions, with a 95 % interval",
            lambda row: f"{row.overall.mean:.1f}",
            {
                "overall": lambda row: round(row.overall.mean, 4),
                "overall_low": lambda row: round(row.overall.low, 4),
                "overall_high": lambda row: round(row.overall.high, 4),
            },
            span=lambda row: _span(row.overall, ".1f"),
        ),
        MainColumn(
            "of",
            "compositions that the overall mean is over",
            lambda row: str(row.compositions) + (f" ({row.cells} of {row.asked} cells)" * (row.cells < row.asked)),
            {"compositions": lambda row: row.compositions, "cells": lambda row: row.cells},
        ),
        *([] if table.reference is None else _against(table.reference)),
        *_costs(),
    ]


def main_terminal(table: MainTable) -> Group:
    """The table for the terminal in two parts, worth and costs; intervals stand below their figures."""
    columns = main_columns(table)
    parts = [_terminal(table, [column for column in columns if column.cost is cost]) for cost in (False, True)]
    return Group(Text(MEASURE_NAMES[table.measure], "bold"), parts[0], Text(), parts[1], Text(table.caption, "dim"))


def main_markdown(table: MainTable) -> str:
    """The table as GitHub Markdown with its caption below."""
    columns = main_columns(table)
    body = [[_slanted(row, "*{}*"), *(_bold(column, row, "**{}**") for column in columns)] for row in table.rows]
    heads = [MEASURE_NAMES[table.measure], *(one_line(column.head) for column in columns)]
    return f"{markdown(heads, body)}\n\n{table.caption.replace('*', chr(92) + '*')}\n"


def main_csv(table: MainTable) -> str:
    """The table as CSV: a column a figure, intervals in two more, nothing where there is none."""
    values = {head: value for column in main_columns(table) for head, value in column.values.items()}
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["label", "title", "measure", "reference", *values])
    for row in table.rows:
        head = [row.label, row.title, table.measure, table.reference]
        writer.writerow([*head, *(value(row) for value in values.values())])
    return out.getvalue()


def main_latex(table: MainTable) -> str:
    """The table as LaTeX for the package booktabs, with its caption as a comment above."""
    columns = main_columns(table)
    heads = [MEASURE_NAMES[table.measure], *(one_line(column.head) for column in columns)]
    lines = [
        f"% {table.caption}",
        rf"\begin{{tabular}}{{l{'r' * len(columns)}}}",
        r"\toprule",
        " & ".join(latex(head) for head in heads) + r" \\",
        r"\midrule",
        *(
            " & ".join(
                [
                    _slanted(row, r"\textit{{{}}}", latex),
                    *(_bold(column, row, r"\textbf{{{}}}", latex) for column in columns),
                ]
            )
            + r" \\"
            for row in table.rows
        ),
        r"\bottomrule",
        r"\end{tabular}",
    ]
    return "\n".join(lines) + "\n"


def latex(text: str) -> str:
    """A text as LaTeX sets it: its special characters escaped, minus and less in mathematics."""
    signs = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", NOTHING: "---"}
    signs |= {sign: f"\\{sign}" for sign in "&%$#_{}"} | {sign: f"${sign}$" for sign in "<>"}
    escaped = "".join(signs.get(sign, sign) for sign in text)
    return re.sub(r"(?<![^\s(])-(?=\d)", "$-$", escaped)


def shown(row: MainRow, column: MainColumn) -> tuple[str, str]:
    """The figure of a row and its interval, which is empty where there is none."""
    text = column.text(row)
    return text, "" if text == NOTHING else column.span(row)


def _category(name: str, count: int) -> MainColumn:
    def text(row: MainRow) -> str:
        part = row.categories.get(name)
        return NOTHING if part is None else f"{part.mean:.1f}" + "*" * (part.compositions < count)

    def value(row: MainRow) -> Value:
        part = row.categories.get(name)
        return None if part is None else round(part.mean, 4)

    head = name.replace("+", "\n+ ").replace("three tasks", "three\ntasks")
    note = f"mean over {count} composition{'s' * (count > 1)}"
    return MainColumn(head, note, text, {name: value})


def _against(reference: str) -> list[MainColumn]:
    return [
        MainColumn(
            f"minus\n{reference}",
            "difference to the reference, paired by dialogue, on what both have",
            _difference,
            {
                "difference": _compared(lambda found: round(found.difference.mean, 4), None),
                "difference_low": _compared(lambda found: round(found.difference.low, 4), None),
                "difference_high": _compared(lambda found: round(found.difference.high, 4), None),
                "difference_cells": _compared(lambda found: found.cells, None),
            },
            span=_compared(lambda found: _span(found.difference, "+.1f"), ""),
            strong=_compared(lambda found: found.significant, False),
        ),
        MainColumn(
            "p",
            "of the sign-flip test, adjusted by Holm",
            _compared(lambda found: "<0.001" if found.adjusted < 0.001 else f"{found.adjusted:.3f}", NOTHING),
            {"p_holm": _compared(lambda found: round(found.adjusted, 4), None)},
        ),
        MainColumn(
            "can\nshow",
            "the smallest difference seen with 80 % power",
            _compared(lambda found: f"{found.smallest:.1f}", NOTHING),
            {"can_show": _compared(lambda found: round(found.smallest, 4), None)},
        ),
    ]


def _difference(row: MainRow) -> str:
    if row.against is None:
        return NOTHING
    fewer = f" (on {row.against.cells} cells)" if row.against.cells < row.cells else ""
    return f"{row.against.difference.mean:+.1f}{fewer}"


def _compared(get: Callable[[Against], Figure], otherwise: Figure) -> Callable[[MainRow], Figure]:
    """What a comparison says; something else for a row that has none."""
    return lambda row: otherwise if row.against is None else get(row.against)


def _costs() -> list[MainColumn]:
    return [
        _cost(
            "passes",
            "runs of the model a request",
            lambda row: " to ".join(map(str, sorted(set(row.passes)))),
            {"passes_fewest": lambda row: row.passes[0], "passes_most": lambda row: row.passes[1]},
        ),
        _cost(
            "tokens\nread",
            "a request, over all passes",
            lambda row: f"{row.prompt_tokens:,.0f}",
            {"prompt_tokens": lambda row: round(row.prompt_tokens, 1)},
        ),
        _cost(
            "tokens\nwritten",
            "a request, over all passes",
            lambda row: f"{row.tokens:,.1f}",
            {"tokens": lambda row: round(row.tokens, 1)},
        ),
        _cost(
            "seconds",
            "a request, decoded in batches on the machine that ran it: compare at equal tokens, in the next column",
            lambda row: f"{row.seconds:.2f}",
            {"seconds": lambda row: round(row.seconds, 3)},
        ),
        _cost(
            "times a\nbare pass",
            "time of a request at equal generated tokens a pass, against one pass of the bare backbone; the "
            "median of the row's cells",
            lambda row: NOTHING if row.times_bare is None else f"{row.times_bare:.1f}",
            {"times_bare": lambda row: None if row.times_bare is None else round(row.times_bare, 3)},
        ),
        _cost(
            "peak MiB",
            "most memory that answering took beside the loaded backbone and adapters, median of the row's cells",
            lambda row: NOTHING if row.peak_mebibytes is None else f"{row.peak_mebibytes:,.0f}",
            {"peak_mib": lambda row: None if row.peak_mebibytes is None else round(row.peak_mebibytes, 1)},
        ),
        _cost(
            "parameters",
            "learnt for a composition",
            lambda row: f"{row.parameters:,.0f}",
            {"parameters": lambda row: round(row.parameters, 1)},
        ),
        _cost(
            "MiB",
            "of these parameters in bfloat16",
            lambda row: f"{row.mebibytes:.3f}",
            {"mib": lambda row: round(row.mebibytes, 4)},
        ),
        _cost(
            "updates",
            "steps of the training that learnt them",
            lambda row: f"{row.updates:,.0f}",
            {"updates": lambda row: round(row.updates, 1)},
        ),
        _cost(
            "examples\nseen",
            "in that training, an example once an epoch",
            lambda row: f"{row.examples:,.0f}",
            {"examples": lambda row: round(row.examples, 1)},
        ),
    ]


def _cost(
    head: str, note: str, text: Callable[[MainRow], str], values: dict[str, Callable[[MainRow], Value]]
) -> MainColumn:
    """A column of costs, of which controls have none."""

    def but_controls(get: Callable[[MainRow], Figure], otherwise: Figure) -> Callable[[MainRow], Figure]:
        return lambda row: otherwise if row.control else get(row)

    kept = {name: but_controls(value, None) for name, value in values.items()}
    return MainColumn(head, note, but_controls(text, NOTHING), kept, cost=True)


def _span(found: Estimate | Difference, form: str) -> str:
    return f"{found.low:{form}} to {found.high:{form}}"


def _bold(column: MainColumn, row: MainRow, bold: str, escape: Callable[[str], str] = str) -> str:
    text, span = shown(row, column)
    figure = bold.format(escape(text)) if column.strong(row) else escape(text)
    return f"{figure} ({escape(span)})" if span else figure


def _slanted(row: MainRow, slanted: str, escape: Callable[[str], str] = str) -> str:
    return slanted.format(escape(row.title)) if row.control else escape(row.title)


def _terminal(table: MainTable, columns: Sequence[MainColumn]) -> Table:
    form = WideTable(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    form.add_column("approach", vertical="top", min_width=16)
    for column in columns:
        form.add_column(Text(column.head), justify="right", vertical="top")
    for index, row in enumerate(table.rows):
        if row.control and index and not table.rows[index - 1].control:
            form.add_section()
        cells = []
        for column in columns:
            text, span = shown(row, column)
            figure = Text(text, "bold" if column.strong(row) else "")
            cells.append(Text("\n").join([figure, Text(span, "dim")]) if span else figure)
        form.add_row(Text(row.title), *cells, style="dim" if row.control else None)
    return form
