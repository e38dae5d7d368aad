"""PEFT and mergekit, live, on adapters that were trained, read from files of several types."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from calora.adapter import Adapter, read_adapter, write_adapter
from calora.export import read_layout
from calora.export.gguf import read_gguf_adapter
from calora.merging import DenseUpdate, merge
from calora.serving import ready_made
from calora.serving.bundle import BundleCard
from calora.storage import read_card
from tests.merging.helpers import dense
from tests.merging.test_conventions import by_mergekit

WEIGHTS = (1.0, -0.6)
MODULES = [f"model.layers.0.self_attn.{kind}" for kind in ("k_proj", "v_proj")]
SIZES = {
    "vocab_size": 64,
    "hidden_size": 640,
    "intermediate_size": 2048,
    "num_attention_heads": 4,
    "num_key_value_heads": 1,
    "head_dim": 256,
}
WHOLE = 256  # their rank at most


@pytest.fixture(scope="module")
def model() -> Any:
    """One layer with the shapes of Gemma 3 270M; its weights take no part."""
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig

    return Gemma3ForCausalLM(Gemma3TextConfig(**SIZES, num_hidden_layers=1))


@pytest.fixture(scope="module", params=["float32", "float16", "bfloat16"])
def folders(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Keys and values of the first layer of the adapters that come with calora, in PEFT's format."""
    from transformers import Gemma3TextConfig

    target = tmp_path_factory.mktemp(request.param)
    Gemma3TextConfig(**SIZES, num_hidden_layers=18).save_pretrained(target / "backbone")
    layout = read_layout(target / "backbone")
    card = read_card(ready_made() / "bundle.json", BundleCard)
    for name in ("summary", "es"):
        adapter = read_gguf_adapter(ready_made() / card.adapters[name].file, layout)
        write_adapter(Adapter({key: adapter.modules[key] for key in MODULES}), target / name, request.param)
    return [target / "summary", target / "es"]


def by_peft(model: Any, folders: Sequence[Path], name: str, **options: Any) -> Adapter:
    """What PEFT reads from the folders, merges and writes."""
    import copy

    from peft import PeftModel

    first, *others = folders
    merged: Any = PeftModel.from_pretrained(copy.deepcopy(model), str(first), adapter_name=first.name)
    for folder in others:
        merged.load_adapter(str(folder), adapter_name=folder.name)
    merged.add_weighted_adapter([folder.name for folder in folders], list(WEIGHTS), "both", name, **options)
    out = first.parent / "merged"
    merged.save_pretrained(str(out), selected_adapters=["both"])
    return read_adapter(out / "both")


def near_but_at_the_edge(found: Adapter | DenseUpdate, expected: Adapter | DenseUpdate, density: float = 1.0) -> None:
    """Equal but for two entries a module where some are left out: rounded parents have equal ones at the edge."""
    assert set(found.modules) == set(expected.modules)
    for module, update in dense(expected).items():
        apart = np.abs(dense(found)[module] - update) > 1e-5 * np.abs(update).max()
        assert np.count_nonzero(apart) <= (0 if density == 1 else 2), module


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("linear", {}),
        ("cat", {}),
        ("svd", {}),
        ("svd", {"svd_rank": 2}),
        # Those types of them that work on A and B keep as many entries, but of hundreds of equal ones others.
        ("ties_svd", {"density": 0.3, "svd_rank": WHOLE}),
        ("magnitude_prune_svd", {"density": 0.3, "svd_rank": WHOLE}),
        ("dare_linear_svd", {"density": 1.0}),
        ("dare_ties_svd", {"density": 1.0}),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_peft_makes_of_trained_adapters_what_its_preset_does(
    model: Any, folders: list[Path], name: str, options: dict[str, Any]
) -> None:
    parents = [read_adapter(folder) for folder in folders]
    density = {key: value for key, value in options.items() if key == "density"}
    found = merge(parents, name, WEIGHTS, preset="peft", rank=options.get("svd_rank"), **density)
    near_but_at_the_edge(found, by_peft(model, folders, name, **options), **density)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("task_arithmetic", {}),
        ("ties", {"density": 0.3}),
        ("dare_linear", {}),
        ("breadcrumbs", {"density": 0.7, "gamma": 0.05}),
    ],
)
def test_mergekit_makes_of_trained_adapters_what_its_preset_does(
    folders: list[Path], name: str, parameters: dict[str, Any]
) -> None:
    parents = [read_adapter(folder) for folder in folders]
    expected = by_mergekit(name, parents, weight=WEIGHTS, **parameters)
    found = merge(parents, name, WEIGHTS, preset="mergekit", **parameters)
    near_but_at_the_edge(found, expected, parameters.get("density", 1.0))
