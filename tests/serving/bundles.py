"""Bundles of tiny adapters whose answers differ, for llama.cpp."""

import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from calora.adapter import AdapterCard, adapter_sha256, write_adapter
from calora.backbone import Backbone
from calora.calibration import Calibration, CalibrationCard, Kind, fresh_tensors, write_calibration
from calora.merging import Merge
from calora.serving import BundleCard
from calora.storage import read_card, sha256_of
from calora.tasks import Composition
from tests.conftest import random_adapter


@dataclass(frozen=True)
class Made:
    """What a bundle was made of.

    Attributes:
        backbone: In float32, by the name of its folder and the SHA-256 of its GGUF file.
        model: The same as a GGUF file.
        adapters: Task to its folder.
        calibrations: Composition to its folder.
    """

    backbone: Backbone
    model: Path
    adapters: dict[str, Path]
    calibrations: dict[str, Path]


def make_adapter(backbone: Backbone, task: str, place: Path, seed: int) -> Path:
    """A random adapter with a card, in a folder."""
    card = AdapterCard(
        name=task,
        backbone="tiny",
        backbone_sha256=backbone.sha256,
        prompt=backbone.prompt(Composition.parse(task)),
    )
    write_adapter(random_adapter(backbone, seed=seed, rank=4).with_card(card), place, "float32")
    return place


def make_calibration(
    backbone: Backbone,
    composition: str,
    parents: dict[str, Path],
    place: Path,
    merge: Merge,
    kind: Kind = "column-bias",
    seed: int = 0,
    shapes: dict[str, tuple[int, int]] | None = None,
) -> Path:
    """A random calibration of a composition whose merge has all modules, or those of `shapes`, in a folder."""
    names = composition.split("+")
    card = CalibrationCard(
        kind=kind,
        rank=4,
        shared="kind",
        composition=composition,
        merge=merge,
        parents={name: adapter_sha256(parents[name]) for name in names},
        backbone="tiny",
        backbone_sha256=backbone.sha256,
        prompt=backbone.prompt(Composition.parse(composition)),
    )
    merged = random_adapter(shapes or backbone)
    random = np.random.default_rng(seed)
    tensors = {
        name: (value + random.normal(0, 0.1, value.shape)).astype(np.float32)
        for name, value in fresh_tensors(card, merged).items()
    }
    write_calibration(Calibration(card, tensors), place)
    return place


def make_parts(backbone: Backbone, model: Path, place: Path) -> Made:
    """Four tasks, and compositions of each start and kind."""
    backbone = replace(backbone, sha256=sha256_of(model))
    tasks = ("summary", "reply", "es", "casual")
    adapters = {task: make_adapter(backbone, task, place / task, seed) for seed, task in enumerate(tasks)}
    product = Merge(start="product", strengths=(0.7, 0.9))
    wanted: list[tuple[str, Merge, Kind]] = [
        ("summary+es", product, "column-bias"),
        ("reply+es", product, "low-rank"),
        ("reply+casual", product, "row-scale"),
        ("summary+casual", Merge(start="factors"), "low-rank"),
    ]
    calibrations = {
        name: make_calibration(backbone, name, adapters, place / name, merge, kind, seed)
        for seed, (name, merge, kind) in enumerate(wanted)
    }
    return Made(backbone, model, adapters, calibrations)


def calibration_of(bundle: Path, composition: str) -> Path:
    """Where a composition's calibration lies."""
    return bundle / read_card(bundle / "bundle.json", BundleCard).compositions[composition].calibration


def edited(file: Path, **changes: Any) -> None:
    """Change values of a JSON file."""
    file.write_text(json.dumps(json.loads(file.read_text(encoding="utf-8")) | changes), encoding="utf-8")


def odd(parts: Made, folder: Path, **changes: Any) -> Path:
    """The calibration of summary+es, with other values in its card."""
    shutil.copytree(parts.calibrations["summary+es"], folder)
    edited(folder / "calibration.json", **changes)
    return folder
