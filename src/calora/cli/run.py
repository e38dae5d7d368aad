"""calora run: answer one text, streaming."""

import io
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from calora.cli import options


def command(
    folder: Annotated[
        Path,
        typer.Argument(
            help="An adapter, a calibration with its --adapter folders, a bundle, or what comes ready-made: summary+es."
        ),
    ],
    text: Annotated[Path | None, typer.Argument(help="A text file; standard input if left out.")] = None,
    adapter: Annotated[list[Path] | None, typer.Option(help="A calibration's parents, in order.")] = None,
    composition: Annotated[
        str | None, typer.Option(help="Ask for this rather than what the folder says; of a bundle, which.")
    ] = None,
    backbone: Annotated[str | None, typer.Option("--backbone", "-b", help="The folder's own if left out.")] = None,
    max_tokens: Annotated[int, typer.Option(min=1)] = 96,
) -> None:
    """Answer a text from a file or standard input; the answer streams to standard output."""
    from calora.errors import CaloraError
    from calora.ready import read_runnable
    from calora.serving.ready_made import DEFAULT_BACKBONE, find_ready_made
    from calora.tasks import Composition

    try:
        given = (
            text.read_text(encoding="utf-8") if text else io.TextIOWrapper(sys.stdin.buffer, encoding="utf-8").read()
        )
    except (OSError, UnicodeDecodeError) as error:
        raise CaloraError(f"{text or 'standard input'} cannot be read: {error}", "expected text in UTF-8") from error
    if not given.strip():
        raise CaloraError("the text is empty", "give a dialogue or a sentence, in a file or on standard input")
    if bundle := find_ready_made(str(folder), backbone or DEFAULT_BACKBONE):
        options.refuse_ignored({"--adapter": adapter, "--composition": composition}, f"{folder} comes ready-made")
        _from_bundle(bundle, str(folder), given, None, max_tokens)
        return
    if (folder / "bundle.json").exists():
        options.refuse_ignored({"--adapter": adapter}, f"{folder} is a bundle, which has its own")
        _from_bundle(folder, composition or _missing(folder), given, backbone, max_tokens)
        return
    parsed = Composition.parse(composition) if composition else None
    ready = read_runnable(folder, adapter or ())
    name = backbone or (ready.card.backbone if ready.card else None)
    if name is None:
        raise CaloraError(f"{folder} does not say its backbone", "pass --backbone")

    from calora.generation import Pass, stream

    loaded = options.load_backbone(name, backbone)
    prompt = loaded.prompt(parsed) if parsed else ready.card and ready.card.prompt
    if not prompt:
        raise CaloraError(f"{folder} does not say what it answers", "pass --composition")
    for piece in stream(loaded, [Pass(ready, prompt)], given, max_tokens=max_tokens):
        print(piece, end="", flush=True)
    print()


def _missing(folder: Path) -> NoReturn:
    """Refuse to choose what a bundle is asked for."""
    from calora.errors import CaloraError
    from calora.serving.bundle import CARD, BundleCard
    from calora.storage import read_card

    card = read_card(folder / CARD, BundleCard)
    known = ", ".join([*card.compositions, *card.adapters])
    raise CaloraError(f"{folder} is a bundle, which answers {known}", "say which with --composition")


def _from_bundle(folder: Path, name: str, text: str, backbone: str | None, max_tokens: int) -> None:
    from calora.serving import Device

    with Device.open(folder, backbone) as device:
        for piece in device.stream(name, text, max_tokens=max_tokens):
            print(piece.text, end="", flush=True)
    print()
