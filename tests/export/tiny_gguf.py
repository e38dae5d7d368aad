"""Tiny models as GGUF files, so that llama.cpp can run what transformers runs.

A small converter of its own: names from the gguf package, the rows of Llama's queries and keys put into llama.cpp's
order, one added to Gemma's norms. That llama.cpp then gives transformers' logits shows it right, before any adapter
is tried.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from calora.backbone import Backbone
from calora.export.gguf import permuted_rows

CONTEXT = 256
# Six layers for Gemma 3: llama.cpp makes every sixth attend to all.
GEMMA_LAYERS = 6


def tiny_config(architecture: str, vocabulary: int) -> Any:
    """A config whose every trait llama.cpp can be told."""
    from transformers import Gemma3TextConfig, LlamaConfig, Qwen2Config, StableLmConfig

    sizes = {
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": GEMMA_LAYERS if architecture == "gemma3" else 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": CONTEXT,
        "initializer_range": 0.1,
        "vocab_size": vocabulary,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
    if architecture == "gemma3":
        layers = ["sliding_attention"] * 5 + ["full_attention"]
        sizes["initializer_range"] = 0.05  # llama.cpp looks GELU up in float16; larger inputs, larger errors
        return Gemma3TextConfig(**sizes, head_dim=256, sliding_window=32, layer_types=layers)
    return {"llama": LlamaConfig, "qwen2": Qwen2Config, "stablelm": StableLmConfig}[architecture](**sizes)


def write_tiny_gguf(
    backbone: Backbone, architecture: str, target: Path, extra: Callable[[Any], None] = lambda writer: None
) -> None:
    """Write a backbone as a float32 GGUF file, and what `extra` adds to its keys."""
    import gguf

    config: Any = backbone.model.config
    layers, heads, kv_heads = config.num_hidden_layers, config.num_attention_heads, config.num_key_value_heads
    head = getattr(config, "head_dim", None) or config.hidden_size // heads
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH[architecture.upper()], layers)
    writer = gguf.GGUFWriter(target, architecture)
    writer.add_type("model")
    writer.add_name("tiny")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    writer.add_vocab_size(config.vocab_size)
    extra(writer)
    if architecture == "stablelm":
        writer.add_layer_norm_eps(config.layer_norm_eps)
        writer.add_rope_dimension_count(int(config.rope_parameters["partial_rotary_factor"] * head))
        writer.add_parallel_residual(config.use_parallel_residual)
        writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    else:
        writer.add_layer_norm_rms_eps(config.rms_norm_eps)
        writer.add_rope_dimension_count(head)
    if architecture == "gemma3":
        writer.add_key_length(head)
        writer.add_value_length(head)
        writer.add_sliding_window(config.sliding_window)
        writer.add_rope_freq_base(config.rope_parameters["full_attention"]["rope_theta"])
    elif architecture != "stablelm":
        writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    _add_vocabulary(writer, backbone.tokenizer, config.vocab_size)
    for name, tensor in backbone.model.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        values = tensor.float().numpy().astype(np.float32)
        if architecture == "llama" and name.endswith(("q_proj.weight", "k_proj.weight")):
            values = permuted_rows(values, heads if "q_proj" in name else kv_heads)
        if architecture == "gemma3" and name.endswith("norm.weight"):
            values = values + 1
        stem, _, ending = name.rpartition(".")
        place = names.get_name(stem)
        assert place is not None, name
        writer.add_tensor(f"{place}.{ending}", np.ascontiguousarray(values))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add_vocabulary(writer: Any, tokenizer: Any, size: int) -> None:
    import json

    import gguf

    state = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    words = {index: word for word, index in tokenizer.get_vocab().items()}
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("default")
    writer.add_token_list([words.get(index, f"<unused{index}>") for index in range(size)])
    kinds = [gguf.TokenType.CONTROL if index < 3 else gguf.TokenType.NORMAL for index in range(size)]
    writer.add_token_types(kinds)
    writer.add_token_merges([" ".join(pair) for pair in state["merges"]])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_pad_token_id(0)
    writer.add_unk_token_id(0)  # transformers reads the vocabulary of every Gemma as one that has it
    writer.add_add_bos_token(True)
