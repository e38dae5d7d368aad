"""One self-contained HTML page of a run: nothing in it is fetched from anywhere."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from calora.bench.cells import Cell
from calora.errors import CaloraError
from calora.metrics import bootstrap_interval
from calora.report.charts import PANEL_HEIGHT, SCATTER_HEIGHT, Mark, bars, panels, scatter
from calora.report.examples import sample_answers
from calora.report.folder import composed, is_control, is_own, predictions_of
from calora.report.table import chance_line, columns, one_line, own_columns
from calora.storage import write_text
from calora.versions import versions


def write_page(run: Path, settings: dict[str, Any], cells: Sequence[Cell]) -> Path:
    """Write report.html into a run folder.

    Args:
        run: The run folder, with the predictions of the cells; what else lies there (merge search, artefacts, times of
            the steps) is shown as far as it is there.
        settings: The run's resolved settings.
        cells: Of the run, in the order of the table.

    Returns:
        The page's path.

    Raises:
        CaloraError: There is nothing to show, a file is damaged, or the page cannot be written.
    """
    rows = composed(cells)
    if not rows:
        raise CaloraError(f"{run} has no results of its composition", "report a run that got as far as its first cell")
    own = [cell for cell in cells if is_own(cell)]
    marks = [_mark(run, cell) for cell in rows]
    timed = [mark for cell, mark in zip(rows, marks, strict=True) if cell.costs.passes and mark.kind != "control"]
    page = rendered(
        "page.html.j2",
        head=rows[0],
        approaches=rows,
        columns=columns(rows),
        caption=chance_line(rows),
        own=own,
        own_columns=own_columns(),
        own_caption=chance_line(own),
        by_name={cell.approach: cell for cell in rows},
        is_control=is_control,
        one_line=one_line,
        bars=bars(marks, rows[0].chance),
        scatter=scatter(timed, rows[0].chance) if any(mark.seconds for mark in timed) else None,
        scatter_height=SCATTER_HEIGHT,
        panel_height=PANEL_HEIGHT,
        search=_search(run),
        training=_training(cells),
        samples=sample_answers(run, rows),
        settings=json.dumps(settings, indent=2, ensure_ascii=False, default=str),
        versions=list(versions().items()),
        backbone_sha256=rows[0].provenance.get("backbone"),
        steps=_steps(run),
    )
    path = run / "report.html"
    write_text(path, page)
    return path


def _mark(run: Path, cell: Cell) -> Mark:
    hits = [row["scores"]["retrieval"] for row in predictions_of(run, cell)]
    kind = "control" if is_control(cell) else "calibrated" if cell.costs.parameters else "approach"
    low, high = bootstrap_interval(hits)
    return Mark(cell.title, kind, cell.scores["retrieval"], low, high, cell.costs.seconds)


def _search(run: Path) -> dict[str, Any] | None:
    """What the merge search tried: those that were let to answer first, then by loss."""
    files = (path for path in (run / "store" / "merge-search").glob("*") if path.is_file())
    path = max(files, key=lambda path: path.stat().st_mtime, default=None)
    if path is None:
        return None
    found = _json(path)
    tried = [
        {
            "start": candidate["merge"]["start"],
            "strengths": " / ".join(f"{value:g}" for value in candidate["merge"]["strengths"] or ()),
            "loss": f"{candidate['loss']:.3f}",
            "retrieval": None if candidate["retrieval"] is None else f"{candidate['retrieval']:.1f}",
            "chosen": candidate["merge"] == found["chosen"],
        }
        for candidate in sorted(found["tried"], key=lambda candidate: candidate["loss"])
    ]
    return {
        "finalists": [candidate for candidate in tried if candidate["retrieval"] is not None],
        "rest": [candidate for candidate in tried if candidate["retrieval"] is None],
    }


def _training(cells: Sequence[Cell]) -> list[dict[str, Any]]:
    """Name, validation panels and distance to the shipped form of each artefact that was trained for one cell alone."""
    found = [
        {
            "name": f"adapter {cell.composition}" if is_own(cell) else f"calibration {cell.approach}",
            "panels": panels(training.get("validation") or []),
            "kl": training.get("shipped_kl"),
        }
        for cell in cells
        for training in cell.provenance.get("training", [])
    ]
    return [artefact for artefact in found if artefact["panels"]]


def _steps(run: Path) -> list[tuple[str, str]]:
    """Name and duration of each artefact that was made."""
    records = [_json(path) for path in sorted((run / "store" / "records").glob("*.json"))]
    return [(f"{record['kind']} {record['name']}", f"{record['seconds']:.1f} s") for record in records]


def rendered(template: str, **values: Any) -> str:
    """A page from one of this package's templates; every text in it is escaped."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("calora.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(**values)


def _json(path: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CaloraError(f"{path} is not JSON: {error}", "remove it and run again") from error
    return found
