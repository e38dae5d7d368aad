"""The bundle: one folder that a device carries, with a backbone, adapters and any number of tiny calibrations.

bundle.json                      what is in it
backbone.gguf                    unless the device has it already
adapters/NAME.gguf               one LoRA file a task
calibrations/COMPOSITION/        as `calora calibrate` wrote them
"""

import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict

import calora
from calora.adapter import Adapter, Factors, adapter_sha256, read_adapter
from calora.backbone import backbone_sha256
from calora.calibration import Calibration, check_calibration, foldable, read_calibration
from calora.embedded import EMBEDDED, embedded_gguf
from calora.errors import CaloraError
from calora.export.gguf import read_gguf_adapter, write_gguf
from calora.export.layout import Layout, read_layout
from calora.export.ranks import fit_rank
from calora.export.registry import exporters
from calora.merging import Merge
from calora.storage import read_card, sha256_of, write_text, writing_folder
from calora.tasks import Prompt

_CARD = "bundle.json"


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
        sha256: Of the calibration's tensors.
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
    dtype: str
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

    def calibration(self, name: str) -> Calibration:
        """A composition's calibration.

        Raises:
            CaloraError: A file is missing or damaged.
        """
        return read_calibration(self.folder / self.card.compositions[name].calibration)


def write_bundle(
    target: str | Path,
    backbone: str,
    adapters: Sequence[str | Path],
    calibrations: Sequence[str | Path] = (),
    *,
    include_backbone: bool = False,
    dtype: str = "float16",
) -> BundleCard:
    """Make a bundle.

    Args:
        target: The folder, replaced whole if it is there.
        backbone: An embedded name or a GGUF file; or a Hugging Face folder, which torch will run.
        adapters: Folders of single-task adapters.
        calibrations: Folders of calibrations whose parents are among them.
        include_backbone: Copy the backbone, too.
        dtype: Of the adapters, as in `calora export --format gguf`.

    Raises:
        CaloraError: Two of one name, a calibration without its parents, or one whose parent was trained again.
    """
    if dtype not in (known := exporters()["gguf"].dtypes):
        raise CaloraError(f"a bundle's adapters cannot be {dtype}", f"expected {', '.join(known)}")
    layout = read_layout(backbone)
    if include_backbone and layout.path.is_dir():
        raise CaloraError(f"{backbone} is no GGUF file", "a bundle carries a backbone as one GGUF file")
    names: dict[str, AdapterEntry] = {}
    compositions: dict[str, CompositionEntry] = {}
    with writing_folder(Path(target)) as temporary:
        for folder in adapters:
            name, entry = _add_adapter(Path(folder), layout, temporary, dtype)
            if name in names:
                raise CaloraError(f"two adapters are for {name}", "give one of each task")
            names[name] = entry
        for folder in calibrations:
            name, composition = _add_calibration(Path(folder), names, temporary)
            if name in compositions or name in names:
                raise CaloraError(f"two of what is given are for {name}", "give one of each task and composition")
            compositions[name] = composition
        file = "backbone.gguf" if include_backbone else None
        if file:
            shutil.copyfile(layout.path, temporary / file)
        label = backbone if backbone in EMBEDDED else Path(backbone).name
        card = BundleCard(
            calora_version=calora.__version__,
            backbone=BackboneEntry(name=label, sha256=backbone_sha256(backbone), file=file),
            dtype=dtype,
            adapters=names,
            compositions=compositions,
        )
        write_text(temporary / _CARD, card.model_dump_json(indent=2) + "\n")
    return card


def add_composition(folder: str | Path, calibration: str | Path) -> BundleCard:
    """Add a calibration to a bundle, or replace the one of its composition; a device that runs takes it up by reload.

    Raises:
        CaloraError: Its parents are not in the bundle, or were trained again.
    """
    folder = Path(folder)
    card = read_card(folder / _CARD, BundleCard)
    name, entry = _add_calibration(Path(calibration), card.adapters, folder)
    if name in card.adapters:
        raise CaloraError(f"{folder} has an adapter for {name} already", "make the bundle again without it")
    card = card.model_copy(update={"compositions": {**card.compositions, name: entry}})
    write_text(folder / _CARD, card.model_dump_json(indent=2) + "\n")
    return card


def open_bundle(folder: str | Path, backbone: str | Path | None = None) -> Bundle:
    """Read a bundle; the files that it names are looked at only when they are used, or by `check_bundle`.

    Args:
        folder: The bundle.
        backbone: Its GGUF file or its folder, where the bundle does not carry it and its name is no embedded one.

    Raises:
        CaloraError: It is damaged, names a file outside itself, or the backbone is not found.
    """
    folder = Path(folder)
    card = read_card(folder / _CARD, BundleCard)
    files = [entry.file for entry in card.adapters.values()]
    files += [entry.calibration for entry in card.compositions.values()] + [card.backbone.file or "."]
    for file in files:
        if "\0" in file or not (folder / file).resolve().is_relative_to(folder.resolve()):
            raise CaloraError(f"{folder / _CARD} names {file!r}, outside the bundle", "do not use this bundle")
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
    file = bundle.folder / entry.calibration / "calibration.safetensors"
    calibration = bundle.calibration(name)
    card = calibration.card
    if sha256_of(file) != entry.sha256 or (card.composition, card.merge, tuple(card.parents)) != (
        name,
        entry.merge,
        entry.parents,
    ):
        raise CaloraError(f"{file.parent} is not what was bundled", "add the calibration to the bundle again")
    _check_parents(calibration, bundle.card.adapters, str(file.parent))
    check_calibration(_shaped(bundle.layout), calibration)
    return calibration


def _shaped(layout: Layout) -> Adapter:
    """An adapter of rank 0 on every module, which has their shapes."""
    shapes = layout.shapes.items()
    return Adapter(
        {name: Factors(np.zeros((0, i), np.float32), np.zeros((o, 0), np.float32)) for name, (o, i) in shapes}
    )


def _check_name(name: str, where: Path) -> None:
    if not re.fullmatch(r"[\w-]+(\+[\w-]+)*", name):
        raise CaloraError(f"{where} is for {name!r}", "expected the name of a task, or names joined by +")


def _add_adapter(folder: Path, layout: Layout, target: Path, dtype: str) -> tuple[str, AdapterEntry]:
    adapter = read_adapter(folder)
    if adapter.card is None or adapter.card.prompt is None:
        raise CaloraError(f"{folder} does not say its task and prompt", "bundle adapters that calora trained")
    layout.check(adapter)
    name = adapter.card.name
    _check_name(name, folder)
    file = f"adapters/{name}.gguf"
    write_gguf(fit_rank(adapter, None)[0], layout, target / file, dtype)
    return name, AdapterEntry(
        file=file,
        sha256=sha256_of(target / file),
        source_sha256=adapter_sha256(folder),
        prompt=adapter.card.prompt,
    )


def _add_calibration(folder: Path, adapters: dict[str, AdapterEntry], target: Path) -> tuple[str, CompositionEntry]:
    calibration = read_calibration(folder)
    card = calibration.card
    _check_parents(calibration, adapters, str(folder))
    if card.prompt is None:
        raise CaloraError(f"{folder} does not say its prompt", "calibrate again with this version")
    _check_name(card.composition, folder)
    place = f"calibrations/{card.composition}"
    with writing_folder(target / place) as temporary:
        for name in ("calibration.json", "calibration.safetensors"):
            shutil.copyfile(folder / name, temporary / name)
    return card.composition, CompositionEntry(
        calibration=place,
        sha256=sha256_of(folder / "calibration.safetensors"),
        merge=card.merge,
        parents=tuple(card.parents),
        prompt=card.prompt,
    )


def _check_parents(calibration: Calibration, adapters: dict[str, AdapterEntry], where: str) -> None:
    card = calibration.card
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


def _model_file(folder: Path, entry: BackboneEntry, given: str | Path | None) -> Path:
    if given is not None:
        return Path(given)
    if entry.file:
        return folder / entry.file
    if entry.name in EMBEDDED:
        return embedded_gguf(entry.name)
    raise CaloraError(f"{folder} does not carry its backbone {entry.name}", "name its GGUF file")
