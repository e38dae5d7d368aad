"""calora judge: yes or no for every answer of a run, offline or by a language model."""

from pathlib import Path
from typing import Annotated

import typer

from calora.cli import options
from calora.errors import CaloraError


def command(
    run: Annotated[Path, typer.Argument(help="A run folder of calora bench or calora demo.")],
    llm: Annotated[
        str | None,
        typer.Option(
            help="Ask a model at this OpenAI-compatible address, such as http://127.0.0.1:8080/v1; with a key in "
            "CALORA_JUDGE_KEY if it wants one."
        ),
    ] = None,
    model: Annotated[str | None, typer.Option(help="Its name there.")] = None,
    budget: Annotated[int | None, typer.Option(help="The most requests for each cell.")] = None,
    max_tokens: Annotated[int, typer.Option(help="Of its answer; a model that thinks first needs hundreds.")] = 16,
    concurrency: Annotated[int, typer.Option(help="Requests at a time.")] = 4,
) -> None:
    """Judge whether each answer does all its tasks: offline (language, meaning, length, copying, tone), or by a model.

    Offline verdicts go beside the scores, where the report finds them; what that judge cannot see (swapped speakers, a
    changed number, a negation) is measured in docs/protocol.md. A model's go to the folder llm/ of the run, where
    `calora report --measure llm_judge` finds them.
    """
    if llm is None:
        from calora.bench.judging import judge_run

        cells = judge_run(run, options.say)
        options.say(f"{len(cells)} cells of {run} have verdicts")
        return
    if model is None:
        raise CaloraError("--llm needs the name of a model", "pass --model")
    from pydantic import ValidationError
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from calora.bench.llm_judging import judge_run_with_llm
    from calora.cli.show import console
    from calora.judges import Endpoint

    try:
        endpoint = Endpoint(url=llm, model=model, max_requests=budget, max_tokens=max_tokens, concurrency=concurrency)
    except ValidationError as error:
        first = error.errors()[0]
        raise CaloraError(
            f"{first['loc'][0]} {first['input']!r}: {first['msg']}", "give http://HOST:PORT/v1, and numbers above 0"
        ) from error
    caption = Text(f"judged by {model}", "table.caption")
    table = Table(box=box.SIMPLE_HEAD, caption=caption, caption_justify="left")
    heads = ("composition", "approach", "yes %", "no", "unparsable", "failed", "unjudged")
    for index, head in enumerate(heads):
        table.add_column(head, justify="left" if index < 2 else "right", no_wrap=index >= 2, overflow="fold")
    judged = judge_run_with_llm(run, endpoint, options.say)
    for verdicts in judged:
        percent = "—" if verdicts.yes_percent is None else f"{verdicts.yes_percent:.1f}"
        counts = [str(verdicts.counts[name]) for name in ("no", "unparsable", "failed", "unjudged")]
        table.add_row(Text(verdicts.composition), Text(verdicts.approach), percent, *counts)
    console.print(table)
    if sum(one.counts["unparsable"] for one in judged) > sum(one.counts["yes"] + one.counts["no"] for one in judged):
        options.say("most answers begin with neither yes nor no: a model that thinks first needs a larger --max-tokens")
