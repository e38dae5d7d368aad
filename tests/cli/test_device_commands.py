"""From trained folders to a device, by the command line alone."""

from pathlib import Path

import pytest

from calora.adapter import Adapter
from calora.backbone import Backbone
from calora.export import export_adapter
from tests.cli.conftest import Run
from tests.conftest import random_adapter
from tests.export.conftest import pairs  # noqa: F401
from tests.serving.bundles import Made, calibration_of, make_adapter, make_parts

pytestmark = pytest.mark.slow


@pytest.fixture
def made(pairs: dict[str, tuple[Backbone, Path]], tmp_path_factory: pytest.TempPathFactory) -> Made:  # noqa: F811
    backbone, model = pairs["llama"]
    return make_parts(backbone, model, tmp_path_factory.mktemp("parts"))


def test_a_composition_is_exported_and_verified(made: Made, calora: Run, tmp_path: Path) -> None:
    source = [made.calibrations["summary+es"], "--adapter", made.adapters["summary"], "--adapter", made.adapters["es"]]
    code, out, err = calora(
        "export", source[0], "a[x].gguf", *source[1:], "--backbone", made.model, "--dtype", "float32", "--rank", 12
    )
    assert (code, err) == (0, "")
    assert "summary+es for llama.cpp, xllamacpp, Ollama: a[x].gguf" in out
    assert "rank 9 to 12" in out
    code, out, err = calora("verify", "a[x].gguf", "--backbone", made.model, "--against", *source)
    assert code == 0, err
    assert "a[x].gguf in " in out
    assert "NO" not in out


def test_an_export_that_does_nothing_is_no_good_one(
    pairs: dict[str, tuple[Backbone, Path]],  # noqa: F811
    calora: Run,
) -> None:
    backbone, model = pairs["llama"]
    parts = random_adapter(backbone).modules.items()
    export_adapter(Adapter({name: part.scaled(0) for name, part in parts}), "gguf", "a.gguf", model)
    code, out, err = calora("verify", "a.gguf")
    assert code == 2
    assert out.count("NO") == 1
    assert "a.gguf does not do in llama.cpp what it should" in err


def test_a_bundle_is_made_added_to_and_checked(made: Made, calora: Run, tmp_path: Path) -> None:
    adapters = [part for folder in made.adapters.values() for part in ("--adapter", folder)]
    one, other = made.calibrations["summary+es"], made.calibrations["reply+es"]
    code, out, err = calora(
        "bundle", "b", *adapters, "--calibration", one, "--backbone", made.model, "--include-backbone"
    )
    assert (code, err) == (0, "")
    assert "b: adapters 4, compositions 1" in out
    assert "b is whole" not in out, "it was not asked"
    for ignored in (["--include-backbone", "--backbone", made.model], ["--dtype", "float32"], ["--force"]):
        code, out, err = calora("bundle", "b", "--calibration", other, *ignored)
        assert code == 2
        assert f"{ignored[0]} would be ignored: no bundle is written anew without --adapter" in err
    assert not list((tmp_path / "b/calibrations").glob("reply*")), "nothing is added where the command fails"
    code, out, err = calora("bundle", "b", "--calibration", other, "--check")
    assert (code, err) == (0, "")
    assert "b is whole: its files and its backbone are those that were bundled" in out
    assert "b: adapters 4, compositions 2" in out
    code, out, err = calora("bundle", "b", *adapters, "--backbone", made.model)
    assert code == 2
    assert "b is there already" in err
    code, out, err = calora("bundle", "without", *adapters, "--backbone", made.model, "--check")
    assert (code, err) == (0, ""), "a bundle that does not carry its backbone is made and checked by naming it"
    code, out, err = calora("bundle", "without", "--calibration", other)
    assert code == 2
    assert "does not carry its backbone" in err
    assert not (tmp_path / "without/calibrations").exists(), "what cannot be checked is not added"
    code, out, err = calora("bundle", "without", "--calibration", other, "--backbone", made.model)
    assert (code, err) == (0, "")
    assert "without: adapters 4, compositions 1" in out
    code, out, err = calora("export", made.adapters["es"], "b", "--format", "peft", "--backbone", made.model)
    assert code == 2
    assert "b is there already" in err
    (tmp_path / "dialogue.txt").write_text("Ann: Call me tonight?\nBob: Of course.")
    code, out, err = calora("run", "b", "dialogue.txt", "--composition", "reply+es", "--max-tokens", 8)
    assert (code, bool(out.strip())) == (0, True)
    code, out, err = calora("run", "b", "dialogue.txt", "--composition", "reply+fr")
    assert code == 2
    assert "the bundle has no 'reply+fr'" in err
    code, out, err = calora("run", "b", "dialogue.txt", "--composition", "mine")
    assert code == 2
    assert "the bundle has no 'mine'" in err, "a bundle may have tasks that only a recipe defines"
    code, out, err = calora("run", "b", "dialogue.txt")
    assert code == 2
    assert "b is a bundle, which answers summary+es, reply+es, " in err
    assert "say which with --composition" in err
    (calibration_of(tmp_path / "b", "reply+es") / "calibration.safetensors").write_bytes(b"")
    code, out, err = calora("bundle", "b", "--check")
    assert code == 2
    assert "composition reply+es" in err
    code, out, err = calora("bundle", "b")
    assert code == 2
    assert "--adapter" in err


def test_what_does_not_fit_is_refused_and_leaves_nothing(made: Made, calora: Run, tmp_path: Path) -> None:
    other = make_adapter(made.backbone, "es", tmp_path / "es", seed=5)
    code, _, err = calora(
        "bundle",
        "b",
        "-a",
        made.adapters["summary"],
        "-a",
        other,
        "-c",
        made.calibrations["summary+es"],
        "-b",
        made.model,
    )
    assert code == 2
    assert "stale" in err
    code, _, err = calora("serve", "nowhere")
    assert code == 2
    assert "bundle.json is missing" in err
    code, _, err = calora("verify", "nothing.gguf")
    assert code == 2
    assert "nothing.gguf is no exported adapter" in err
    assert {path.name for path in tmp_path.iterdir()} == {"es"}
