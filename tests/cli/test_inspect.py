import json
from pathlib import Path

import pytest

from calora.adapter import Adapter, write_adapter
from calora.backbone import Backbone
from tests.cli.conftest import Run
from tests.conftest import random_adapter


def test_it_prints_tables_warns_and_draws(calora: Run, llama: Backbone, tmp_path: Path) -> None:
    for seed, name in ((1, "summary"), (2, "es")):
        write_adapter(random_adapter(llama, seed, name=name), tmp_path / name, "float32")
    code, out, err = calora("inspect", "summary", "es", "--map", "map.svg", "--json", "facts.json")
    assert code == 0
    assert "share left" in out
    assert "q_proj" in out
    assert "summary is left at 0." in out
    assert "wrote map.svg" in err
    facts = json.loads(Path("facts.json").read_text())
    assert facts["names"] == ["summary", "es"]
    assert {one["module"] for one in facts["modules"]} == set(llama.targets)
    drawn = Path("map.svg").read_text()
    assert drawn.startswith("<?xml")
    code, out, _ = calora("inspect", "summary", "es", "-m", "product")
    assert code == 0
    assert "warning" not in out
    code, out, _ = calora("inspect", "summary", "es", "-m", "product", "-p", "lambda=0.2")
    assert code == 0
    assert "summary is left at 0.2" in out


def test_three_adapters_of_another_tool_fit_a_narrow_terminal(
    calora: Run, llama: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed, name in enumerate(("headlines", "spanish", "casually")):
        write_adapter(Adapter(random_adapter(llama, seed).modules), tmp_path / name, "float32")
    monkeypatch.setenv("COLUMNS", "80")
    code, out, _ = calora("inspect", "headlines", "spanish", "casually", "-m", "product")
    assert code == 0
    assert "headlines, casually" in out
    assert "…" not in out


def test_a_name_is_text_whatever_it_holds(calora: Run, llama: Backbone, tmp_path: Path) -> None:
    for seed, name in enumerate(("m[old]", "[red]", "no[")):
        write_adapter(Adapter(random_adapter(llama, seed).modules), tmp_path / name, "float32")
    write_adapter(random_adapter(llama, 5, name="a[/x]"), tmp_path / "five")
    code, out, _ = calora("inspect", "m[old]", "[red]", "no[", "five")
    assert code == 0
    for name in ("m[old]", "[red]", "no[", "a[/x]"):
        assert f"share of {name}" in " ".join(out.split()) or f"{name} is left at" in out
        assert any(line.split()[:1] == [name] for line in out.splitlines())
    assert "m[old] is left at" in out and "m[old], a[/x]" in out


def test_what_cannot_be_drawn_is_told(calora: Run, llama: Backbone, tmp_path: Path) -> None:
    write_adapter(random_adapter(llama, 1, name="summary"), tmp_path / "summary")
    code, _, err = calora("inspect", "summary", "--map", "map.docx")
    assert code == 2
    assert ".svg, .png or .pdf" in err
