import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from calora.adapter import read_adapter, write_adapter
from calora.backbone import Backbone
from calora.merging import merge, merge_methods
from calora.tasks import Composition
from tests.cli.conftest import Run
from tests.conftest import adapter_logits, assert_near, peft_logits, random_adapter
from tests.merging.helpers import assert_same


@pytest.fixture
def folders(llama: Backbone, tmp_path: Path) -> tuple[Path, Path]:
    for seed, name in ((1, "summary"), (2, "es")):
        write_adapter(random_adapter(llama, seed, name=name), tmp_path / name, "float32")
    return tmp_path / "summary", tmp_path / "es"


def test_the_list_names_every_method_and_parameter(calora: Run) -> None:
    code, out, _ = calora("merge", "--list")
    assert code == 0
    for name, method in merge_methods().items():
        assert name in out
        assert all(key in out for key in method.defaults)


def test_any_method_writes_an_adapter_that_peft_loads(calora: Run, llama: Backbone, folders: tuple[Path, Path]) -> None:
    given = ("--method", "ties", "-p", "density=0.5", "--strengths", "1,0.5", "--rank", "4")
    code, _, err = calora("merge", *folders, *given, "--out", "merged")
    assert code == 0
    assert "rank 4, bfloat16; relative error of a module's update" in err
    expected = merge([read_adapter(folder) for folder in folders], "ties", (1, 0.5), density=0.5, rank=4)
    written = read_adapter("merged")
    assert_same(written, expected, 0.02)  # in bfloat16
    assert_near(peft_logits(llama, Path("merged")), adapter_logits(llama, written))
    values = yaml.safe_load(Path("merged/merge.yaml").read_text())
    assert (values["merge_method"], values["rank"]) == ("ties", 4)


def test_an_update_of_full_rank_is_cut_to_the_parents(calora: Run, folders: tuple[Path, Path]) -> None:
    code, _, err = calora("merge", *folders, "-m", "dare", "--out", "merged")
    assert code == 0
    assert "dare, rank 3, bfloat16; relative error" in err
    assert read_adapter("merged").rank == 3


def test_an_update_may_be_cut_to_a_share_of_its_square(calora: Run, folders: tuple[Path, Path]) -> None:
    given = ("-m", "product", "--energy", "0.6", "--dtype", "float32")
    code, _, err = calora("merge", *folders, *given, "--out", "merged")
    assert code == 0, err
    expected = merge([read_adapter(folder) for folder in folders], "product", energy=0.6)
    found = read_adapter("merged")
    assert_same(found, expected)
    assert found.rank < merge([read_adapter(folder) for folder in folders], "product").rank


def test_what_was_written_is_made_again_from_its_recipe(
    calora: Run, folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    given = ("-m", "knots", "-p", "density=0.6")
    assert calora("merge", "summary", "es", *given, "--out", "merged")[0] == 0
    assert calora("merge", "merged/merge.yaml", "again")[0] == 0
    monkeypatch.chdir("merged")  # from wherever it is asked for
    assert calora("merge", "merge.yaml", "../third")[0] == 0
    monkeypatch.chdir("..")
    names = ("merged", "again", "third")
    first, second, third = (Path(name, "adapter_model.safetensors").read_bytes() for name in names)
    assert first == second == third
    assert np.isfinite(read_adapter("again").norm())


def test_what_is_written_may_be_as_exact_as_the_parents(calora: Run, folders: tuple[Path, Path]) -> None:
    for dtype, tolerance in (("float32", 1e-7), ("bfloat16", 0.01)):
        _, _, err = calora("merge", folders[0], "-m", "product", "--dtype", dtype, "--out", "merged", "--force")
        assert dtype in err
        assert_same(read_adapter("merged"), read_adapter(folders[0]), tolerance)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ((), "nothing to merge"),
        (("summary", "es"), "where to?"),
        (("summary", "es", "-m", "tied", "--out", "o"), "no merge is called 'tied'"),
        (("summary", "es", "-m", "ties", "-p", "density", "--out", "o"), "parameter 'density'"),
        (("summary", "es", "-m", "ties", "-p", "density=2", "--out", "o"), "the ties merge: density = 2"),
        (("summary", "es", "-m", "ties", "-p", "wide=2", "--out", "o"), "the ties merge has no parameter wide"),
        (("summary", "es", "--rank", "0", "--out", "o"), "rank: "),
        (("summary", "es", "--strengths", "1", "--out", "o"), "1 values of weight for 2 adapters"),
        (("summary", "es", "-m", "svd", "-p", "rank=2", "--out", "o"), "is no parameter of a method"),
        (("summary", "es", "-m", "ties", "-p", "density=[0.2", "--out", "o"), "cannot be read"),
        (("summary", "es", "-m", "ties", "-p", "density=[0.2,0.3,0.4]", "--out", "o"), "3 values of density for 2"),
        (("summary", "es", "-p", "weight=x", "--out", "o"), "weight = 'x'"),
        (("some.yaml", "o", "--rank", "2", "-m", "ties"), "--method, --rank would be ignored"),
        (("summary", "es", "--auto", "-m", "ties", "--out", "o"), "--method would be ignored: --auto finds them"),
        (("summary", "./summary", "--out", "o"), "summary is given twice"),
        (("none.yaml", "o"), "recipe none.yaml cannot be read"),
        (("summary", "es", "--preset", "lorax", "--out", "o"), "preset"),
        (("summary", "es", "--preset", "peft", "--out", "o"), "--preset peft needs a --method"),
        (("summary", "es", "-m", "linear", "--out", "o"), "`linear` is the paper's mean of the factors, PEFT's"),
        (("summary", "es", "--dtype", "int8", "--out", "o"), "dtype: "),
        (("summary", "es", "--budget", "9", "--out", "o"), "--budget would be ignored: only --auto searches"),
        (("summary", "es", "--backbone", "tiny", "--out", "o"), "--backbone would be ignored"),
    ],
)
def test_what_cannot_be_merged_is_told(
    calora: Run, folders: tuple[Path, Path], given: tuple[str, ...], message: str
) -> None:
    code, _, err = calora("merge", *given)
    assert code == 2
    assert message in err
    assert not Path("o").exists()


def test_no_backbone_is_opened(folders: tuple[Path, Path]) -> None:
    """Every method, in a process that ends without what a backbone is loaded with."""
    code = """
import sys
from pathlib import Path
from calora.cli import main
from calora.merging import merge_methods
for name in merge_methods():
    sys.argv = ["calora", "merge", "summary", "es", "-m", name, "--out", "merged", "--force"]
    try:
        main()
    except SystemExit as ended:
        assert not ended.code, name
loaded = {"torch", "transformers", "gguf", "calora.backbone", "calora.encoding"} & set(sys.modules)
assert not loaded, loaded
"""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=folders[0].parent, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_adapters_of_another_tool_get_a_card_where_it_is_said_what_for(
    calora: Run, llama: Backbone, folders: tuple[Path, Path]
) -> None:
    for seed, folder in enumerate(folders):
        write_adapter(random_adapter(llama, seed), folder)
    code, _, err = calora("merge", *folders, "--composition", "summary+es", "--out", "merged")
    assert code == 2
    assert "do not say what backbone they are for" in err
    code, _, err = calora("merge", *folders, "--composition", "summary+es", "--backbone", llama.name, "--out", "merged")
    assert code == 0, err
    card = read_adapter("merged").card
    assert card
    assert (card.backbone_sha256, card.prompt) == (llama.sha256, llama.prompt(Composition.parse("summary+es")))


def test_auto_searches_writes_and_says_what_did_best(
    calora: Run, llama: Backbone, folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    import json

    lines = [{"text": f"Ann: number {n}\nBob: yes", "target": f"Ann says {n}."} for n in range(4)]
    Path("my.jsonl").write_text("\n".join(map(json.dumps, lines)))
    given = ("--auto", "--composition", "summary+es", "--data", "my.jsonl", "--budget", "16", "--out", "merged")
    monkeypatch.setattr("calora.bench.making.PLAIN_MAX_TOKENS", 8)
    code, out, err = calora("merge", *folders, *given, "--backbone", llama.name)
    assert code == 0, err
    assert "retrieval %" in out
    assert "merges tried on 4 examples" in err
    recipe = yaml.safe_load(Path("merged/merge.yaml").read_text())
    written = read_adapter("merged")
    assert written.card
    assert written.card.prompt
    chosen = merge(
        [read_adapter(folder) for folder in folders],
        recipe["merge_method"],
        [model["parameters"]["weight"] for model in recipe["models"]],
    )
    assert_same(written, chosen, 0.02)


def test_auto_needs_to_know_what_for(calora: Run, folders: tuple[Path, Path]) -> None:
    code, _, err = calora("merge", *folders, "--auto", "--out", "merged")
    assert code == 2
    assert "--auto needs adapters, --composition and --out" in err
