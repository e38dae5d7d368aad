"""What stands in a folder, made ready to run: an adapter as it is, or a calibration with its parents."""

from collections.abc import Sequence
from pathlib import Path

from calora.adapter import Adapter, adapter_sha256, read_adapter
from calora.calibration import Unfolded, calibrated, read_calibration
from calora.errors import CaloraError
from calora.merging.shipping import adapter_folder


def read_ready(folder: str | Path, parents: Sequence[str | Path] = ()) -> Adapter:
    """Read an adapter, or fold a calibration into the merge of its parents.

    Args:
        folder: An adapter's or a calibration's folder.
        parents: The calibration's parent adapters, in order, from folders or the hub; none of an adapter.

    Raises:
        CaloraError: It is neither, a parent is missing or would be ignored, a parent is not the one it was calibrated
            with, or it is of a kind that cannot become one adapter.
    """
    ready = read_runnable(folder, parents)
    if isinstance(ready, Unfolded):
        raise CaloraError(
            f"{folder}: an {ready.card.kind.replace('-', ' ')} cannot become one adapter",
            "calora run and evaluate take it as it is; for other runtimes calibrate with another kind",
        )
    return ready


def read_runnable(folder: str | Path, parents: Sequence[str | Path] = ()) -> Adapter | Unfolded:
    """Read what torch can run: an adapter, or a calibrated merge, in its two parts where no adapter can hold it.

    Arguments and errors as `read_ready`, which refuses the two parts.
    """
    folder = Path(folder)
    if (folder / "adapter_config.json").exists():
        if parents:
            raise CaloraError(
                f"{', '.join(map(str, parents))} would be ignored: {folder} is an adapter and needs no other",
                "leave --adapter out; a calibration is given with its parents",
            )
        return read_adapter(folder)
    if not (folder / "calibration.json").exists():
        raise CaloraError(
            f"{folder} holds neither an adapter nor a calibration",
            "expected adapter_config.json or calibration.json there",
        )
    calibration = read_calibration(folder)
    expected = list(calibration.card.parents.items())
    if len(parents) != len(expected):
        names = ", ".join(name for name, _ in expected)
        raise CaloraError(
            f"{folder} was calibrated on {names}", "give the folder of each with --adapter, in this order"
        )
    folders = [adapter_folder(str(parent)) for parent in parents]
    for (name, sha256), parent, place in zip(expected, parents, folders, strict=True):
        if adapter_sha256(place) != sha256:
            raise CaloraError(
                f"{parent} is not the adapter {name} that {folder} was calibrated with", "calibrate again on this one"
            )
    return calibrated(calibration.card.merge([read_adapter(place) for place in folders]), calibration)
