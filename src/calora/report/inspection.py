"""An inspection of adapters as tables and as a heat map."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from rich import box
from rich.table import Table
from rich.text import Text

from calora.adapter import layer_of, module_kind
from calora.merging.diagnostics import WASHED_OUT, Inspection, ModuleFacts, pairs_of
from calora.report.wide_table import WideTable

_ORDER = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
Figure = Callable[[ModuleFacts], float]
_OF_MERGE: tuple[tuple[str, Figure, str], ...] = (
    ("of no\nadapter %", lambda one: 100 * one.foreign, ".0f"),
    ("cut to\nrank, error %", lambda one: 100 * one.cut, ".1f"),
)

_OF_PAIRS: tuple[tuple[str, Callable[[ModuleFacts, int], float], str], ...] = (
    ("cosine", lambda one, pair: one.cosines[pair], ".2f"),
    ("overlap of\noutputs %", lambda one, pair: 100 * one.output_overlaps[pair], ".0f"),
    ("overlap of\ninputs %", lambda one, pair: 100 * one.input_overlaps[pair], ".0f"),
)


def in_all(found: Inspection) -> Table:
    """Each adapter, all modules together: norm, mean effective rank, what the merge holds of it."""
    table = WideTable(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("adapter")
    for head in ("norm", "effective rank\nmean of modules", "share left\nin the merge", "modules"):
        table.add_column(head, justify="right")
    for place, (name, share) in enumerate(zip(found.names, found.shares(), strict=True)):
        norms = np.array([one.norms[place] for one in found.modules])
        ranks = [one.effective_ranks[place] for one in found.modules if one.norms[place]]
        text = f"{share:.2f}"
        table.add_row(
            Text(name),
            f"{np.sqrt((norms**2).sum()):.3f}",
            f"{np.mean(ranks) if ranks else 0.0:.1f}",
            f"[bold yellow]{text}[/]" if abs(share) < WASHED_OUT else text,
            f"{np.count_nonzero(norms)}",
        )
    return table


def by_kind(found: Inspection) -> Table:
    """What the merge holds: means over the layers, a row for each kind of module; the last row is of all."""
    table = WideTable(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("module")
    for name in found.names:
        table.add_column(Text(f"share of\n{name}"), justify="right")
    for head, _, _ in _OF_MERGE:
        table.add_column(head.replace("to\nrank", f"to\nrank {found.rank}"), justify="right")
    for kind, members in _by_kind(found).items():
        shares = [f"{np.mean([one.shares[place] for one in members]):.2f}" for place in range(len(found.names))]
        figures = [f"{np.mean([figure(one) for one in members]):{form}}" for _, figure, form in _OF_MERGE]
        table.add_row(Text(kind), *shares, *figures, end_section=kind == _last_kind(found))
    return table


def between(found: Inspection) -> Table:
    """What adapters have to do with each other: of two a row for each kind of module, of more a row for each pair."""
    table = WideTable(box=box.SIMPLE_HEAD, pad_edge=False)
    two = len(found.names) == 2
    table.add_column("module" if two else "adapters")
    of_two = [("signs in\nconflict %", lambda one, pair: 100 * one.sign_conflict, ".0f")] if two else []
    columns = [*_OF_PAIRS, *of_two]
    for head, _, _ in columns:
        table.add_column(head, justify="right")
    rows = [(kind, 0, members) for kind, members in _by_kind(found).items()]
    if not two:
        rows = [(", ".join(pair), place, found.modules) for place, pair in enumerate(pairs_of(found.names))]
    for name, pair, members in rows:
        means = [f"{np.mean([figure(one, pair) for one in members]):{form}}" for _, figure, form in columns]
        table.add_row(Text(name), *means, end_section=two and name == _last_kind(found))
    return table


def _by_kind(found: Inspection) -> dict[str, Sequence[ModuleFacts]]:
    members: dict[str, Sequence[ModuleFacts]] = {
        kind: [one for one in found.modules if module_kind(one.module) == kind] for kind in _kinds(found)
    }
    return members | {"all": found.modules}


def _last_kind(found: Inspection) -> str:
    return _kinds(found)[-1]


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
    layers = sorted({layer_of(one.module) or 0 for one in found.modules})
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
            values[layers.index(layer_of(one.module) or 0), kinds.index(module_kind(one.module))] = value(one)
        least, most = min(low, float(np.nanmin(values))), max(high, float(np.nanmax(values)))
        image = axis.imshow(values, cmap=colours, vmin=least, vmax=most, aspect="auto")
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
