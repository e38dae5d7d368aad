import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from calora.cli import main
from tests.report.bench_runs import recipe, write_bench_run
from tests.report.conftest import answered, write_named_cell

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def calora(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run `calora report`; gives the exit code, standard output and standard error."""

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["calora", "report", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    return run


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bench_run(tmp_path_factory.mktemp("runs") / "bench")


def test_a_benchmark_gets_its_page_and_tables(calora: Run, bench: Path) -> None:
    code, out, err = calora(bench, "--against", "calibration", "--measure", "retrieval")
    assert code == 0
    assert "+22.2" in out and "22,699" in out
    assert "es: Primary adapter, seed 1" in out
    assert "| es: Primary adapter, seed 0 | 77.8 |" in (bench / "own.md").read_text(encoding="utf-8")
    assert "report.html" in err
    assert "+22.2" in (bench / "table.md").read_text(encoding="utf-8")
    assert r"\toprule" in (bench / "table.tex").read_text(encoding="utf-8")
    assert (bench / "table.csv").read_text(encoding="utf-8").startswith("label,title,measure,reference,")
    assert "<!doctype html>" in (bench / "report.html").read_text(encoding="utf-8")


def test_two_runs_are_compared_and_nothing_is_written(calora: Run, bench: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(bench, tmp_path / "copy"))
    before = sorted(run.rglob("*"))
    code, out, _ = calora(run, "--other", bench)
    assert code == 0
    assert "+0.0 to +0.0" in out
    assert sorted(run.rglob("*")) == before
    code, _, err = calora(run, "--other", bench, "--against", "calibration")
    assert code == 2 and "--against would be ignored" in err


def test_a_demo_gets_its_page_again(calora: Run, tmp_path: Path) -> None:
    write_named_cell(tmp_path, "zero-shot", "Zero-shot", answered(2))
    rows = ["zero-shot", {"name": "zero-shot", "label": "own-es-zero-shot", "compositions": ["es"]}]
    (tmp_path / "recipe.json").write_text(recipe(approaches=rows, max_tokens=33).model_dump_json(), encoding="utf-8")
    code, out, _ = calora(tmp_path)
    assert code == 0
    assert "Zero-shot" in out
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "<h1>summary+es on tiny</h1>" in page and "&#34;max_tokens&#34;: 33" in page
    for ignored in (["--against", "zero-shot"], ["--measure", "judge"], ["--other", tmp_path]):
        code, _, err = calora(tmp_path, *ignored)
        assert code == 2 and f"{ignored[0]} would be ignored" in err and "calora compare" in err


def test_a_wrong_request_is_told(calora: Run, bench: Path, tmp_path: Path) -> None:
    for arguments, wrong, hint in (
        ([tmp_path], "recipe.json is missing", "expected a Recipe"),
        ([bench, "--measure", "bleu"], "unknown measure 'bleu'", "retrieval"),
        ([bench, "--measure", "judge"], "has scores of judge", "in_language"),
        ([bench, "--against", "me"], "no row 'me'", "multi-step"),
    ):
        code, _, err = calora(*arguments)
        assert code == 2
        assert wrong in err and hint in err
        assert "Traceback" not in err
