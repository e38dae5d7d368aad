"""calora train: one adapter for one task."""

from pathlib import Path
from typing import Annotated

import typer

from calora.cli import options


def command(
    task: Annotated[str, typer.Argument(help="summary, es, casual ...; a composition trains a joint expert.")],
    out: Annotated[Path, typer.Argument(help="Folder of the adapter, in PEFT's format.")],
    backbone: options.BackboneOption = "gemma3-270m",
    data: options.DataOption = None,
    learning_rate: Annotated[float, typer.Option(help="The paper's is 5e-5, for far more data.")] = 3e-4,
    epochs: Annotated[int, typer.Option(min=1, help="At most; stops when validation loss does.")] = 3,
    batch_size: Annotated[int, typer.Option(min=1)] = 8,
    rank: Annotated[int, typer.Option(min=1)] = 32,
    seed: options.SeedOption = 0,
    force: Annotated[bool, typer.Option(help="Replace OUT.")] = False,
) -> None:
    """Train a LoRA adapter on every linear layer; goes on where it was stopped.

    Of a single task the epoch with the lowest validation loss is kept, of a composition that with the best retrieval.
    """
    from functools import partial

    from calora.adapter import write_adapter
    from calora.processes import is_first
    from calora.tasks import Composition

    composition = Composition.parse(task)
    options.refuse_existing(out, force)
    train, validation = options.training_examples(composition, data, seed)
    train(0)

    from calora.backbone import Backbone
    from calora.bench.making import retrieval_of
    from calora.training.adapter import train_adapter
    from calora.training.settings import TrainingSettings

    settings = TrainingSettings(learning_rate=learning_rate, epochs=epochs, batch_size=batch_size, seed=seed)
    loaded = Backbone.load(backbone)
    depends = (task, loaded.sha256, str(loaded.model.dtype), settings.model_dump(), rank)
    with options.checkpoints(out, data, *depends) as work:
        judge = partial(retrieval_of, loaded, composition, validation(0)) if len(composition.tasks) > 1 else None
        adapter = train_adapter(loaded, composition, train, validation, settings, work, rank=rank, judge=judge)
        if is_first():
            write_adapter(adapter, out)
    options.say(f"wrote {out}: {adapter.parameters:,} parameters")
