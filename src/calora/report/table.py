"""The results of one run as tables: for the terminal, and as Markdown for the documents."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich import box
from rich.table import Table

from calora.bench.cells import Cell
from calora.report.folder import composed, is_control, is_own
from calora.report.wide_table import WideTable
from calora.tasks import Composition

NOTHING = "—"


@dataclass(frozen=True)
class Column:
    """One column of figures.

    Attributes:
        head: Its heading, with a line break where it may be broken.
        note: What the figure is, in a sentence.
        text: The figure of a cell.
    """

    head: str
    note: str
    text: Callable[[Cell], str]


def columns(cells: Sequence[Cell]) -> list[Column]:
    """The columns of a composition's table, behind the title."""
    language = Composition.parse(cells[0].composition).language if cells else "en"
    decimals = 2 if max((cell.costs.seconds for cell in cells), default=0.0) >= 1 else 3
    return [
        _score("retrieval\n%", "retrieval", "answers nearest to their own reference among those of their domain"),
        _score("masked\nROUGE-L", "masked_rougeL", "overlap with the reference, the speakers' names deleted"),
        _score("\nROUGE-L", "rougeL", "overlap with the reference, names and all"),
        _score(f"in {language}\n%", "in_language", "answers in the language that was asked for"),
        _score("empty\n%", "empty", "answers without any text"),
        Column("\ncut", "answers that ended for want of room", lambda cell: str(cell.truncated)),
        _cost("\npasses", "runs of the model a request", lambda cell: str(cell.costs.passes)),
        _cost("s /\nrequest", "computing time, decoded in batches", lambda cell: f"{cell.costs.seconds:.{decimals}f}"),
        _cost("tokens /\nrequest", "generated, over all passes", lambda cell: f"{cell.costs.tokens:.1f}"),
        _cost("added par-\nameters", "learnt for the composition", lambda cell: _known(cell.costs.parameters, ",")),
        _cost("\nMiB", "of those parameters in bfloat16", lambda cell: _known(cell.costs.mebibytes, ".3f")),
    ]


def own_columns() -> list[Column]:
    """The columns of the adapters' own tasks, behind the title."""
    return [
        _score("retrieval\n%", "retrieval", "answers nearest to their own reference among those of their domain"),
        _score("masked\nROUGE-L", "masked_rougeL", "overlap with the reference, the speakers' names deleted"),
        _score("\nROUGE-L", "rougeL", "overlap with the reference, names and all"),
        _score("\nchrF", "chrf", "overlap of letter groups with the reference"),
        _score("language\n%", "in_language", "answers in the task's language"),
        _score("empty\n%", "empty", "answers without any text"),
    ]


def demo_table(cells: Sequence[Cell]) -> Table:
    """The approaches to a composition, and below a line the controls.

    Args:
        cells: Of one run; those of own tasks are left out.
    """
    rows = composed(cells)
    table = _table("approach", columns(rows), chance_line(rows))
    for index, cell in enumerate(rows):
        if is_control(cell) and index and not is_control(rows[index - 1]):
            table.add_section()
        _add(table, cell, columns(rows))
    return table


def own_table(cells: Sequence[Cell]) -> Table:
    """Each adapter on its own task, beside the backbone without it.

    Args:
        cells: Of one run; only those of own tasks are shown.
    """
    rows = [cell for cell in cells if is_own(cell)]
    table = _table("own task", own_columns(), chance_line(rows))
    for cell in rows:
        _add(table, cell, own_columns())
    return table


def markdown_table(cells: Sequence[Cell], *, own: bool = False) -> str:
    """The rows of `demo_table`, or of `own_table`, as GitHub Markdown with the chance below; controls in italics."""
    rows = [cell for cell in cells if is_own(cell)] if own else composed(cells)
    shown = own_columns() if own else columns(rows)
    heads = ["own task" if own else "approach", *(one_line(column.head) for column in shown)]
    body = [
        [f"*{cell.title}*" if is_control(cell) else cell.title, *(column.text(cell) for column in shown)]
        for cell in rows
    ]
    return f"{markdown(heads, body)}\n\n{chance_line(rows)}\n"


def markdown(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A GitHub Markdown table whose first column is text and whose others are figures."""
    lines = [heads, ["---", *("---:" for _ in heads[1:])], *rows]
    return "\n".join("| " + " | ".join(text.replace("|", r"\|") for text in line) + " |" for line in lines)


def one_line(head: str) -> str:
    """A heading without its line break, and without the hyphen that goes with it."""
    return head.replace("-\n", "").replace("\n", " ").strip()


def chance_line(cells: Sequence[Cell]) -> str:
    """What retrieval by guessing gives, and over how many dialogues."""
    chances = sorted({f"{cell.chance:.1f}" for cell in cells}, key=float)
    numbers = sorted({cell.n for cell in cells})
    if not cells:
        return "No results yet."
    return f"Chance retrieval {' to '.join(chances)} %; {' to '.join(map(str, numbers))} test dialogues."


def _score(head: str, key: str, note: str) -> Column:
    return Column(head, note, lambda cell: f"{cell.scores[key]:.1f}")


def _cost(head: str, note: str, text: Callable[[Cell], str]) -> Column:
    return Column(head, note, lambda cell: text(cell) if cell.costs.passes else NOTHING)


def _known(value: float | None, form: str) -> str:
    return NOTHING if value is None else format(value, form)


def _table(first: str, shown: Sequence[Column], caption: str) -> Table:
    table = WideTable(
        box=box.SIMPLE_HEAD,
        show_edge=False,
        padding=(0, 0),
        pad_edge=False,
        caption=caption,
        caption_justify="left",
        header_style="bold",
    )
    table.add_column(f"\n{first}", min_width=14)
    for column in shown:
        table.add_column(column.head, justify="right")
    return table


def _add(table: Table, cell: Cell, shown: Sequence[Column]) -> None:
    from rich.text import Text

    style = "dim" if is_control(cell) else None
    table.add_row(Text(cell.title), *(column.text(cell) for column in shown), style=style)
