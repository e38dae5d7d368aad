from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFWriter

from calora.adapter import Adapter
from calora.backbone import Backbone
from calora.errors import CaloraError
from calora.export import export_adapter, read_layout
from calora.export.gguf import permuted_rows, read_gguf_adapter, write_gguf
from calora.export.probes import TOP, gelu_in_half, reference_logprobs
from calora.export.runtimes import llama_probe
from calora.export.verification import verify_export
from calora.serving.llama import LlamaServer
from tests.conftest import assert_same_updates, random_adapter
from tests.export.conftest import gentle

Pair = tuple[Backbone, Path]


def test_the_tiny_file_is_the_tiny_model(pair: Pair) -> None:
    backbone, file = pair
    ids = list(range(3, 200))
    with LlamaServer(file, context=256, threads=1, exact=True) as server:
        probe = llama_probe(server, {}, ids, 20)
    reference = reference_logprobs(backbone, None, ids, 20)
    assert probe.distance(reference) < 1e-3
    assert probe.agreement(reference) == len(ids) - 20
    assert {len(top) for top in probe.tops} == {TOP}


def test_llama_cpp_gives_the_logits_of_the_file(pair: Pair, tmp_path: Path) -> None:
    backbone, file = pair
    adapter = gentle(backbone, 5)
    manifest = export_adapter(adapter, "gguf", tmp_path / "a.gguf", file, dtype="float32")
    found = verify_export(tmp_path / "a.gguf", str(file), adapter)
    assert [check for check in found.checks if not check.held] == []
    assert manifest.rank == manifest.rank_before == 5


def test_so_it_does_on_a_packed_backbone(packed: Path, tmp_path: Path) -> None:
    adapter = gentle(read_layout(packed).shapes, 3)
    export_adapter(adapter, "gguf", tmp_path / "a.gguf", packed, dtype="float32")
    found = verify_export(tmp_path / "a.gguf", str(packed), adapter)
    assert [check for check in found.checks if not check.held] == []


def test_only_a_gelu_is_rounded_and_for_the_block_alone(pairs: dict[str, Pair]) -> None:
    ids = list(range(3, 60))
    for name in ("gemma3", "llama"):
        backbone, _ = pairs[name]
        before = reference_logprobs(backbone, None, ids, 20)
        with gelu_in_half(backbone) as count:
            changed = np.abs(reference_logprobs(backbone, None, ids, 20) - before).max()
        if name == "gemma3":
            assert count == len(backbone.model.get_decoder().layers)
            assert 0 < changed < 1e-3
        else:
            assert (count, changed) == (0, 0)
        np.testing.assert_array_equal(reference_logprobs(backbone, None, ids, 20), before)


@pytest.mark.parametrize(("dtype", "rank"), [("float16", 5), ("q8_0", 32), ("q8_0", 36)])
def test_so_it_does_where_values_are_rounded(pairs: dict[str, Pair], dtype: str, rank: int, tmp_path: Path) -> None:
    backbone, file = pairs["llama"]
    adapter = gentle(backbone, rank)
    export_adapter(adapter, "gguf", tmp_path / "a.gguf", file, dtype=dtype)
    found = verify_export(tmp_path / "a.gguf", str(file), adapter)
    assert [check for check in found.checks if not check.held] == []


def test_the_rows_of_heads_are_turned_there_and_back() -> None:
    values = np.arange(16.0, dtype=np.float32)[:, None] * np.ones((1, 3), np.float32)
    turned = permuted_rows(values, heads=2)
    assert turned[:, 0].tolist() == [0, 4, 1, 5, 2, 6, 3, 7, 8, 12, 9, 13, 10, 14, 11, 15]
    np.testing.assert_array_equal(permuted_rows(turned, heads=2, reverse=True), values)


def test_an_architecture_whose_rows_are_not_known_is_refused(pairs: dict[str, Pair], tmp_path: Path) -> None:
    backbone, model = pairs["llama"]
    layout = replace(read_layout(str(model)), architecture="smollm3")
    with pytest.raises(CaloraError, match="in smollm3 is not known"):
        write_gguf(random_adapter(backbone), layout, tmp_path / "a.gguf", "float32")


def test_what_was_written_is_read_again(pair: Pair, tmp_path: Path) -> None:
    backbone, file = pair
    adapter = random_adapter(backbone, rank=4)
    export_adapter(adapter, "gguf", tmp_path / "a.gguf", file, dtype="float32", rank=8)
    assert_same_updates(read_gguf_adapter(tmp_path / "a.gguf", read_layout(file)), adapter)


@pytest.mark.parametrize("alpha", [None, 0.0, 10.0, 2.0])
def test_a_file_of_another_tool_has_the_scale_that_llama_cpp_gives_it(
    pairs: dict[str, Pair], tmp_path: Path, alpha: float | None
) -> None:
    """Which is alpha over each module's own rank: such tools write modules of several ranks under one alpha."""
    backbone, model = pairs["qwen2"]
    low, high = gentle(backbone, 2).modules, gentle(backbone, 5).modules
    adapter = Adapter({name: (low if name.endswith(("q_proj", "up_proj")) else high)[name] for name in high})
    layout, file = read_layout(model), tmp_path / "a.gguf"
    writer = GGUFWriter(file, layout.architecture)
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    if alpha is not None:
        writer.add_float32("adapter.lora.alpha", alpha)
    for module, part in adapter.modules.items():
        writer.add_tensor(f"{layout.gguf_names[module]}.lora_a", part.a)
        writer.add_tensor(f"{layout.gguf_names[module]}.lora_b", part.b)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    expected = Adapter(
        {name: part.scaled(alpha / part.rank if alpha else 1.0) for name, part in adapter.modules.items()}
    )
    assert_same_updates(read_gguf_adapter(file, layout), expected)
    assert [check for check in verify_export(file, str(model)).checks if not check.held] == []


def test_a_file_for_another_backbone_is_refused_by_name(pairs: dict[str, Pair], tmp_path: Path) -> None:
    backbone, file = pairs["llama"]
    export_adapter(random_adapter(backbone), "gguf", tmp_path / "a.gguf", file)
    with pytest.raises(CaloraError, match=r"a\.gguf is for llama, the backbone .* is qwen2"):
        verify_export(tmp_path / "a.gguf", str(pairs["qwen2"][1]))
    with pytest.raises(CaloraError, match="the adapter: model"):
        export_adapter(random_adapter(backbone), "gguf", tmp_path / "b.gguf", pairs["gemma3"][1])


def test_a_file_for_a_llama_of_another_size_is_refused_by_name(pairs: dict[str, Pair], tmp_path: Path) -> None:
    _, file = pairs["llama"]
    layout = read_layout(file)
    other = {name: (out + 2, inside) for name, (out, inside) in layout.shapes.items()}
    write_gguf(random_adapter(other), replace(layout, heads=1, kv_heads=1), tmp_path / "a.gguf", "float32")
    with pytest.raises(CaloraError, match=r"a\.gguf: model\.layers\.0\.self_attn\.q_proj is \(66, 64\)"):
        read_gguf_adapter(tmp_path / "a.gguf", layout)


@pytest.mark.parametrize("keep", [0, 10, 500])
def test_a_truncated_file_is_told(pairs: dict[str, Pair], keep: int, tmp_path: Path) -> None:
    backbone, file = pairs["llama"]
    export_adapter(random_adapter(backbone), "gguf", tmp_path / "a.gguf", file)
    (tmp_path / "a.gguf").write_bytes((tmp_path / "a.gguf").read_bytes()[:keep])
    with pytest.raises(CaloraError, match=r"a\.gguf"):
        verify_export(tmp_path / "a.gguf", str(file))
