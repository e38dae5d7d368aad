"""calora merge: several adapters to one, without training."""

from pathlib import Path
from typing import Annotated

import typer

from calora.cli import options


def command(
    adapters: Annotated[list[Path], typer.Argument(help="Folders in PEFT's format.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the merged adapter.")],
    start: options.StartOption = "factors",
    strengths: options.StrengthsOption = None,
    composition: Annotated[
        str | None, typer.Option(help="What it will be asked for; gives its prompt, so that `calora run` can use it.")
    ] = None,
    backbone: Annotated[str | None, typer.Option(help="Only to write the prompt of --composition.")] = None,
    force: Annotated[bool, typer.Option(help="Replace OUT.")] = False,
) -> None:
    """Merge adapters linearly, over their low-rank factors; a backbone is opened only for --composition's prompt."""
    from calora.adapter import AdapterCard, write_adapter
    from calora.errors import CaloraError
    from calora.merging import Merge
    from calora.tasks import Composition

    if start not in ("factors", "product"):
        raise CaloraError(f"unknown start {start!r}", "starts: factors, product")
    parsed = Composition.parse(composition) if composition else None
    options.refuse_existing(out, force)
    parents, shas = options.read_parents(adapters)
    merge = Merge(start=start, strengths=options.parse_strengths(strengths))  # type: ignore[arg-type]
    merged = merge(parents)
    first = parents[0].card
    if first is not None:
        prompt = None
        if parsed is not None:
            from calora.backbone import Backbone

            prompt = Backbone.load(backbone or first.backbone).prompt(parsed)
        merged = merged.with_card(
            AdapterCard(
                name=composition or "+".join(shas),
                backbone=first.backbone,
                backbone_sha256=first.backbone_sha256,
                prompt=prompt,
                parents=shas,
                training={"merge": merge.model_dump(mode="json")},
            )
        )
    write_adapter(merged, out)
    options.say(f"wrote {out}: {merge}, rank {merged.rank}")
