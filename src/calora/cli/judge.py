"""calora judge: yes or no for every answer of a run, without a network."""

from pathlib import Path
from typing import Annotated

import typer

from calora.cli import options


def command(
    run: Annotated[Path, typer.Argument(help="A run folder of calora bench or calora demo.")],
) -> None:
    """Judge whether each answer does all its tasks: language, meaning, length, copying and tone, all offline.

    The verdicts go beside the scores, where the report finds them. What the judge cannot see (swapped speakers, a
    changed number, a negation) is measured in the docs.
    """
    from calora.bench.judging import judge_run

    cells = judge_run(run, options.say)
    options.say(f"{len(cells)} cells of {run} have verdicts")
