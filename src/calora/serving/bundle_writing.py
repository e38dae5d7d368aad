"""Make a bundle, or add a composition to one."""

import re
import shutil
from collections.abc import Sequence
from pathlib import Path

import calora
from calora.adapter import adapter_sha256, read_adapter
from calora.backbone import backbone_sha256
from calora.calibration import read_calibration
from calora.embedded import EMBEDDED
from calora.errors import CaloraError
from calora.export.gguf import write_gguf
from calora.export.layout import Layout, read_layout
from calora.export.ranks import fit_rank
from calora.export.registry import exporters
from calora.serving.bundle import CARD, AdapterEntry, BackboneEntry, BundleCard, CompositionEntry, check_parents
from calora.storage import read_card, sha256_of, write_text, writing_folder


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
        write_text(temporary / CARD, card.model_dump_json(indent=2) + "\n")
    return card


def add_composition(folder: str | Path, calibration: str | Path) -> BundleCard:
    """Add a calibration to a bundle, or replace the one of its composition; a device that runs takes it up by reload.

    Raises:
        CaloraError: Its parents are not in the bundle, or were trained again.
    """
    folder = Path(folder)
    card = read_card(folder / CARD, BundleCard)
    name, entry = _add_calibration(Path(calibration), card.adapters, folder)
    if name in card.adapters:
        raise CaloraError(f"{folder} has an adapter for {name} already", "make the bundle again without it")
    card = card.model_copy(update={"compositions": {**card.compositions, name: entry}})
    write_text(folder / CARD, card.model_dump_json(indent=2) + "\n")
    return card


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
    check_parents(calibration, adapters, str(folder))
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
