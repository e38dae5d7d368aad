"""Make a bundle, or add a composition to one."""

import re
import shutil
from collections.abc import Sequence
from pathlib import Path

import calora
from calora.adapter import Adapter, AdapterCard, adapter_sha256, fit_for, read_adapter
from calora.backbone import warn_of_other_weights
from calora.backbone_files import backbone_sha256
from calora.calibration import Calibration, read_calibration
from calora.embedded import EMBEDDED
from calora.errors import CaloraError
from calora.export.gguf import write_gguf
from calora.export.layout import Layout, read_layout
from calora.export.ranks import fit_rank
from calora.export.registry import exporters
from calora.serving.bundle import (
    CALIBRATION_FILES,
    CARD,
    AdapterEntry,
    BackboneEntry,
    BundleCard,
    CompositionEntry,
    calibration_sha256,
    check_fit,
    open_bundle,
)
from calora.storage import made_once, read_card, sha256_of, write_text, writing_folder


def write_bundle(
    target: str | Path,
    backbone: str | None,
    adapters: Sequence[str | Path],
    calibrations: Sequence[str | Path] = (),
    *,
    include_backbone: bool = False,
    dtype: str = "float16",
) -> BundleCard:
    """Make a bundle, with a warning for each adapter that was trained on other weights than the backbone's.

    Args:
        target: The folder, replaced whole if it is there.
        backbone: An embedded name or a GGUF file; or a Hugging Face folder or hub id, which torch will run. That of the
            first adapter's card if None.
        adapters: Folders of single-task adapters.
        calibrations: Folders of calibrations whose parents are among them.
        include_backbone: Copy the backbone, too.
        dtype: Of the adapters, as in `calora export --format gguf`.

    Raises:
        CaloraError: Two of one name, an adapter or a calibration that does not fit the backbone, a calibration without
            its parents, or one whose parent was trained again.
    """
    if dtype not in (known := exporters()["gguf"].dtypes):
        raise CaloraError(f"a bundle's adapters cannot be {dtype}", f"expected {', '.join(known)}")
    layout = read_layout(backbone or _own_backbone(Path(adapters[0])))
    if include_backbone and layout.path.is_dir():
        raise CaloraError(f"{layout.name} is no GGUF file", "a bundle carries a backbone as one GGUF file")
    sha256 = backbone_sha256(layout.name)
    names: dict[str, AdapterEntry] = {}
    compositions: dict[str, CompositionEntry] = {}
    fitting = [fit_rank(_read_adapter(Path(folder), layout), None)[0] for folder in adapters]
    with writing_folder(Path(target)) as temporary:
        for folder, adapter in zip(adapters, fit_for(dtype, fitting), strict=True):
            origin, entry = _add_adapter(adapter, Path(folder), layout, temporary, dtype)
            if origin.name in names:
                raise CaloraError(f"two adapters are for {origin.name}", "give one of each task")
            warn_of_other_weights(origin, sha256)
            names[origin.name] = entry
        for folder in calibrations:
            calibration = _read_calibration(Path(folder), temporary, names, layout)
            name = calibration.card.composition
            if name in compositions or name in names:
                raise CaloraError(f"two of what is given are for {name}", "give one of each task and composition")
            compositions[name] = _add_calibration(calibration, Path(folder), temporary)
        file = "backbone.gguf" if include_backbone else None
        if file:
            shutil.copyfile(layout.path, temporary / file)
        of_a_name = layout.name in EMBEDDED or not Path(layout.name).exists()
        label = layout.name if of_a_name else Path(layout.name).name
        card = BundleCard(
            calora_version=calora.__version__,
            backbone=BackboneEntry(name=label, sha256=sha256, file=file),
            dtype=dtype,  # type: ignore[arg-type]
            adapters=names,
            compositions=compositions,
        )
        write_text(temporary / CARD, card.model_dump_json(indent=2) + "\n")
    return card


def add_composition(folder: str | Path, calibration: str | Path, backbone: str | Path | None = None) -> BundleCard:
    """Add a calibration to a bundle, or let it take the place of its composition's; a device takes it up by reload.

    Whoever reads the bundle meanwhile finds the old one or the new one whole: the files of a calibration that is
    replaced stay until the bundle is made again.

    Args:
        folder: The bundle.
        calibration: Its folder.
        backbone: As `open_bundle` has it.

    Raises:
        CaloraError: It does not fit the backbone, or its parents are not in the bundle or were trained again.
    """
    folder, source = Path(folder), Path(calibration)
    layout = open_bundle(folder, backbone).layout
    with made_once(folder / CARD):
        card = read_card(folder / CARD, BundleCard)
        found = _read_calibration(source, folder, card.adapters, layout)
        name = found.card.composition
        if name in card.adapters:
            raise CaloraError(f"{folder} has an adapter for {name} already", "make the bundle again without it")
        entry = _add_calibration(found, source, folder)
        card = card.model_copy(update={"compositions": {**card.compositions, name: entry}})
        write_text(folder / CARD, card.model_dump_json(indent=2) + "\n")
    return card


def _check_name(name: str, where: Path) -> None:
    if not re.fullmatch(r"[\w-]+(\+[\w-]+)*", name):
        raise CaloraError(f"{where} is for {name!r}", "expected the name of a task, or names joined by +")


def _own_backbone(folder: Path) -> str:
    card = read_adapter(folder).card
    if card is None:
        raise CaloraError(f"{folder} does not say its backbone", "name it with --backbone")
    return card.backbone


def _read_adapter(folder: Path, layout: Layout) -> Adapter:
    adapter = read_adapter(folder)
    layout.check(adapter)
    return adapter


def _add_adapter(
    adapter: Adapter, folder: Path, layout: Layout, target: Path, dtype: str
) -> tuple[AdapterCard, AdapterEntry]:
    card = adapter.card
    if card is None or card.prompt is None:
        raise CaloraError(f"{folder} does not say its task and prompt", "bundle adapters that calora trained")
    _check_name(card.name, folder)
    file = f"adapters/{card.name}.gguf"
    write_gguf(adapter, layout, target / file, dtype)
    return card, AdapterEntry(
        file=file, sha256=sha256_of(target / file), source_sha256=adapter_sha256(folder), prompt=card.prompt
    )


def _read_calibration(folder: Path, target: Path, adapters: dict[str, AdapterEntry], layout: Layout) -> Calibration:
    calibration = read_calibration(folder)
    _check_name(calibration.card.composition, folder)
    check_fit(calibration, target, adapters, layout, str(folder))
    return calibration


def _add_calibration(calibration: Calibration, folder: Path, target: Path) -> CompositionEntry:
    card, sha256 = calibration.card, calibration_sha256(folder)
    if card.prompt is None:
        raise CaloraError(f"{folder} does not say its prompt", "calibrate again with this version")
    place = f"calibrations/{card.composition}-{sha256[:16]}"
    with writing_folder(target / place) as temporary:
        for name in CALIBRATION_FILES:
            shutil.copyfile(folder / name, temporary / name)
    return CompositionEntry(
        calibration=place, sha256=sha256, merge=card.merge, parents=tuple(card.parents), prompt=card.prompt
    )
