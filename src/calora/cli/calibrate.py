"""calora calibrate: learn the correction of one composition."""

from pathlib import Path
from typing import Annotated

import typer

from calora.cli import options


def command(
    composition: Annotated[str, typer.Argument(help="Such as summary+es.")],
    adapters: Annotated[list[Path], typer.Argument(help="The adapters of its tasks, in order.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the calibration.")],
    fold_to: Annotated[
        Path | None, typer.Option("--fold", help="Also write the calibrated merge as one adapter there.")
    ] = None,
    kind: Annotated[
        str, typer.Option(help="column-bias, low-rank, row-scale, output-bias or output-scale.")
    ] = "column-bias",
    rank: Annotated[int, typer.Option(min=1, help="Of low-rank.")] = 4,
    shared: Annotated[str, typer.Option(help="kind (one for all layers, as in the paper) or layer.")] = "kind",
    start: options.StartOption = "factors",
    strengths: options.StrengthsOption = None,
    backbone: Annotated[str | None, typer.Option("--backbone", "-b", help="The adapters' own if left out.")] = None,
    data: options.DataOption = None,
    learning_rate: Annotated[
        float | None, typer.Option(help="1e-3, or 2e-3 for low-rank; the paper's is 5e-4.")
    ] = None,
    epochs: Annotated[int, typer.Option(min=1, help="At most; stops when validation loss does.")] = 3,
    batch_size: Annotated[int, typer.Option(min=1)] = 8,
    seed: options.SeedOption = 0,
    force: Annotated[bool, typer.Option(help="Replace OUT.")] = False,
) -> None:
    """Calibrate the merge of two or three adapters for one composition; goes on where it was stopped.

    The epoch with the best validation retrieval is kept.
    """
    from functools import partial

    from pydantic import ValidationError

    from calora.adapter import write_adapter
    from calora.calibration import KINDS, CalibrationCard, check_order, fold, foldable, write_calibration
    from calora.errors import CaloraError
    from calora.merging import Merge
    from calora.processes import is_first
    from calora.tasks import Composition

    parsed = Composition.parse(composition)
    if kind in KINDS and not foldable(kind) and fold_to is not None:
        raise CaloraError(f"{kind} cannot be folded into an adapter", "leave --fold out, or take another kind")
    options.refuse_existing(out, force)
    if fold_to is not None:
        options.refuse_existing(fold_to, force)
        one, other = out.resolve(), fold_to.resolve()
        if one == other or one in other.parents or other in one.parents:
            raise CaloraError(f"{out} and {fold_to} lie in each other", "each is written whole: give two folders apart")
    if len(adapters) != len(parsed.tasks):
        raise CaloraError(
            f"{parsed} has {len(parsed.tasks)} tasks, {len(adapters)} adapters were given", "give one a task, in order"
        )
    parents, shas = options.read_parents(adapters)
    try:
        merge = Merge(start=start, strengths=options.parse_strengths(strengths))  # type: ignore[arg-type]
        draft = CalibrationCard(
            kind=kind,  # type: ignore[arg-type]
            rank=rank,
            shared=shared,  # type: ignore[arg-type]
            composition=str(parsed),
            merge=merge,
            parents=shas,
            backbone="",
            backbone_sha256="",
        )
    except ValidationError as error:
        first = error.errors()[0]
        raise CaloraError(
            f"{'.'.join(map(str, first['loc']))} = {first['input']!r}: {first['msg']}",
            f"kinds: {', '.join(KINDS)}; shared: kind, layer; starts: factors, product",
        ) from error
    check_order(draft, str(out))
    options.warn_of_other_tasks(parsed, adapters, parents)
    merged = merge(parents)
    train, validation = options.training_examples(parsed, data, seed)
    train(0)

    from calora.adapter import base_model_of
    from calora.bench.making import retrieval_of
    from calora.merging.shipping import adapter_folder
    from calora.training.calibration import train_calibration
    from calora.training.settings import TrainingSettings

    loaded = options.backbone_of(parents, base_model_of(adapter_folder(str(adapters[0]))), backbone)
    origin = {"backbone": loaded.name, "backbone_sha256": loaded.sha256, "prompt": loaded.prompt(parsed)}
    card = draft.model_copy(update=origin)
    rate = learning_rate or (2e-3 if kind == "low-rank" else 1e-3)
    settings = TrainingSettings(learning_rate=rate, epochs=epochs, batch_size=batch_size, seed=seed)
    depends = (card.model_dump(mode="json"), str(loaded.model.dtype), settings.model_dump())
    with options.checkpoints(out, data, *depends) as work:
        judge = partial(retrieval_of, loaded, parsed, validation(0))
        calibration = train_calibration(loaded, merged, card, train, validation, settings, work, judge=judge)
        if is_first():
            write_calibration(calibration, out)
    options.say(f"wrote {out}: {calibration.parameters:,} parameters")
    if fold_to is not None and is_first():
        write_adapter(fold(merged, calibration), fold_to)
        options.say(f"wrote {fold_to}: the calibrated merge as one adapter")
