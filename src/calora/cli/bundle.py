"""calora bundle: one folder for a device."""

from pathlib import Path
from typing import Annotated

import typer

from calora.cli.options import refuse_existing, refuse_ignored


def command(
    folder: Annotated[Path, typer.Argument(help="The bundle, to be written, added to or checked.")],
    adapter: Annotated[list[Path] | None, typer.Option("--adapter", "-a", help="A single-task adapter.")] = None,
    calibration: Annotated[list[Path] | None, typer.Option("--calibration", "-c", help="A composition's.")] = None,
    backbone: Annotated[
        str | None,
        typer.Option("--backbone", "-b", help="A name or a .gguf file; the first adapter's, or the bundle's own."),
    ] = None,
    include_backbone: Annotated[bool, typer.Option(help="Copy the backbone into the bundle.")] = False,
    dtype: Annotated[str | None, typer.Option(help="Of the adapters: float16 (if left out), float32 or q8_0.")] = None,
    force: Annotated[bool, typer.Option(help="Replace FOLDER, with all that is in it.")] = False,
    check: Annotated[bool, typer.Option("--check", help="Look at every file of a bundle that is there.")] = False,
) -> None:
    """Bundle a backbone, adapters and calibrations; with calibrations alone, add them to a bundle that is there."""
    from rich.console import Console

    from calora.errors import CaloraError
    from calora.serving.bundle import check_bundle, open_bundle
    from calora.serving.bundle_sizes import sizes_table
    from calora.serving.bundle_writing import add_composition, write_bundle

    if adapter:
        refuse_existing(folder, force)
        write_bundle(
            folder, backbone, adapter, calibration or (), include_backbone=include_backbone, dtype=dtype or "float16"
        )
    elif calibration or check:
        given = {"--include-backbone": include_backbone or None, "--dtype": dtype, "--force": force or None}
        refuse_ignored(given, "no bundle is written anew without --adapter")
        for one in calibration or ():
            add_composition(folder, one, backbone)
    else:
        raise CaloraError("nothing to do", "give --adapter and --calibration folders, or --check")
    bundle = open_bundle(folder, None if include_backbone else backbone)
    Console().print(sizes_table(bundle))
    if check:
        if wrong := check_bundle(bundle):
            raise CaloraError(f"{folder} is not whole: {'; '.join(wrong)}", "make the bundle again")
        print(f"{folder} is whole: its files and its backbone are those that were bundled")
