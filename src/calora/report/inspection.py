"""An inspection of adapters as tables and as a heat map."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from rich import box
from rich.table import Table

from calora.adapter import module_kind
from calora.merging.diagnostics import WASHED_OUT, Inspection, ModuleFacts

_LAYER = re.compile(r"\.(\d+)\.")
_ORDER = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
Figure = Callable[[ModuleFacts], float]
_COMMON: tuple[tuple[str, Figure, str], ...] = (
    ("cosine", lambda one: one.cosine, ".2f"),
    ("signs in\nconflict %", lambda one: 100 * one.sign_conflict, ".0f"),
    ("overlap of\noutputs %", lambda one: 100 * one.output_overlap, ".0f"),
    ("overlap of\ninputs %", lambda one: 100 * one.input_overlap, ".0f"),
    ("of no\nadapter %", lambda one: 100 * one.foreign, ".0f"),
    ("cut to\nrank, error %", lambda one: 100 * one.cut, ".1f"),
)


def in_all(found: Inspection) -> Table:
    """Each adapter, all modules together: norm, mean effective rank, what the merge holds of it."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("adapter", no_wrap=True)
    for head in ("norm", "effective rank\nmean of modules", "share left\nin the merge", "modules"):
        table.add_column(head, justify="right")
    for place, (name, share) in enumerate(zip(found.names, found.shares(), strict=True)):
        norms = np.array([one.norms[place] for one in found.modules])
        ranks = [one.effective_ranks[place] for one in found.modules if one.norms[place]]
        text = f"{share:.2f}"
        table.add_row(
            name,
            f"{np.sqrt((norms**2).sum()):.3f}",
            f"{np.mean(ranks) if ranks else 0.0:.1f}",
            f"[bold yellow]{text}[/]" if abs(share) < WASHED_OUT else text,
            f"{np.count_nonzero(norms)}",
        )
    return table


def by_kind(found: Inspection) -> Table:
    """The means over the layers, a row for each kind of module; the last row is of all."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("module", no_wrap=True)
    for name in found.names:
        table.add_column(f"share of\n{name}", justify="right")
    for head, _, _ in _COMMON:
        table.add_column(head.replace("to\nrank", f"to\nrank {found.rank}"), justify="right")
    for kind in _kinds(found):
        table.add_row(kind, *_means(found, [one for one in found.modules if module_kind(one.module) == kind]))
    table.add_section()
    table.add_row("all", *_means(found, found.modules))
    return table


def _means(found: Inspection, modules: Sequence[ModuleFacts]) -> list[str]:
    shares = [f"{np.mean([one.shares[place] for one in modules]):.2f}" for place in range(len(found.names))]
    return shares + [f"{np.mean([figure(one) for one in modules]):{form}}" for _, figure, form in _COMMON]


def draw_map(found: Inspection, place: Path) -> None:
    """Draw layers against kinds of module, a panel for each adapter's share and for what adapters have in common.

    Args:
        found: The inspection.
        place: Of the picture; its ending says the format.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    kinds = _kinds(found)
    layers = sorted({_layer(one.module) for one in found.modules})
    panels: list[tuple[str, Figure, float, float, str]] = [
        (f"share of {name} in the merge", lambda one, at=index: one.shares[at], 0, 1, "viridis")  # type: ignore[misc]
        for index, name in enumerate(found.names)
    ]
    panels += [
        ("cosine of the updates", lambda one: one.cosine, -1, 1, "RdBu"),
        ("overlap of outputs", lambda one: one.output_overlap, 0, 1, "viridis"),
        ("overlap of inputs", lambda one: one.input_overlap, 0, 1, "viridis"),
        (f"error at rank {found.rank}", lambda one: one.cut, 0, 1, "magma"),
    ]
    figure, axes = plt.subplots(
        1, len(panels), figsize=(2.4 * len(panels) + 0.6, 0.24 * len(layers) + 1.9), squeeze=False, layout="constrained"
    )
    for axis, (title, value, low, high, colours) in zip(axes[0], panels, strict=True):
        values = np.full((len(layers), len(kinds)), np.nan)
        for one in found.modules:
            values[layers.index(_layer(one.module)), kinds.index(module_kind(one.module))] = value(one)
        image = axis.imshow(values, cmap=colours, vmin=low, vmax=max(high, float(np.nanmax(values))), aspect="auto")
        axis.set_title(title, fontsize=9)
        axis.set_xticks(range(len(kinds)), [kind.removesuffix("_proj") for kind in kinds], rotation=60, fontsize=8)
        axis.set_yticks(range(len(layers)), layers, fontsize=7)
        figure.colorbar(image, ax=axis, location="bottom", shrink=0.9).ax.tick_params(labelsize=7)
    axes[0][0].set_ylabel("layer", fontsize=8)
    figure.savefig(place, dpi=150)
    plt.close(figure)


def _kinds(found: Inspection) -> list[str]:
    """The kinds of module, attention before the MLP and in the order of computing."""
    kinds = dict.fromkeys(module_kind(one.module) for one in found.modules)
    return sorted(kinds, key=lambda kind: _ORDER.index(kind) if kind in _ORDER else len(_ORDER))


def _layer(module: str) -> int:
    match = _LAYER.search(module)
    return int(match[1]) if match else 0
