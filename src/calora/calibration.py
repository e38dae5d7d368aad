"""Calibrations: the few learnt parameters of a composition, and how they fold into its merged adapter."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from pydantic import BaseModel, ConfigDict

from calora.adapter import Adapter, AdapterCard, Factors, module_kind
from calora.errors import CaloraError
from calora.merging import Merge
from calora.storage import Array, read_card, read_tensors, write_tensors, write_text, writing_folder
from calora.tasks import Prompt

Kind = Literal["column-bias", "row-scale", "output-bias", "output-scale", "low-rank"]
Shared = Literal["kind", "layer"]
KINDS: tuple[Kind, ...] = get_args(Kind)
SCALES: tuple[Kind, ...] = ("row-scale", "output-scale")
_NO_LORA: dict[Kind, str] = {
    "output-bias": "it adds a constant, and a LoRA is linear in its input",
    "output-scale": "it scales what the backbone's own weights give, too",
}


class CalibrationCard(BaseModel):
    """What stands in calibration.json.

    Args:
        kind: `column-bias`, `row-scale`, `output-bias`, `output-scale` (as IA3 has it) or `low-rank`.
        rank: Of the low-rank kind.
        shared: By all layers per kind of module, or a calibration a layer.
        sites: The kinds of module that are calibrated, such as `q_proj`; all if None.
        composition: That it was learnt for.
        merge: Of the parents.
        parents: Name to the SHA-256 of the tensors of each adapter that is merged.
        backbone: Its name.
        backbone_sha256: Its SHA-256.
        prompt: That it was trained with.
        training: A summary.
        calora_version: That made it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Kind
    rank: int
    shared: Shared
    sites: tuple[str, ...] | None = None
    composition: str
    merge: Merge
    parents: dict[str, str] = {}
    backbone: str
    backbone_sha256: str
    prompt: Prompt | None = None
    training: dict[str, Any] = {}
    calora_version: str = ""


@dataclass(frozen=True)
class Calibration:
    """Learnt tensors by site: a site is a kind of module, or one module where layers do not share.

    Args:
        card: Kind, rank, sharing and where it comes from.
        tensors: `SITE.p` [out], of a scale what it adds to 1; or `SITE.p1` [rank, in] and `SITE.p2` [out, rank] for
            low-rank.
    """

    card: CalibrationCard
    tensors: Mapping[str, Array]

    @property
    def parameters(self) -> int:
        """The number of learnt values."""
        return sum(tensor.size for tensor in self.tensors.values())


@dataclass(frozen=True)
class Unfolded:
    """A calibrated merge that no LoRA can hold, kept in its two parts."""

    merged: Adapter
    calibration: Calibration

    @property
    def card(self) -> CalibrationCard:
        """What it was calibrated for."""
        return self.calibration.card


def site_of(module: str, card: CalibrationCard) -> str | None:
    """The site whose parameters a module uses; None if it is not calibrated."""
    kind = module_kind(module)
    if card.sites is not None and kind not in card.sites:
        return None
    return kind if card.shared == "kind" else module


def site_shapes(merged: Adapter, card: CalibrationCard) -> dict[str, tuple[int, int]]:
    """(out, in) of each site.

    Raises:
        CaloraError: Modules of one kind differ in shape, so that layers cannot share; or a site is none of the merge's.
    """
    unknown = set(card.sites or ()) - {module_kind(module) for module in merged.modules}
    if unknown:
        raise CaloraError(
            f"no module to calibrate is a {', '.join(sorted(unknown))}",
            f"kinds of module: {', '.join(sorted({module_kind(module) for module in merged.modules}))}",
        )
    shapes: dict[str, tuple[int, int]] = {}
    for module, factors in merged.modules.items():
        site = site_of(module, card)
        if site is None:
            continue
        if shapes.setdefault(site, factors.shape) != factors.shape:
            raise CaloraError(
                f"{module} is {factors.shape}, other {site} modules are {shapes[site]}: layers cannot share",
                "calibrate with shared=layer",
            )
    return shapes


def fresh_tensors(card: CalibrationCard, merged: Adapter, seed: int = 0) -> dict[str, Array]:
    """The start of training, which is the identity on the merge.

    All start at 0, but P1 as LoRA's A does, uniform in +-1/sqrt(in).
    """
    random = np.random.default_rng(seed)
    tensors: dict[str, Array] = {}
    for site, (out, inside) in site_shapes(merged, card).items():
        if card.kind == "low-rank":
            bound = 1 / np.sqrt(inside)
            tensors[f"{site}.p1"] = random.uniform(-bound, bound, (card.rank, inside)).astype(np.float32)
            tensors[f"{site}.p2"] = np.zeros((out, card.rank), np.float32)
        else:
            tensors[f"{site}.p"] = np.zeros(out, np.float32)
    return tensors


def fold(merged: Adapter, calibration: Calibration) -> Adapter:
    """Write a calibrated merge as one adapter, exactly.

    Column bias: y += p (1 . x), so B' = [B | p], A' = [A ; 1]. Row scale: B' = diag(1 + p) B.
    Low rank: B' = [B | P2], A' = [A ; P1].

    Raises:
        CaloraError: The calibration does not fit the merge, or is of a kind that no LoRA can hold.
    """
    card = calibration.card
    if not foldable(card.kind):
        raise CaloraError(
            f"an {card.kind.replace('-', ' ')} cannot be folded: {_NO_LORA[card.kind]}",
            "use column-bias, row-scale or low-rank for a calibration that has to become an adapter",
        )
    check_calibration(merged, calibration)
    modules = {}
    for module, factors in merged.modules.items():
        site = site_of(module, card)
        if site is None:
            modules[module] = factors
            continue
        if card.kind == "low-rank":
            a, b = calibration.tensors[f"{site}.p1"], calibration.tensors[f"{site}.p2"]
        elif card.kind == "column-bias":
            a, b = np.ones((1, factors.shape[1]), np.float32), calibration.tensors[f"{site}.p"][:, None]
        else:
            modules[module] = Factors(factors.a, (1 + calibration.tensors[f"{site}.p"])[:, None] * factors.b)
            continue
        modules[module] = Factors(np.concatenate([factors.a, a]), np.concatenate([factors.b, b], axis=1))
    return Adapter(
        modules,
        AdapterCard(
            name=card.composition,
            backbone=card.backbone,
            backbone_sha256=card.backbone_sha256,
            prompt=card.prompt,
            parents=card.parents,
            training=card.training,
            added=calibration.parameters,
        ),
    )


def foldable(kind: Kind) -> bool:
    """Whether a calibration of this kind can become one adapter with its merge."""
    return kind not in _NO_LORA


def calibrated(merged: Adapter, calibration: Calibration) -> Adapter | Unfolded:
    """The calibrated merge: one adapter where there can be one, else the two parts.

    Raises:
        CaloraError: The calibration does not fit the merge.
    """
    if foldable(calibration.card.kind):
        return fold(merged, calibration)
    check_calibration(merged, calibration)
    return Unfolded(merged, calibration)


def check_calibration(merged: Adapter, calibration: Calibration) -> None:
    """Refuse a calibration whose sites or shapes are not those of the merge.

    Raises:
        CaloraError: Names the first tensor that is missing, extra or of another shape.
    """
    card = calibration.card
    expected = {name: tensor.shape for name, tensor in fresh_tensors(card, merged).items()}
    found = {name: tensor.shape for name, tensor in calibration.tensors.items()}
    for name in sorted(expected.keys() | found.keys()):
        if expected.get(name) != found.get(name):
            raise CaloraError(
                f"calibration {card.composition}: tensor {name} is {found.get(name, 'missing')}, "
                f"the merge needs {expected.get(name, 'none')}",
                "a calibration fits only the adapters and the backbone it was trained with",
            )


def check_order(card: CalibrationCard, where: str) -> None:
    """Refuse parents whose names say that they are not in the tasks' order, by which strengths and passes are given.

    Args:
        card: Its parents may have names that are no task's, which say nothing.
        where: What to call the calibration.

    Raises:
        CaloraError: A parent is named after a task of the composition, and stands at another one's place.
    """
    tasks = card.composition.split("+")
    if any(parent in tasks and parent != task for task, parent in zip(tasks, card.parents, strict=False)):
        raise CaloraError(
            f"{where} is for {card.composition} and has {', '.join(card.parents)} as its parents",
            "calibrate with the adapters in the order of the tasks",
        )


def write_calibration(calibration: Calibration, folder: str | Path) -> None:
    """Write calibration.safetensors (bfloat16) and calibration.json.

    Raises:
        CaloraError: The place cannot be written.
    """
    with writing_folder(Path(folder)) as temporary:
        write_tensors(temporary / "calibration.safetensors", calibration.tensors, "bfloat16")
        write_text(temporary / "calibration.json", calibration.card.model_dump_json(indent=2) + "\n")


def read_calibration(folder: str | Path) -> Calibration:
    """Read what `write_calibration` wrote.

    Raises:
        CaloraError: A file is missing or damaged.
    """
    folder = Path(folder)
    card = read_card(folder / "calibration.json", CalibrationCard)
    tensors = read_tensors(folder / "calibration.safetensors")
    for name in tensors:
        if not re.fullmatch(r".+\.(p|p1|p2)", name):
            raise CaloraError(f"{folder}: unexpected tensor {name}", "expected SITE.p, or SITE.p1 and SITE.p2")
    return Calibration(card, tensors)
