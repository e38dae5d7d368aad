import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from calora.calibration import KINDS, Kind
from calora.errors import CaloraError
from calora.sizes import (
    PAPER,
    Architecture,
    SizeRow,
    adapter_parameters,
    architecture_from_config,
    calibration_parameters,
    mebibytes,
    render_sizes,
    size_rows,
)

LLAMA = {
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 160,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
# Each value differs from the classes' defaults, and heads * head_dim from hidden_size where a model allows it.
SIZES = {key: value for key, value in LLAMA.items() if key != "model_type"}
CONFIGS: list[tuple[str, dict[str, int]]] = [
    ("LlamaConfig", SIZES),
    ("LlamaConfig", SIZES | {"head_dim": 24}),
    ("MistralConfig", SIZES),
    ("Qwen2Config", SIZES),
    ("Qwen3Config", SIZES | {"head_dim": 24}),
    ("StableLmConfig", SIZES),
    ("Gemma3TextConfig", SIZES | {"head_dim": 24}),
]


def mean() -> SizeRow:
    return size_rows(PAPER)[-1]


def real_shapes(config: Any) -> dict[str, set[tuple[int, int]]]:
    """Shapes of the linear modules in the layers of the model that transformers builds, by kind."""
    import torch
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    shapes: dict[str, set[tuple[int, int]]] = {}
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear) and ".layers." in name:
            shapes.setdefault(name.rpartition(".")[2], set()).add((module.out_features, module.in_features))
    return shapes


def test_the_papers_parameter_counts() -> None:
    assert [round(count) for count in (mean().vector, mean().low_rank, mean().adapter)] == [22_699, 166_229, 29_917_184]


def test_the_papers_shares_of_the_joint_expert() -> None:
    assert f"{mean().vector / mean().adapter:.2%}" == "0.08%"
    assert f"{mean().low_rank / mean().adapter:.2%}" == "0.56%"


def test_the_papers_megabytes_are_mebibytes_but_for_file_overhead() -> None:
    assert mebibytes(mean().adapter) == pytest.approx(57.06, abs=0.005)
    assert mebibytes(mean().adapter) == pytest.approx(57.10, rel=0.001)
    assert mebibytes(mean().vector) == pytest.approx(0.043, abs=0.0005)
    assert mebibytes(mean().low_rank) == pytest.approx(0.317, abs=0.0005)


def test_float32_takes_twice_the_bytes() -> None:
    assert mebibytes(2**20, bytes_each=4) == 2 * mebibytes(2**20) == 4


sides = st.integers(1, 10_000)
architectures = st.builds(
    Architecture,
    st.just("any"),
    st.integers(1, 100),
    st.just(4),
    st.just(2),
    st.dictionaries(st.sampled_from(list(PAPER[0].shapes)), st.tuples(sides, sides), min_size=1),
)


@given(architectures, st.sampled_from(KINDS), st.integers(1, 64))
def test_each_layer_for_itself_costs_layers_times_shared(arch: Architecture, kind: Kind, rank: int) -> None:
    shared = calibration_parameters(arch, kind, rank)
    assert calibration_parameters(arch, kind, rank, per_layer=True) == arch.layers * shared


@given(architectures, st.integers(1, 64))
def test_a_low_rank_of_every_layer_is_an_adapter(arch: Architecture, rank: int) -> None:
    assert calibration_parameters(arch, "low-rank", rank, per_layer=True) == adapter_parameters(arch, rank)


@pytest.mark.parametrize(("config_class", "sizes"), CONFIGS)
def test_shapes_are_those_of_the_model_that_transformers_builds(config_class: str, sizes: dict[str, int]) -> None:
    import transformers

    config = getattr(transformers, config_class)(**sizes)
    arch = architecture_from_config(config.to_dict(), config_class)
    assert {kind: {shape} for kind, shape in arch.shapes.items()} == real_shapes(config)
    assert arch.layers == config.num_hidden_layers
    assert (arch.heads, arch.kv_heads) == (config.num_attention_heads, config.num_key_value_heads)


@pytest.mark.parametrize("config_class", dict.fromkeys(config_class for config_class, _ in CONFIGS))
@pytest.mark.parametrize("absent", ["num_key_value_heads", "head_dim"])
def test_a_key_left_out_of_the_file_gets_the_value_that_transformers_gives_it(config_class: str, absent: str) -> None:
    import transformers

    file = SIZES | {"hidden_size": 2048, "num_attention_heads": 32, "head_dim": 64, "num_key_value_heads": 16}
    del file[absent]
    config = getattr(transformers, config_class)(**file)
    arch = architecture_from_config(file | {"model_type": config.model_type}, config_class)
    assert {kind: {shape} for kind, shape in arch.shapes.items()} == real_shapes(config)


def test_a_multi_modal_gemma_gives_its_text_model_with_the_keys_its_file_leaves_out() -> None:
    from transformers import Gemma3TextConfig

    # What the config.json of Gemma 3 4B holds of the text model.
    text = {"model_type": "gemma3_text", "hidden_size": 2560, "intermediate_size": 10240, "num_hidden_layers": 34}
    arch = architecture_from_config({"model_type": "gemma3", "text_config": text}, "Gemma 3 4B")
    one_layer = Gemma3TextConfig(**(text | {"num_hidden_layers": 1}))
    assert {kind: {shape} for kind, shape in arch.shapes.items()} == real_shapes(one_layer)
    assert arch.layers == 34


@pytest.mark.parametrize("config_class", ["LlamaConfig", "Qwen2Config", "Qwen3Config"])
def test_key_and_value_heads_of_null_are_the_heads(config_class: str) -> None:
    import transformers

    file = SIZES | {"head_dim": 16, "num_key_value_heads": None}
    config = getattr(transformers, config_class)(**file)
    arch = architecture_from_config(file | {"model_type": config.model_type}, config_class)
    assert arch.kv_heads == config.num_key_value_heads == 4
    assert {kind: {shape} for kind, shape in arch.shapes.items()} == real_shapes(config)


@pytest.mark.parametrize("key", sorted(SIZES.keys() - {"num_key_value_heads"}))
def test_a_missing_key_is_named_with_its_config(key: str) -> None:
    config = {name: value for name, value in LLAMA.items() if name != key}
    with pytest.raises(CaloraError, match=f"config of tiny: {key} is missing") as error:
        architecture_from_config(config, "tiny")
    assert error.value.hint


@pytest.mark.parametrize("value", [0, -1, "64", 64.0, True, [64]])
def test_a_size_that_is_no_positive_integer_is_shown(value: object) -> None:
    with pytest.raises(CaloraError, match=r"hidden_size is .*expected a positive integer"):
        architecture_from_config(LLAMA | {"hidden_size": value}, "tiny")


@pytest.mark.parametrize("model_type", ["mixtral", "qwen2_moe", "phi3", "gpt2", None, ["llama"]])
def test_other_model_types_are_refused_by_name(model_type: object) -> None:
    with pytest.raises(CaloraError, match="not supported") as error:
        architecture_from_config(LLAMA | {"model_type": model_type}, "tiny")
    assert "llama" in str(error.value.hint)


@pytest.mark.parametrize("text", [{}, None, {"model_type": "gemma3_text"}, "text"])
def test_a_multi_modal_config_without_its_text_model_is_refused(text: object) -> None:
    with pytest.raises(CaloraError, match="config of tiny"):
        architecture_from_config({"model_type": "gemma3", "text_config": text}, "tiny")


@pytest.mark.parametrize("config", [[], "llama", None])
def test_a_config_that_is_no_object_is_refused(config: Any) -> None:
    with pytest.raises(CaloraError, match="config of tiny holds no object"):
        architecture_from_config(config, "tiny")


def test_one_architecture_has_no_mean_row() -> None:
    assert [row.name for row in size_rows(PAPER[:1])] == [PAPER[0].name]
    assert [row.name for row in size_rows(PAPER)] == [*(arch.name for arch in PAPER), "mean"]
    assert size_rows([]) == []


def test_the_table_shows_every_figure_in_80_columns() -> None:
    console = Console(width=80, color_system=None)
    with console.capture() as capture:
        console.print(render_sizes(PAPER))
    lines = capture.get().splitlines()
    last = next(line.split() for line in lines if "mean" in line)
    assert last == ["mean", "29,917,184", "57.06", "22,699", "0.043", "0.08", "166,229", "0.317", "0.56"]
    assert "…" not in "".join(lines)
    assert all(any(arch.name in line for line in lines) for arch in PAPER)


def test_sizes_need_no_torch() -> None:
    code = "import sys, calora.sizes; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
