"""calora export: an adapter or a calibrated composition in a runtime's format."""

from pathlib import Path
from typing import Annotated

import typer

from calora.cli.options import refuse_existing


def command(
    folder: Annotated[Path, typer.Argument(help="An adapter, or a calibration with its --adapter folders.")],
    to: Annotated[Path, typer.Argument(help="The file or folder to write.")],
    format: Annotated[str, typer.Option("--format", "-f", help="peft, gguf, mlx, merged or merged-gguf.")] = "gguf",
    adapter: Annotated[list[Path] | None, typer.Option(help="A calibration's parents, in order.")] = None,
    backbone: Annotated[str | None, typer.Option("--backbone", "-b", help="What the runtime will load.")] = None,
    dtype: Annotated[str | None, typer.Option(help="Of the tensors; the format's usual one if left out.")] = None,
    rank: Annotated[int | None, typer.Option(help="Zero-padded or truncated to it.")] = None,
    force: Annotated[bool, typer.Option(help="Replace TO.")] = False,
) -> None:
    """Write an adapter or a composition for PEFT and vLLM, llama.cpp, or MLX-LM, with a manifest beside it."""
    from rich.console import Console

    from calora.export import export_adapter
    from calora.ready import read_ready

    refuse_existing(to, force)
    found = export_adapter(read_ready(folder, adapter or ()), format, to, backbone, dtype=dtype, rank=rank)
    ranks = f"rank {found.rank}" if found.rank == found.rank_before else f"rank {found.rank_before} to {found.rank}"
    error = f", relative error {found.truncation_error:.2%}" if found.truncation_error else ""
    Console(soft_wrap=True, highlight=False, markup=False).print(
        f"{found.name} for {found.runtimes}: {to}, {found.mebibytes:.2f} MiB in {found.dtype}, {ranks}{error}"
    )
