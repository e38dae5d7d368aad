"""The bundle: one folder that a device carries, with a backbone, adapters and any number of tiny calibrations.

bundle.json                      what is in it
backbone.gguf                    unless the device has it already
adapters/NAME.gguf               one LoRA file a task
calibrations/COMPOSITION-HASH/   as `calora calibrate` wrote them, the hash of their content
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from calora.adapter import Adapter, Factors
from calora.backbone_files import backbone_sha256, hub_folder
from calora.calibration import Calibration, check_calibration, check_order, foldable, read_calibration
from calora.embedded import EMBEDDED, embedded_gguf
from calora.errors import CaloraError
from calora.export.gguf import modules_in, read_gguf_adapter
from calora.export.layout import Layout, read_layout
from calora.merging import Merge
from calora.storage import read_card, sha256_of
from calora.tasks import Prompt

CARD = "bundle.json"
CALIBRATION_FILES = ("calibration.json", "calibration.safetensors")


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class BackboneEntry(_Entry):
    """The backbone of a bundle.

    Args:
        name: What it was asked for as.
        sha256: Of its GGUF file.
        file: In the bundle; None where the device has it.
    """

    name: str
    sha256: str
    file: str | None = None


class AdapterEntry(_Entry):
    """A task's adapter.

    Args:
        file: In the bundle.
        sha256: Of that file.
        source_sha256: Of the tensors that it was exported from: how calibrations name it.
        prompt: To ask for the task alone.
    """

    file: str
    sha256: str
    source_sha256: str
    prompt: Prompt


class CompositionEntry(_Entry):
    """A composition.

    Args:
        calibration: Its folder in the bundle.
        sha256: Of the calibration's two files, as `calibration_sha256` has it.
        merge: Of the parents.
        parents: Names of the adapters, in order.
        prompt: To ask for it.
    """

    calibration: str
    sha256: str
    merge: Merge
    parents: tuple[str, ...]
    prompt: Prompt


class BundleCard(_Entry):
    """What stands in bundle.json.

    Args:
        calora_version: That wrote it.
        backbone: The backbone.
        dtype: Of the adapters, and of what a device makes of them.
        adapters: By task.
        compositions: By name.
    """

    calora_version: str
    backbone: BackboneEntry
    dtype: Literal["float16", "float32", "q8_0"]
    adapters: dict[str, AdapterEntry]
    compositions: dict[str, CompositionEntry]


@dataclass(frozen=True)
class Bundle:
    """A bundle on disk.

    Args:
        folder: Where it lies.
        card: What is in it.
        model: The backbone's GGUF file.
        layout: Of the backbone.
    """

    folder: Path
    card: BundleCard
    model: Path
    layout: Layout

    def adapter_file(self, name: str) -> Path:
        """The LoRA file of a task."""
        return self.folder / self.card.adapters[name].file

    def adapter(self, name: str) -> Adapter:
        """A task's adapter, as its file has it."""
        return read_gguf_adapter(self.adapter_file(name), self.layout)

    def shapes_of(self, name: str) -> dict[str, tuple[int, int]]:
        """Module to (out, in) of what a composition's merge has."""
        return merged_shapes(self.folder, [self.card.adapters[one] for one in self.parents(name)], self.layout)

    def parents(self, name: str) -> tuple[str, ...]:
        """The adapters of a composition, in order."""
        return self.card.compositions[name].parents

    def calibration(self, name: str) -> Calibration:
        """A composition's calibration.

        Raises:
            CaloraError: A file is missing or damaged.
        """
        return read_calibration(self.folder / self.card.compositions[name].calibration)


def open_bundle(folder: str | Path, backbone: str | Path | None = None) -> Bundle:
    """Read a bundle; the files that it names are looked at only when they are used, or by `check_bundle`.

    Args:
        folder: The bundle.
        backbone: An embedded name, its GGUF file, its folder or hub id; needed where the bundle does not carry it and
            its name is that of a file. A hub model whose GGUF file is not given is fetched, for torch to run.

    Raises:
        CaloraError: It is damaged, names a file outside itself, or the backbone is not found.
    """
    folder = Path(folder)
    card = read_card(folder / CARD, BundleCard)
    files = [entry.file for entry in card.adapters.values()]
    files += [entry.calibration for entry in card.compositions.values()] + [card.backbone.file or "."]
    for file in files:
        if "\0" in file or not (folder / file).resolve().is_relative_to(folder.resolve()):
            raise CaloraError(f"{folder / CARD} names {file!r}, outside the bundle", "do not use this bundle")
    for name, entry in card.compositions.items():
        missing = [parent for parent in entry.parents if parent not in card.adapters]
        if missing:
            raise CaloraError(f"{folder}: {name} needs the adapter {missing[0]}", "make the bundle again with it")
    model = _model_file(folder, card.backbone, backbone)
    return Bundle(folder, card, model, read_layout(model))


def check_bundle(bundle: Bundle) -> list[str]:
    """What is wrong with a bundle, a line each; nothing if it is whole."""
    card, wrong = bundle.card, []
    if backbone_sha256(str(bundle.model)) != card.backbone.sha256:
        wrong.append(f"{bundle.model} is not the backbone that the adapters were exported for")
    for name in card.adapters:
        try:
            check_adapter(bundle, name)
            bundle.adapter(name)
        except (OSError, CaloraError) as error:
            wrong.append(f"adapter {name}: {error}")
    for name in card.compositions:
        try:
            check_composition(bundle, name)
        except CaloraError as error:
            wrong.append(f"composition {name}: {error}")
    return wrong


def check_adapter(bundle: Bundle, name: str) -> None:
    """Refuse an adapter that is not the one that was bundled: calibrations were learnt beside that one.

    Raises:
        CaloraError: Its file is missing or another.
    """
    entry = bundle.card.adapters[name]
    file = bundle.folder / entry.file
    if not file.is_file() or sha256_of(file) != entry.sha256:
        raise CaloraError(f"{file} is not the file that was bundled", "make the bundle again")


def check_composition(bundle: Bundle, name: str) -> Calibration:
    """A composition's calibration, whole and of the parents that are in the bundle.

    Raises:
        CaloraError: It is damaged, stale, does not fit the backbone, or is of a kind that no LoRA can hold.
    """
    entry = bundle.card.compositions[name]
    folder = bundle.folder / entry.calibration
    calibration = bundle.calibration(name)
    card = calibration.card
    said = (card.composition, card.merge, tuple(card.parents), card.prompt)
    if calibration_sha256(folder) != entry.sha256 or said != (name, entry.merge, entry.parents, entry.prompt):
        raise CaloraError(f"{folder} is not what was bundled", "add the calibration to the bundle again")
    check_fit(calibration, bundle.folder, bundle.card.adapters, bundle.layout, str(folder))
    return calibration


def calibration_sha256(folder: Path) -> str:
    """The SHA-256 of a calibration: of its card and its tensors, which say nothing without each other."""
    return hashlib.sha256("".join(sha256_of(folder / name) for name in CALIBRATION_FILES).encode()).hexdigest()


def merged_shapes(folder: Path, adapters: Sequence[AdapterEntry], layout: Layout) -> dict[str, tuple[int, int]]:
    """Module to (out, in) of what one of some adapters has: what their merge has, too.

    Args:
        folder: The bundle's.
        adapters: Of the bundle.
        layout: Of its backbone.

    Raises:
        CaloraError: A file is damaged.
    """
    had = {module for entry in adapters for module in modules_in(folder / entry.file, layout)}
    return {module: shape for module, shape in layout.shapes.items() if module in had}


def _shaped(shapes: Mapping[str, tuple[int, int]]) -> Adapter:
    """An adapter of rank 0, which has these shapes."""
    return Adapter(
        {name: Factors(np.zeros((0, i), np.float32), np.zeros((o, 0), np.float32)) for name, (o, i) in shapes.items()}
    )


def check_fit(
    calibration: Calibration, folder: Path, adapters: dict[str, AdapterEntry], layout: Layout, where: str
) -> None:
    """Refuse a calibration that a bundle cannot have.

    Args:
        calibration: What is to go in, or is there.
        folder: The bundle's, where the adapters lie already.
        adapters: Of the bundle, by task.
        layout: Of its backbone.
        where: What to call the calibration.

    Raises:
        CaloraError: It does not name a parent a task, in their order, or a strength a parent; a parent is not among
            the adapters or was trained again since; no LoRA can hold the kind, or its sites and shapes are not the
            merge's.
    """
    card = calibration.card
    tasks, strengths = card.composition.split("+"), card.merge.strengths
    if len(tasks) < 2 or len(card.parents) != len(tasks):
        raise CaloraError(
            f"{where} is for {card.composition} and names {', '.join(card.parents) or 'no adapter'} as its parents",
            "calibrate a composition of two tasks or more, with `parents` in its card: an adapter a task, in order",
        )
    check_order(card, where)
    if strengths is not None and len(strengths) != len(tasks):
        raise CaloraError(f"{where} has {len(strengths)} strengths for {len(tasks)} parents", "calibrate it again")
    for parent, sha256 in card.parents.items():
        if parent not in adapters:
            raise CaloraError(
                f"{where} was calibrated on {', '.join(card.parents)}; {parent} is not in the bundle",
                "bundle it with its parents",
            )
        if adapters[parent].source_sha256 != sha256:
            raise CaloraError(
                f"{where} is stale: its parent {parent} was trained again since", "calibrate again on the new adapter"
            )
    if not foldable(card.kind):
        raise CaloraError(
            f"{where}: an {card.kind.replace('-', ' ')} cannot become a LoRA, which is all that llama.cpp loads",
            "calibrate with column-bias, row-scale or low-rank",
        )
    shapes = merged_shapes(folder, [adapters[parent] for parent in card.parents], layout)
    check_calibration(_shaped(shapes), calibration)


def _model_file(folder: Path, entry: BackboneEntry, given: str | Path | None) -> Path:
    if given is None and entry.file:
        return folder / entry.file
    name = str(given or entry.name)
    if name in EMBEDDED:
        return embedded_gguf(name)
    if given is not None and Path(given).exists():
        return Path(given)
    if given is None and "/" not in name:  # of a file there is only the name
        raise CaloraError(f"{folder} does not carry its backbone {name}", "name its GGUF file")
    try:
        return hub_folder(name)
    except CaloraError as error:
        error.hint = "name the backbone's GGUF file, which llama.cpp runs: --backbone FILE.gguf"
        raise
