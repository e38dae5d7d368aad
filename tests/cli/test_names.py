"""What a user has named is shown as it is written, whatever rich would read in it."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console, RenderableType

from calora.bench.dry_run import Forecast
from calora.bench.llm_judging import LlmVerdicts
from calora.bench.progress import Progress
from calora.cli.bench import _forecast_tables, _plan_table, _progress_table
from calora.serving.bundle_sizes import sizes_table
from tests.cli.conftest import Run

NAME = "a[old] b[/x]"


def printed(*shown: RenderableType) -> str:
    console = Console(width=120, color_system=None)
    with console.capture() as capture:
        for one in shown:
            console.print(one)
    return " ".join(capture.get().split())


def test_rows_of_a_benchmark() -> None:
    progress = Progress(now=f"now {NAME}", failed=[(NAME, ValueError())])
    progress.done[NAME], progress.total[NAME] = 1, 2
    shown = printed(_progress_table(progress, 1.0))
    assert all(text in shown for text in (f"now {NAME}", f"failed: {NAME}", f"{NAME} 1 2"))
    place: Any = SimpleNamespace(row=SimpleNamespace(label=NAME), case=SimpleNamespace(composition=f"of {NAME}"))
    assert f"{NAME} 1 of {NAME}" in printed(_plan_table([place]))


def test_what_a_benchmark_needs() -> None:
    found = Forecast(
        cells=(1, 0), fetched=[(f"model {NAME}", 1.0)], work={}, stored=0.0, memory={NAME: 1.0}, unknown=[f"not {NAME}"]
    )
    shown = printed(*_forecast_tables(found, 1.0))
    assert all(text in shown for text in (f"model {NAME}", f"memory to train on {NAME}, about", f"not {NAME}"))


def test_what_a_language_model_judged(calora: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    verdicts = LlmVerdicts(composition="summary+es", approach=NAME, model="any", key="", answers="", outcomes={})
    monkeypatch.setattr("calora.bench.llm_judging.judge_run_with_llm", lambda *given: [verdicts])
    code, out, _ = calora("judge", "run", "--llm", "http://127.0.0.1:9/v1", "--model", "m[/y]")
    assert code == 0
    assert NAME in out
    assert "judged by m[/y]" in out


def test_a_bundle() -> None:
    backbone = Path(__file__)
    card = SimpleNamespace(adapters={}, compositions={}, backbone=SimpleNamespace(name=NAME))
    bundle: Any = SimpleNamespace(folder=Path(NAME), card=card, model=backbone, layout=SimpleNamespace(shapes={}))
    shown = printed(sizes_table(bundle))
    assert f"{NAME}: adapters 0" in shown
    assert f"backbone {NAME}" in shown
