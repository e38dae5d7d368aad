"""Merges whose numbers were learnt: a strength for every module, a projection for every kind of module."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict

from calora.adapter import Adapter, Factors, module_kind
from calora.errors import CaloraError
from calora.merging.inputs import checked, names
from calora.storage import Array, read_card, read_tensors, write_tensors, write_text, writing_folder

_TENSORS, _CARD = "learnt.safetensors", "learnt.json"


class LearntCard(BaseModel):
    """What stands beside the learnt numbers of a merge."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    method: str
    composition: str
    training: dict[str, Any]


@dataclass(frozen=True)
class Learnt:
    """What was learnt for a merge of certain adapters, in a certain order.

    Args:
        card: Which method, for which composition, and how.
        tensors: Name to values; the method says which.
    """

    card: LearntCard
    tensors: Mapping[str, Array]

    @property
    def parameters(self) -> int:
        """The number of learnt values."""
        return sum(tensor.size for tensor in self.tensors.values())


def write_learnt(learnt: Learnt, path: Path) -> None:
    """Write what was learnt as a folder."""
    with writing_folder(path) as folder:
        write_tensors(folder / _TENSORS, learnt.tensors)
        write_text(folder / _CARD, learnt.card.model_dump_json(indent=2) + "\n")


def read_learnt(path: Path) -> Learnt:
    """Read what `write_learnt` wrote.

    Raises:
        CaloraError: A file is missing or is not what it should be.
    """
    return Learnt(read_card(path / _CARD, LearntCard), read_tensors(path / _TENSORS))


def per_module(adapters: Sequence[Adapter], strengths: Mapping[str, Array]) -> Adapter:
    """Concatenate adapters with strengths of each module's own: dW' = sum_i w_i B_i A_i, w of the module.

    Args:
        adapters: Adapters of any ranks with the same modules.
        strengths: Module to w [N].

    Returns:
        An adapter of rank sum r_i.

    Raises:
        CaloraError: The adapters differ in modules or shapes, or a module lacks its strengths.
    """
    modules = {}
    for module, pairs in pairs_by_module(adapters).items():
        w = _of(strengths, module, (len(pairs),))
        b = np.concatenate([value * pair.b for value, pair in zip(w, pairs, strict=True)], axis=1)
        modules[module] = Factors(np.concatenate([pair.a for pair in pairs]), b)
    return Adapter(modules)


def projected(adapters: Sequence[Adapter], projections: Mapping[str, Array]) -> Adapter:
    """Join adapters through a projection: dW' = [B_1 ... B_N] C [A_1; ...; A_N], with C of the module's kind.

    C diagonal with 1/N is the mean of the updates; its blocks off the diagonal join one task's A to another's B.

    Args:
        adapters: Adapters with the same modules, each of one rank.
        projections: Kind of module (`q_proj`) to C [R, R], R = sum r_i.

    Returns:
        An adapter of rank R.

    Raises:
        CaloraError: The adapters differ in modules or shapes, or a kind of module lacks its projection.
    """
    modules = {}
    for module, pairs in pairs_by_module(adapters).items():
        rank = sum(pair.rank for pair in pairs)
        b = np.concatenate([pair.b for pair in pairs], axis=1) @ _of(projections, module_kind(module), (rank, rank))
        modules[module] = Factors(np.concatenate([pair.a for pair in pairs]), b)
    return Adapter(modules)


def pairs_by_module(adapters: Sequence[Adapter]) -> dict[str, list[Factors]]:
    """Each module's factors, one pair an adapter.

    Raises:
        CaloraError: The adapters differ in modules or shapes.
    """
    checked(adapters, None, 1.0)
    first, *others = adapters
    for name, adapter in zip(names(adapters)[1:], others, strict=True):
        if adapter.modules.keys() != first.modules.keys():
            raise CaloraError(
                f"{name} has other modules than {names(adapters)[0]}",
                "a learnt merge needs adapters of the same modules",
            )
    return {module: [adapter.modules[module] for adapter in adapters] for module in first.modules}


def _of(learnt: Mapping[str, Array], name: str, shape: tuple[int, ...]) -> Array:
    """What was learnt for a module or a kind of module."""
    if name not in learnt:
        raise CaloraError(f"nothing was learnt for {name}", f"there is: {', '.join(list(learnt)[:4])} ...")
    if learnt[name].shape != shape:
        raise CaloraError(
            f"what was learnt for {name} is {learnt[name].shape}, these adapters need {shape}",
            "give the adapters that it was learnt for, in their order",
        )
    return learnt[name]
