"""calora compare: runs of several seeds side by side."""

from pathlib import Path
from typing import Annotated

import typer

from calora.cli import options


def command(
    runs: Annotated[list[Path], typer.Argument(help="Run folders of one composition and backbone, one a seed.")],
    measure: Annotated[str, typer.Option(help="retrieval, masked_rougeL or in_language.")] = "retrieval",
    markdown: Annotated[bool, typer.Option(help="Print a Markdown table.")] = False,
) -> None:
    """Means with 95 % intervals, and paired differences to multi-step and to the tuned merge."""
    from calora.errors import CaloraError
    from calora.report import comparison_markdown, comparison_table, pooled
    from calora.report.pool import MEASURES

    if measure not in MEASURES:
        raise CaloraError(f"unknown measure {measure!r}", f"measures: {', '.join(MEASURES)}")
    pool = pooled(runs)
    if markdown:
        print(comparison_markdown(pool, measure))
        return
    from calora.cli.show import console

    console.print(comparison_table(pool, measure))
    options.say(f"{len(runs)} runs")
