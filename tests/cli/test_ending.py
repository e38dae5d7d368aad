"""How a command ends that cannot do what it was asked: by whose fault, and what to do."""

import errno
import shutil
import warnings
from pathlib import Path
from typing import Any

import pytest
import yaml

from calora import errors
from calora.backbone import Backbone
from tests.cli.conftest import Run


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Let `calora sizes --paper` raise an error."""

    def fail_with(error: BaseException) -> None:
        def render(*given: object) -> None:
            raise error

        monkeypatch.setattr("calora.sizes.render_sizes", render)

    return fail_with


@pytest.mark.parametrize(
    ("package", "extra"),
    [
        ("transformers.models", "all"),
        ("sentencepiece", "all"),
        ("rouge_score", "all"),
        ("lingua", "all"),
        ("gguf", "device"),
        ("fastapi", "serve"),
        ("huggingface_hub", "data"),
        ("mlx_lm", "mlx"),
        ("ray", "cluster"),
        ("sklearn", "bench"),
    ],
)
def test_a_missing_package_is_named_and_where_it_comes_from(
    calora: Run, failing: Any, package: str, extra: str
) -> None:
    failing(ModuleNotFoundError(f"No module named {package!r}", name=package))
    code, _, err = calora("sizes", "--paper")
    assert code == 2
    assert f"this command needs the package {package}" in err
    assert f"in a clone: pip install '.[{extra}]'" in err


@pytest.mark.parametrize(
    ("package", "hint"),
    [("safetensors", "in a clone: pip install ."), ("vllm", "pip install vllm")],
)
def test_a_package_of_no_extra(calora: Run, failing: Any, package: str, hint: str) -> None:
    failing(ModuleNotFoundError(f"No module named {package!r}", name=package))
    code, _, err = calora("sizes", "--paper")
    assert code == 2
    assert err.endswith(f"hint: {hint}\n")


def test_a_command_that_is_stopped_says_how_to_go_on(calora: Run, failing: Any) -> None:
    failing(KeyboardInterrupt())
    code, _, err = calora("sizes", "--paper")
    assert code == 130
    assert err == "stopped; start the same command again to go on\n"


def test_warnings_of_calora_are_told_in_a_line(calora: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = compile("import warnings\nwarnings.warn('look')", str(Path(errors.__file__)), "exec")

    def warn(*given: object) -> str:
        exec(ours, {"__name__": errors.__name__})
        warnings.warn("of another package", stacklevel=1)
        return ""

    monkeypatch.setattr("calora.sizes.render_sizes", warn)
    with pytest.warns(UserWarning) as caught:
        code, _, err = calora("sizes", "--paper")
    assert code == 0
    assert err == "warning: look\n"
    assert [str(one.message) for one in caught] == ["of another package"]


@pytest.mark.parametrize("error", [RuntimeError("no [bold] idea"), OSError(errno.EIO, "no [bold] idea")])
def test_a_failure_of_ours_is_told_as_such(
    calora: Run, failing: Any, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    failing(error)
    monkeypatch.delenv("CALORA_DEBUG", raising=False)
    code, _, err = calora("sizes", "--paper")
    assert code == 1
    assert f"calora failed: {type(error).__name__}: " in err
    assert "no [bold] idea" in err
    assert "this is our fault" in err
    assert "Traceback" not in err
    monkeypatch.setenv("CALORA_DEBUG", "1")
    code, _, err = calora("sizes", "--paper")
    assert code == 1
    assert "Traceback" in err


def test_a_full_disk_is_no_fault_of_ours(calora: Run, failing: Any) -> None:
    failing(OSError(errno.ENOSPC, "No space left on device", "out"))
    code, _, err = calora("sizes", "--paper")
    assert code == 2
    assert "out: No space left on device" in err


def test_a_benchmark_with_a_cell_that_failed_is_not_done(
    calora: Run, llama: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from calora.bench import grid

    recipe = {
        "backbones": [llama.name],
        "compositions": ["summary+es"],
        "approaches": ["neighbour", "constant"],
        "data": {"train": 8, "validation": 3, "test": 3},
    }
    (tmp_path / "two.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    answer_cell = grid.answer_cell

    def answer(path: Path, place: Any, *given: Any, **options: Any) -> None:
        if place.row.label == "neighbour":
            raise ValueError("nobody lives there")
        answer_cell(path, place, *given, **options)

    with monkeypatch.context() as patched:
        patched.setattr(grid, "answer_cell", answer)
        code, _, err = calora("bench", "two.yaml")
    assert code == 1
    lines = err.splitlines()
    told = next(place for place, line in enumerate(lines) if "failed: summary+es--neighbour" in line)
    assert lines[told].endswith(": nobody lives there"), "as soon as it is known"
    assert "cell summary+es--constant" in lines[told + 1]
    assert "nobody lives there (1 cell lost)" in err
    assert "1 of 2 cells are in" in err

    def stop(path: Path, place: Any, *given: Any, **options: Any) -> None:
        if place.row.label == "constant":
            raise KeyboardInterrupt
        answer(path, place, *given, **options)

    shutil.rmtree("runs")
    with monkeypatch.context() as patched:
        patched.setattr(grid, "answer_cell", stop)
        code, _, err = calora("bench", "two.yaml")
    assert code == 130
    assert "nobody lives there (1 cell lost)" in err
    code, _, err = calora("bench", "two.yaml")
    assert code == 0
    assert "2 of 2 cells are in" in err
