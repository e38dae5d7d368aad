"""Sample answers: the same few dialogues with what every approach made of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from calora.bench.cells import Cell
from calora.errors import CaloraError
from calora.report.folder import composed, predictions_of

if TYPE_CHECKING:
    from rich.console import Console


@dataclass(frozen=True)
class Sample:
    """One dialogue and its answers.

    Attributes:
        id: Of the dialogue.
        domain: It is from.
        dialogue: What was asked about.
        reference: The text an answer should have been.
        answers: (title, answer) of each approach, in the order of the cells, controls last.
    """

    id: str
    domain: str
    dialogue: str
    reference: str
    answers: tuple[tuple[str, str], ...]


def sample_answers(run: Path, cells: Sequence[Cell], count: int = 3) -> list[Sample]:
    """Pick dialogues spread over the domains, the same ones each time, with every approach's answer.

    Args:
        run: The run folder.
        cells: Of the run; those of own tasks are left out.
        count: How many; fewer if there are no more dialogues.

    Raises:
        CaloraError: Predictions are missing, or an approach did not answer one of the dialogues.
    """
    rows = composed(cells)
    if not rows:
        return []
    answers = {cell.approach: {row["id"]: row for row in predictions_of(run, cell)} for cell in rows}

    def answer(cell: Cell, asked: str) -> tuple[str, str]:
        if asked not in answers[cell.approach]:
            raise CaloraError(f"{run}: {cell.approach} did not answer {asked}", "run again: its cell is an older one")
        return cell.title, answers[cell.approach][asked]["answer"]

    return [
        Sample(
            id=row["id"],
            domain=row["domain"],
            dialogue=row["text"],
            reference=row["reference"],
            answers=tuple(answer(cell, row["id"]) for cell in rows),
        )
        for row in _spread(list(answers[rows[0].approach].values()), count)
    ]


def show_answers(console: "Console", samples: Sequence[Sample]) -> None:
    """Print each sample in a panel: the dialogue, the reference, and the answers by title."""
    from rich.console import Group
    from rich.padding import Padding
    from rich.panel import Panel
    from rich.table import Table
    from rich.text import Text

    for sample in samples:
        grid = Table.grid(padding=(0, 2))
        grid.add_column(style="bold", width=min(26, console.width // 3))
        grid.add_column(ratio=1)
        grid.add_row(Text("reference", "green"), Text(sample.reference, "green"))
        for title, answer in sample.answers:
            grid.add_row(Text(title), Text(answer) if answer.strip() else Text("(empty)", "dim"))
        body = Group(Text(sample.dialogue, "dim"), Padding(grid, (1, 0, 0, 0)))
        console.print(Panel(body, title=Text(f"{sample.domain}  {sample.id}"), title_align="left", padding=(1, 2)))


def _spread(rows: list[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    """The first dialogue of domains that lie evenly apart, then the second of each, and so on."""
    domains: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        domains.setdefault(row["domain"], []).append(row)
    names = list(domains)
    step = max(1, len(names) // max(1, count))
    order = [name for start in range(step) for name in names[start::step]]
    rounds = range(max(map(len, domains.values()), default=0))
    return [domains[name][turn] for turn in rounds for name in order if turn < len(domains[name])][:count]
