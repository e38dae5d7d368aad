"""Which LoRA files a composition is made of on a device, at which scales; what is not in the bundle is made and cached.

With the `product` start the adapters that are there anyway are switched on at their strengths, and the calibration is
one more LoRA of rank 1 or 4 beside them, expanded from its shared file. With the `factors` start, or a calibration
that scales rows, the merged and calibrated adapter is made in numpy, and is one file.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from calora.adapter import Adapter, Factors, fit_for
from calora.calibration import Calibration, fold, site_of
from calora.embedded import cache_folder
from calora.export.gguf import write_gguf
from calora.export.ranks import fit_rank
from calora.serving.bundle import Bundle
from calora.storage import fingerprint

_VERSION = 2  # a calibration stands where the merge has a module, before at every module of the backbone


@dataclass(frozen=True)
class Parts:
    """What to load for a composition.

    Args:
        files: Name, unique in the bundle, to a LoRA file.
        scales: The same names to their scales.
    """

    files: dict[str, Path]
    scales: dict[str, float]


def is_beside(calibration: Calibration) -> bool:
    """Whether a composition is its adapters, switched on by scales, and its calibration beside them."""
    return calibration.card.merge.start == "product" and calibration.card.kind in ("column-bias", "low-rank")


def parts_of(bundle: Bundle, calibration: Calibration, calibrated: bool = True) -> Parts:
    """The parts of a composition.

    Args:
        bundle: It has the composition.
        calibration: The composition's, as `check_composition` gave it.
        calibrated: False for the plain merge that the calibration starts from.

    Raises:
        CaloraError: An adapter of the bundle is damaged, or the cache cannot be written.
    """
    name, merge = calibration.card.composition, calibration.card.merge
    parents = bundle.parents(name)
    if is_beside(calibration):
        strengths = merge.strengths or (1.0,) * len(parents)
        files = {parent: bundle.adapter_file(parent) for parent in parents}
        scales = dict(zip(parents, strengths, strict=True))
        if not calibrated:
            return Parts(files, scales)
        own = f"calibration {name}"
        dtype = "float32" if bundle.card.dtype == "float32" else "float16"
        file = _cached(bundle, name, "beside", lambda: expanded(calibration, bundle.shapes_of(name)), dtype)
        return Parts({**files, own: file}, {**scales, own: 1.0})

    def whole() -> Adapter:
        merged = merge([bundle.adapter(parent) for parent in parents])
        return fold(merged, calibration) if calibrated else merged

    own = f"{'calibrated' if calibrated else 'merged'} {name}"
    return Parts({own: _cached(bundle, name, own.split()[0], whole, bundle.card.dtype)}, {own: 1.0})


def expanded(calibration: Calibration, shapes: Mapping[str, tuple[int, int]]) -> Adapter:
    """A column bias or a low-rank calibration alone, as a LoRA: its shared parameters at every module of the merge.

    Args:
        calibration: Of either kind.
        shapes: Module of the merge to (out, in).
    """
    modules = {}
    for module, (_, inside) in shapes.items():
        site = site_of(module, calibration.card)
        if site is None:
            continue
        if calibration.card.kind == "low-rank":
            modules[module] = Factors(calibration.tensors[f"{site}.p1"], calibration.tensors[f"{site}.p2"])
        else:
            ones = np.ones((1, inside), np.float32)
            modules[module] = Factors(ones, calibration.tensors[f"{site}.p"][:, None])
    return Adapter(modules)


def _cached(bundle: Bundle, name: str, what: str, make: Callable[[], Adapter], dtype: str) -> Path:
    """A LoRA file made from the bundle, found again by the content of all that it is made of."""
    entry = bundle.card.compositions[name]
    parents = {parent: bundle.card.adapters[parent].sha256 for parent in entry.parents}
    key = fingerprint([_VERSION, what, dtype, entry.sha256, str(entry.merge), parents, bundle.card.backbone.sha256])
    file = cache_folder() / "device" / f"{key}.gguf"
    if not file.exists():
        write_gguf(fit_for(dtype, [fit_rank(make(), None)[0]])[0], bundle.layout, file, dtype)
    return file
