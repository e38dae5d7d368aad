"""calora evaluate: score what a folder answers on held-out dialogues."""

from pathlib import Path
from typing import Annotated

import typer

from calora.cli import options


def command(
    composition: Annotated[str, typer.Argument(help="What to ask for, such as summary+es.")],
    folder: Annotated[
        Path | None, typer.Argument(help="An adapter, or a calibration with its --adapter folders; none: zero-shot.")
    ] = None,
    adapter: Annotated[
        list[Path] | None, typer.Option(help="A calibration's parents, or the adapters of --multi-step, in order.")
    ] = None,
    multi_step: Annotated[bool, typer.Option(help="One pass a task, with the --adapter folders.")] = False,
    backbone: Annotated[str | None, typer.Option("--backbone", "-b", help="The adapter's own if left out.")] = None,
    data: options.DataOption = None,
    split: Annotated[str, typer.Option(help="train, validation or test of the Everyday corpus.")] = "test",
    rouge: Annotated[str, typer.Option(help="unicode, or paper: its tokenizer drops accented letters.")] = "unicode",
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder for the cell and the answers.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Score only so many.")] = None,
) -> None:
    """Answer and score with every measure: retrieval, ROUGE, chrF, language; a table, and a folder if asked."""
    import tempfile

    from calora.adapter import Adapter, read_adapter
    from calora.bench.cells import read_cell, write_cell
    from calora.calibration import read_calibration
    from calora.errors import CaloraError
    from calora.metrics import check_tokenizer
    from calora.ready import read_runnable
    from calora.tasks import Composition

    parsed = Composition.parse(composition)
    tokenizer = check_tokenizer(rouge)
    examples = options.evaluation_examples(parsed, data, split)[:limit]
    parents = adapter or []
    if multi_step and len(parents) != len(parsed.tasks):
        raise CaloraError(f"--multi-step of {parsed} needs {len(parsed.tasks)} adapters", "give one --adapter a task")
    steps = [read_adapter(parent) for parent in parents] if multi_step else []
    ready = None if multi_step or folder is None else read_runnable(folder, parents)
    cards = [one.card for one in (*steps, ready) if one is not None and one.card]
    name = backbone or (cards[0].backbone if cards else "gemma3-270m")

    from calora.approaches import multi_step as passes_of
    from calora.approaches import one_pass
    from calora.backbone import Backbone
    from calora.cli.show import console
    from calora.console import counting
    from calora.generation import answer_all
    from calora.report import demo_table

    loaded = Backbone.load(name)
    by_task = {task.name: one for task, one in zip(parsed.tasks, steps, strict=False)}
    passes = passes_of(loaded, parsed, by_task) if multi_step else one_pass(loaded, parsed, ready)
    title = "multi-step" if multi_step else (folder.name if folder else "zero-shot")
    with counting(f"answering {len(examples)} texts", len(examples) * len(passes)) as advance:
        answers = answer_all(loaded, passes, [example.text for example in examples], follow=advance)
    learnt = 0
    if folder is not None and (folder / "calibration.json").exists():
        learnt = read_calibration(folder).parameters
    elif isinstance(ready, Adapter) and ready.card and ready.card.name == str(parsed) and not ready.card.parents:
        learnt = ready.parameters if len(parsed.tasks) > 1 else 0
    head = {"composition": str(parsed), "approach": title, "title": title, "backbone": loaded.name, "seed": 0}
    with tempfile.TemporaryDirectory() as temporary:
        cell = (out or Path(temporary)) / "cells" / f"{title}.json"
        write_cell(cell, examples, answers, parsed.language, head, len(passes), learnt, rouge_tokenizer=tokenizer)
        console.print(demo_table([read_cell(cell)]))
