"""The bundles that come with the package, so that a fresh install answers without training anything."""

from importlib.resources import as_file, files
from pathlib import Path

from calora.errors import CaloraError
from calora.serving.bundle import BundleCard
from calora.storage import read_card
from calora.tasks import TASKS

DEFAULT_BACKBONE = "gemma3-270m"


def ready_made(backbone: str = DEFAULT_BACKBONE) -> Path:
    """The bundle of a backbone that comes with calora; its terms lie in it.

    Args:
        backbone: An embedded name.

    Raises:
        CaloraError: There is none for this backbone.
    """
    with as_file(files("calora") / "data" / "bundles") as bundles:
        found = {folder.name: folder for folder in sorted(bundles.iterdir()) if folder.is_dir()}
    if backbone not in found:
        raise CaloraError(
            f"nothing ready-made comes with calora for {backbone}", f"take {' or '.join(found)}, or train your own"
        )
    return found[backbone]


def find_ready_made(text: str, backbone: str = DEFAULT_BACKBONE) -> Path | None:
    """The ready-made bundle that answers what a text names, where it names tasks and no folder.

    Args:
        text: Such as `summary+es`.
        backbone: An embedded name.

    Returns:
        The bundle, or None where the text is no name of tasks joined by `+`.

    Raises:
        CaloraError: It names tasks, and they are not in the bundle.
    """
    if Path(text).exists() or not all(name in TASKS for name in text.split("+")):
        return None
    folder = ready_made(backbone)
    card = read_card(folder / "bundle.json", BundleCard)
    known = [*card.compositions, *card.adapters]
    if text not in known:
        raise CaloraError(
            f"{text} does not come ready-made for {backbone}, only {', '.join(known)}",
            "train its adapters and calibrate them, as the README shows",
        )
    return folder
