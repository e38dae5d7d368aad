"""A composition baked into the whole model: for runtimes that load no adapter."""

from pathlib import Path

from calora.adapter import Adapter
from calora.errors import CaloraError
from calora.export.gguf import permuted_update
from calora.export.layout import Layout
from calora.export.packed import Change, Packing, rewrite_gguf
from calora.export.registry import exporter
from calora.storage import writing_folder


@exporter("merged", runtimes="transformers, vLLM, MLX-LM", dtypes=("float16", "float32", "bfloat16"))
def write_merged(adapter: Adapter, layout: Layout, target: Path, dtype: str) -> None:
    """Write a Hugging Face folder of the whole model, the update added in float32 and then rounded.

    In bfloat16 half of a typical update is lost in rounding; float16 keeps three bits more of it.

    Raises:
        CaloraError: A weight is too large for the dtype.
    """
    import torch
    from transformers import GenerationConfig

    from calora.backbone import Backbone

    backbone = Backbone.load(layout.name, torch.float32)
    kind = getattr(torch, dtype)
    for module, factors in adapter.modules.items():
        weight = backbone.model.get_submodule(module).weight
        assert isinstance(weight, torch.Tensor)
        weight.data += torch.from_numpy(factors.update()).to(weight.device)
    model = backbone.model.to(kind)
    for name, values in model.named_parameters():
        if not torch.isfinite(values).all():
            raise CaloraError(f"{name} holds values that are too large for {dtype}", "write it in bfloat16 or float32")
    # An answer ends as it was trained to; what runs the folder looks here for that, and not in the tokenizer.
    tokenizer = backbone.tokenizer
    model.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id
    )
    with writing_folder(target) as temporary:
        model.save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)


@exporter(
    "merged-gguf", runtimes="llama.cpp, Ollama", suffix=".gguf", dtypes=("float16", "float32", "q8_0", "q5_0", "q4_0")
)
def write_merged_gguf(adapter: Adapter, layout: Layout, target: Path, dtype: str) -> None:
    """Write a GGUF file of the whole model: the adapted matrices in `dtype`, all else byte for byte the backbone's.

    gguf has no K-quants, so a Q4_K_M backbone gets its adapted matrices in one of the older types.

    Raises:
        CaloraError: The backbone is no GGUF file.
    """

    def changed(module: str) -> Change:
        return lambda weight: weight + permuted_update(adapter.modules[module], module, layout)

    changes = {layout.gguf_names[module]: changed(module) for module in adapter.modules}
    rewrite_gguf(layout.path, target, changes, Packing(dtype))
