"""calora sizes: parameters and megabytes from a config alone."""

import json
from pathlib import Path
from typing import Annotated

import typer


def command(
    configs: Annotated[list[Path] | None, typer.Argument(help="config.json files, or folders that hold one.")] = None,
    paper: Annotated[bool, typer.Option(help="The paper's three models and their means.")] = False,
) -> None:
    """Sizes of adapters and calibrations for Llama, Mistral, Qwen 2 and 3, Gemma 3 and StableLM; loads nothing."""
    from calora.errors import CaloraError
    from calora.sizes import PAPER, architecture_from_config, render_sizes

    architectures = list(PAPER) if paper else []
    for path in configs or []:
        file = path / "config.json" if path.is_dir() else path
        try:
            config = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise CaloraError(f"{file} cannot be read: {error}", "expected a model's config.json") from error
        architectures.append(architecture_from_config(config, file.parent.name or file.stem))
    if not architectures:
        raise CaloraError("no architecture given", "give a config.json, or --paper")
    from calora.cli.show import console

    console.print(render_sizes(architectures))
