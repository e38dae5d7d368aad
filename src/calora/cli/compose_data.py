"""calora compose-data: composed targets made by teachers; calora sources: the data sets that calora can read."""

from pathlib import Path
from typing import Annotated

import typer

from calora.cli import options


def command(
    recipe: Annotated[Path, typer.Argument(help="What to read and what to make of it, in YAML (docs/data.md).")],
    out: Annotated[Path, typer.Argument(help="A folder; a run that was stopped goes on there.")],
) -> None:
    """Make composed training data from single-task references with translators and rewriters.

    Writes records.jsonl, which recipes of calora bench take as `data: {records: ...}`, with who made each target; what
    was left out and why; and sample.md, to be read before anything is trained on it.
    """
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from calora.cli.show import console
    from calora.corpus.compose_recipe import read_compose_recipe
    from calora.corpus.composing import RECORDS, compose
    from calora.corpus.sheet import write_sheet
    from calora.corpus.sources import find_source

    wanted = read_compose_recipe(recipe)
    if wanted.source is not None:
        source = find_source(wanted.source)
        options.say(f"{source.title}: {source.licence}, {source.link}")
    counts = compose(wanted, out)
    table = Table(box=box.SIMPLE_HEAD)
    for head in ("split", "read", "text met before", "kept"):
        table.add_column(head, justify="left" if head == "split" else "right")
    for split, read in counts.read.items():
        table.add_row(split, f"{read:,}", f"{counts.again.get(split, 0):,}", f"{counts.kept.get(split, 0):,}")
    console.print(table)
    if counts.empty:
        told = ", ".join(f"{number:,} of {split}" for split, number in counts.empty.items())
        options.say(f"rows without a text or a reference, passed over: {told}")
    if counts.dropped:
        table = Table(box=box.SIMPLE_HEAD, caption="answers left out", caption_justify="left")
        for head in ("target", "reason", "answers"):
            table.add_column(head, justify="right" if head == "answers" else "left")
        for name, reasons in counts.dropped.items():
            for reason, number in sorted(reasons.items(), key=lambda item: -item[1]):
                table.add_row(Text(name), Text(reason), f"{number:,}")
        console.print(table)
    options.say(f"{out / RECORDS}; read {write_sheet(out)} before you train on it")


def list_sources() -> None:
    """List the published data sets that calora reads, with what they give and their licences."""
    from rich import box
    from rich.table import Table

    from calora.cli.show import console
    from calora.corpus.sources import sources

    table = Table(
        box=box.SIMPLE_HEAD,
        caption="read: tested on the authors' own files (yes), or on made-up ones of the published format (format)",
        caption_justify="left",
    )
    for head in ("source", "what it is", "gives", "licence", "on the hub", "read"):
        table.add_column(head, no_wrap=head == "source", overflow="fold")
    for name, source in sources().items():
        read = "yes" if source.seen else "format"
        where = source.hub or ("comes with calora" if source.shipped else "no")
        table.add_row(name, source.title, source.gives, source.licence, where, read)
    console.print(table)
