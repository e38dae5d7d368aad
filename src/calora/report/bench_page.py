"""One self-contained HTML page of a benchmark's run: nothing in it is fetched from anywhere."""

import json
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from calora.bench.recipe import Recipe
from calora.bench.rows import choice_file
from calora.errors import CaloraError
from calora.metrics import mean_score
from calora.report.bench_charts import STORAGE_HEIGHT, CostChart, cost_chart, storage_chart
from calora.report.browser import browser_data
from calora.report.charts import PANEL_HEIGHT, Panel, panels
from calora.report.folder import is_control
from calora.report.main_table import MainTable, main_table
from calora.report.page import rendered
from calora.report.results import MEASURE_NAMES, Measure, Results
from calora.report.table import NOTHING, chance_line, one_line, own_columns
from calora.report.table_forms import MainColumn, main_columns, shown
from calora.storage import write_text
from calora.versions import versions


@dataclass(frozen=True)
class Heat:
    """A heat map.

    Attributes:
        of: What stands in its columns.
        heads: Of the columns.
        rows: Title of a row to the figure and its share of the highest in the map, or None, for each column.
    """

    of: str
    heads: list[str]
    rows: list[tuple[str, list[tuple[str, float] | None]]]


@dataclass(frozen=True)
class View:
    """Everything on the page that is of one measure."""

    measure: Measure
    name: str
    table: MainTable
    columns: list[MainColumn]
    chart: CostChart
    heats: list[Heat]


def write_bench_page(results: Results, measure: Measure = "retrieval", against: str | None = None) -> Path:
    """Write report.html into the folder of a benchmark's run.

    Args:
        results: What `read_results` read.
        measure: That the page shows first.
        against: Label of the row that the others are compared with, as for `main_table`.

    Returns:
        The page's path.

    Raises:
        CaloraError: As `main_table`, or a file is damaged, or the page cannot be written.
    """
    views = [_view(results, one, against, asked=one == measure) for one in results.measures]
    first = next(view for view in views if view.measure == measure)
    cells = results.cells()
    page = rendered(
        "bench_page.html.j2",
        name=results.run.resolve().name,
        backbones=sorted({cell.backbone for cell in cells}),
        seeds=sorted({cell.seed for cell in cells}),
        first=_first(results.recipe),
        dialogues=len(results.dialogues),
        compositions=results.compositions,
        tasks=len({task for name in results.compositions for task in results.recipe.parse(name).tasks}),
        chances=sorted({f"{cell.chance:.1f}" for cell in cells}, key=float),
        views=[first, *(view for view in views if view is not first)],
        shown=shown,
        one_line=one_line,
        nothing=NOTHING,
        own=results.own,
        own_columns=own_columns(),
        own_caption=chance_line(results.own),
        is_control=is_control,
        storage=storage_chart(first.table.rows, len(results.compositions)),
        storage_height=STORAGE_HEIGHT,
        curves=_curves(results),
        panel_height=PANEL_HEIGHT,
        searches=_searches(results),
        recipe=results.recipe.model_dump_json(indent=2),
        made=_made(results),
        versions=list(versions().items()),
        left_out=len(results.left_out),
        data=_script(browser_data(results)),
    )
    path = results.run / "report.html"
    write_text(path, page)
    return path


def _view(results: Results, measure: Measure, against: str | None, *, asked: bool) -> View:
    """A measure's view; one that was not asked for has no comparison where the reference lacks the measure."""
    known = against is None or asked or bool(results.having(against, measure))
    table = main_table(results, measure, against, compared=known)
    return View(
        measure, MEASURE_NAMES[measure], table, main_columns(table), cost_chart(table.rows), _heats(results, table)
    )


def _heats(results: Results, table: MainTable) -> list[Heat]:
    """By composition, and by domain over the compositions that a row has."""
    scores = {
        (row.label, name): results.entries[row.label, name].scores[table.measure]
        for row in table.rows
        for name in results.having(row.label, table.measure)
    }
    domains = results.domains
    of: dict[str, dict[tuple[str, str], float]] = {"composition": {}, "domain": {}}
    for (label, name), found in scores.items():
        of["composition"][label, name] = mean_score(found)
    for row in table.rows:
        tables = [found for (label, _), found in scores.items() if label == row.label]
        for domain in sorted(set(domains)):
            parts = [found[:, [one == domain for one in domains]] for found in tables]
            # Compositions count alike, as they do in the table.
            means = [float(np.nanmean(part)) for part in parts if not np.isnan(part).all()]
            if means:
                of["domain"][row.label, domain] = fmean(means)
    heads = {"composition": list(results.compositions), "domain": sorted(set(domains))}
    return [_heat(name, heads[name], table, means) for name, means in of.items()]


def _first(recipe: Recipe) -> str:
    """Which repeat the browser shows: the recipe's first."""
    seed = f"seed {recipe.seeds[0]}"
    return seed if len(recipe.backbones) == 1 else f"{seed} on {recipe.backbones[0]}"


def _heat(name: str, heads: list[str], table: MainTable, means: dict[tuple[str, str], float]) -> Heat:
    most = max(means.values()) or 1.0

    def place(label: str, head: str) -> tuple[str, float] | None:
        value = means.get((label, head))
        return None if value is None else (f"{value:.1f}", round(value / most, 3))

    return Heat(name, heads, [(row.title, [place(row.label, head) for head in heads]) for row in table.rows])


def _curves(results: Results) -> list[tuple[str, list[tuple[str, list[Panel]]]]]:
    """Title of a row to the (name, panels) of each training that its cells tell of, single tasks first."""
    named = [("Single tasks", [(cell.title, cell) for cell in results.own])] + [
        (title, [(f"{cell.composition}, seed {cell.seed}", cell) for cell in results.cells(label)])
        for label, title in results.titles.items()
    ]
    found = []
    for title, cells in named:
        cards = [
            (name, panels(training.get("validation") or []))
            for name, cell in cells
            for training in cell.provenance.get("training") or []
        ]
        cards = [card for card in cards if card[1]]
        if cards:
            found.append((title, cards))
    return found


def _searches(results: Results) -> list[dict[str, Any]]:
    """Title, backbone and candidates, the best first, of each search."""
    found = []
    for label, title in results.titles.items():
        for backbone in results.recipe.backbones:
            path = choice_file(results.run, label, backbone)
            if path.exists():
                found.append({"title": title, "backbone": backbone, "tried": _tried(path)})
    return found


def _tried(path: Path) -> list[dict[str, Any]]:
    try:
        choice = json.loads(path.read_text(encoding="utf-8"))
        return [
            {
                "options": ", ".join(f"{key} {value}" for key, value in trial["options"].items()) or "as published",
                "retrieval": "failed" if trial.get("failed") else f"{trial['retrieval']:.1f}",
                "rouge": trial.get("failed") or f"{trial['rouge']:.1f}",
                "chosen": trial["options"] == choice["options"],
            }
            for trial in sorted(choice["tried"], key=lambda trial: (-trial["retrieval"], -trial["rouge"]))
        ]
    except (ValueError, KeyError, TypeError) as error:
        raise CaloraError(f"{path} is no choice of a search: {error!r}", "remove it and run again") from error


def _made(results: Results) -> list[dict[str, Any]]:
    """Backbone, seed, SHA-256, precisions and number of cells, a line for each backbone and seed."""
    repeats = sorted({(cell.backbone, cell.seed) for cell in results.cells()})
    lines = []
    for backbone, seed in repeats:
        cells = [cell for cell in results.cells() if (cell.backbone, cell.seed) == (backbone, seed)]
        told = {
            key: sorted({str(cell.provenance.get(key, NOTHING)) for cell in cells}) for key in ("backbone", "dtype")
        }
        lines.append(
            {
                "backbone": backbone,
                "seed": seed,
                "cells": len(cells),
                "sha256": ", ".join(told["backbone"]),
                "dtype": ", ".join(told["dtype"]),
            }
        )
    return lines


def _script(data: dict[str, Any]) -> Any:
    """JSON that may stand in a script element whatever it holds."""
    from markupsafe import Markup

    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    for sign in "<>&":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return Markup(text)
