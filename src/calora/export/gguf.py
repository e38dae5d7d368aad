"""LoRA files for llama.cpp: its names, its metadata, its order of the rows of queries and keys.

The format is what llama.cpp's loader (src/llama-adapter.cpp) asks for: `<name of the weight>.lora_a` [rank, in] and
`.lora_b` [out, rank], general.type `adapter`, adapter.type `lora`. The scale is adapter.lora.alpha over the rank of
each tensor, so alpha is the one rank here.
"""

from pathlib import Path

import numpy as np

from calora.adapter import Adapter, Factors, module_kind
from calora.errors import CaloraError
from calora.export.layout import Layout, field
from calora.export.packed import Packing, add_packed, open_gguf
from calora.export.registry import exporter
from calora.storage import Array, writing_file

# Architectures whose rotary embedding pairs neighbouring rows in GGUF where transformers pairs the halves of a head.
_INTERLEAVED = frozenset({"llama"})
# Those that leave the rows as they are. Of any other it is not known here, and a guess would be a wrong adapter.
_STRAIGHT = frozenset({"qwen2", "qwen3", "stablelm", "gemma", "gemma2", "gemma3"})


@exporter("gguf", runtimes="llama.cpp, xllamacpp, Ollama", suffix=".gguf", dtypes=("float16", "float32", "q8_0"))
def write_gguf(adapter: Adapter, layout: Layout, target: Path, dtype: str) -> None:
    """Write a LoRA file for llama.cpp.

    Args:
        adapter: All of one rank, its factors fit for the dtype (`fit_for`).
        layout: Of the backbone file it will be loaded on.
        target: The file.
        dtype: `float32`, `float16`, or `q8_0`: blocks of 32 along a row, so a factor whose rows are no multiple of 32
            stays in float16 (for B, a rank such as 33 or 36).

    Raises:
        CaloraError: An update is too large for the dtype.
    """
    from gguf import GGUFWriter

    packing = Packing(dtype)
    with writing_file(target) as temporary:
        writer = GGUFWriter(temporary, layout.architecture)
        writer.add_type("adapter")
        writer.add_string("adapter.type", "lora")
        writer.add_float32("adapter.lora.alpha", float(adapter.rank))
        if adapter.card:
            writer.add_name(adapter.card.name)
            writer.add_string("adapter.lora.task_name", adapter.card.name)
        for module, update in adapter.modules.items():
            name = layout.gguf_names[module]
            add_packed(writer, f"{name}.lora_a", update.a, packing)
            add_packed(writer, f"{name}.lora_b", _rows(update.b, module, layout), packing)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()


def read_gguf_adapter(path: Path, layout: Layout) -> Adapter:
    """Read a LoRA file of llama.cpp, its rows in the order that transformers has; scales are folded into B.

    Args:
        path: Any tool may have written it, its tensors of any type that gguf can unpack.
        layout: Of the backbone.

    Raises:
        CaloraError: It is damaged, for another backbone, no LoRA, or has half of a pair or an unknown tensor.
    """
    from gguf.quants import dequantize

    reader = open_gguf(path)
    architecture = field(reader, "general.architecture", path)
    if architecture != layout.architecture:
        raise CaloraError(
            f"{path} is for {architecture}, the backbone {layout.path} is {layout.architecture}",
            "export the adapter again for this backbone",
        )
    if reader.get_field("adapter.type") is None or field(reader, "adapter.type", path) != "lora":
        raise CaloraError(f"{path} holds no LoRA adapter", "expected adapter.type = lora")
    alpha = reader.get_field("adapter.lora.alpha")
    modules = {name: module for module, name in layout.gguf_names.items()}
    halves: dict[str, dict[str, Array]] = {}
    for tensor in reader.tensors:
        name, _, half = str(tensor.name).rpartition(".lora_")
        if name not in modules or half not in ("a", "b"):
            raise CaloraError(f"{path}: tensor {tensor.name} has no place in {layout.path}", "export it again")
        values = dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        halves.setdefault(modules[name], {})[half] = values
    found = {}
    for module, pair in halves.items():
        if pair.keys() != {"a", "b"}:
            raise CaloraError(f"{path}: {module} has only lora_{''.join(pair)}", "copy or make the file again")
        scale = np.float32(alpha.contents() / pair["a"].shape[0] if alpha and alpha.contents() else 1.0)
        found[module] = Factors(pair["a"], pair["b"] * scale)
    layout.check(Adapter(found), str(path))
    return Adapter(
        {
            module: Factors(factors.a, _rows(factors.b, module, layout, reverse=True))
            for module, factors in found.items()
        }
    )


def modules_in(path: Path, layout: Layout) -> set[str]:
    """The modules, as transformers names them, that a LoRA file of llama.cpp has; of its tensors only names are read.

    Raises:
        CaloraError: The file is damaged.
    """
    names = {str(tensor.name).rpartition(".lora_")[0] for tensor in open_gguf(path).tensors}
    return {module for module, name in layout.gguf_names.items() if name in names}


def permuted_update(factors: Factors, module: str, layout: Layout) -> Array:
    """A module's update [out, in] with its rows in the order of the GGUF file."""
    return _rows(factors.b, module, layout) @ factors.a


def permuted_rows(values: Array, heads: int, reverse: bool = False) -> Array:
    """The rows of each head from halves to neighbours, as llama.cpp's converter orders queries and keys; or back.

    Args:
        values: [heads * size, n].
        heads: How many share the rows.
        reverse: From neighbours to halves.
    """
    size = values.shape[0] // heads
    parts = (heads, size // 2, 2) if reverse else (heads, 2, size // 2)
    return values.reshape(*parts, -1).swapaxes(1, 2).reshape(values.shape)


def _rows(b: Array, module: str, layout: Layout, reverse: bool = False) -> Array:
    kind = module_kind(module)
    if kind not in ("q_proj", "k_proj") or layout.architecture in _STRAIGHT:
        return b
    if layout.architecture not in _INTERLEAVED:
        raise CaloraError(
            f"{layout.path}: how llama.cpp orders the rows of queries and keys in {layout.architecture} is not known",
            f"known: {', '.join(sorted(_INTERLEAVED | _STRAIGHT))}; export for PEFT instead",
        )
    return permuted_rows(b, layout.heads if kind == "q_proj" else layout.kv_heads, reverse)
