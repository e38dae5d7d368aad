"""calora evaluate: score what a folder answers on held-out dialogues."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from calora.cli import options

if TYPE_CHECKING:
    from calora.adapter import Adapter, AdapterCard
    from calora.calibration import CalibrationCard, Unfolded
    from calora.tasks import Composition


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
    max_tokens: Annotated[int, typer.Option(min=1, help="The most tokens of an answer.")] = 96,
) -> None:
    """Answer and score with every measure: retrieval, ROUGE, chrF, language; a table, and a folder if asked."""
    import tempfile

    from calora.adapter import read_adapter
    from calora.bench.cells import cell_stem, read_cell, write_cell
    from calora.errors import CaloraError
    from calora.merging.shipping import adapter_folder
    from calora.metrics import check_tokenizer
    from calora.ready import read_runnable
    from calora.tasks import Composition

    parsed = Composition.parse(composition)
    tokenizer = check_tokenizer(rouge)
    examples = options.evaluation_examples(parsed, data, split)[:limit]
    parents = adapter or []
    if multi_step:
        options.refuse_ignored({str(folder): folder}, "--multi-step asks the --adapter folders")
    elif folder is None:
        options.refuse_ignored({"--adapter": parents}, "no calibration is named, and no --multi-step")
    if multi_step and len(parents) != len(parsed.tasks):
        raise CaloraError(f"--multi-step of {parsed} needs {len(parsed.tasks)} adapters", "give one --adapter a task")
    steps = [read_adapter(adapter_folder(str(parent))) for parent in parents] if multi_step else []
    options.warn_of_other_tasks(parsed, parents, steps)
    ready = None if multi_step or folder is None else read_runnable(folder, parents)
    cards = [one.card for one in (*steps, ready) if one is not None and one.card]
    name = backbone or (cards[0].backbone if cards else "gemma3-270m")

    from calora.approaches import multi_step as passes_of
    from calora.approaches import one_pass
    from calora.cli.show import console
    from calora.console import counting
    from calora.generation import answer_all
    from calora.report import demo_table

    loaded = options.load_backbone(name, backbone or (None if cards else name))
    by_task = {task.name: one for task, one in zip(parsed.tasks, steps, strict=False)}
    passes = passes_of(loaded, parsed, by_task) if multi_step else one_pass(loaded, parsed, ready)
    title = "multi-step" if multi_step else (folder.resolve().name if folder else "zero-shot")
    with counting(f"answering {len(examples)} texts", len(examples) * len(passes)) as advance:
        texts = [example.text for example in examples]
        answers = answer_all(loaded, passes, texts, max_tokens=max_tokens, follow=advance)
    added = _added(ready, parsed)
    if added is None:
        options.say(f"{folder} does not say what was learnt for {parsed}: added parameters are not counted")
    head = dict(composition=str(parsed), approach=title, title=title, backbone=loaded.name, seed=_seed(cards))
    with tempfile.TemporaryDirectory() as temporary:
        cell = (out or Path(temporary)) / "cells" / f"{cell_stem(str(parsed), title, loaded.name, _seed(cards))}.json"
        if cell.exists():
            options.say(f"warning: {cell} is replaced")
        write_cell(cell, examples, answers, parsed.language, head, len(passes), added, rouge_tokenizer=tokenizer)
        console.print(demo_table([read_cell(cell)]))


def _added(ready: "Adapter | Unfolded | None", composition: "Composition") -> int | None:
    """How many values were learnt for a composition beside its tasks' adapters; None where nothing says it."""
    from calora.calibration import Unfolded

    if ready is None:
        return 0
    if isinstance(ready, Unfolded):
        return ready.calibration.parameters
    if ready.card and ready.card.added is not None:
        return ready.card.added
    return 0 if len(composition.tasks) == 1 else None


def _seed(cards: "Sequence[AdapterCard | CalibrationCard]") -> int:
    """The seed of training, where all that is asked was trained with one; else 0."""
    seeds = {int(card.training.get("settings", {}).get("seed", 0)) for card in cards}
    return seeds.pop() if len(seeds) == 1 else 0
