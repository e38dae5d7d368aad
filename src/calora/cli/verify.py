"""calora verify: load an exported adapter in its runtime and compare."""

from pathlib import Path
from typing import Annotated

import typer

from calora.cli.options import refuse_ignored


def command(
    file: Annotated[Path, typer.Argument(help="A .gguf LoRA file, or a folder for PEFT or MLX-LM.")],
    backbone: Annotated[str | None, typer.Option("--backbone", "-b", help="The manifest's if left out.")] = None,
    against: Annotated[
        Path | None, typer.Option(help="The adapter or calibration it was exported from, to tell what storing cost.")
    ] = None,
    adapter: Annotated[list[Path] | None, typer.Option(help="Parents of that calibration, in order.")] = None,
) -> None:
    """Load an export in the runtime that will use it: does every tensor fit, does it act, are the logits right?"""
    from rich.console import Console

    from calora.errors import CaloraError
    from calora.export.verification import verification_table, verify_export
    from calora.ready import read_ready

    if against is None:
        refuse_ignored({"--adapter": adapter}, "they are the parents of what --against names")
    original = read_ready(against, adapter or ()) if against else None
    found = verify_export(file, backbone, original)
    Console().print(verification_table(found))
    if not found.held:
        raise CaloraError(
            f"{file} does not do in {found.runtime} what it should", "export it again, for this very backbone"
        )
