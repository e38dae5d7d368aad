from types import SimpleNamespace
from typing import Any

import pytest

from calora.attention import grouped_attention, grouped_queries
from calora.backbone import Backbone
from calora.generation import generate_ids

PROMPTS = [[1, 40, 41, 42, 43, 44, 45], [1, 50, 51]]


def padded_logits(model: Any) -> Any:
    import torch

    ids = torch.tensor([PROMPTS[0], [0] * 4 + PROMPTS[1]])
    with torch.inference_mode():
        return model(input_ids=ids, attention_mask=(ids > 0).long()).logits


def test_grouped_queries_give_the_logits_of_repeated_keys(backbone: Backbone) -> None:
    import torch

    model: Any = backbone.model
    assert model.config.num_key_value_heads < model.config.num_attention_heads
    repeated = padded_logits(model)
    with grouped_queries(model):
        assert model.config._attn_implementation != "eager"
        grouped = padded_logits(model)
    assert model.config._attn_implementation == "eager"
    torch.testing.assert_close(grouped[0], repeated[0], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(grouped[1, 4:], repeated[1, 4:], rtol=1e-5, atol=1e-5)


def test_decoding_groups_queries_and_says_what_transformers_alone_says(
    backbone: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    model: Any = backbone.model
    seen = []
    handle = model.register_forward_hook(lambda *_: seen.append(model.config._attn_implementation))
    try:
        grouped = generate_ids(backbone, PROMPTS, max_tokens=12, force_tokens=12)
    finally:
        handle.remove()
    monkeypatch.setattr("calora.generation.grouped_queries", lambda _: torch.inference_mode())
    assert set(seen) == {"calora-grouped"}
    assert grouped.tolist() == generate_ids(backbone, PROMPTS, max_tokens=12, force_tokens=12).tolist()


@pytest.mark.parametrize("scaling", [None, 0.3])
@pytest.mark.parametrize("softcap", [None, 2.0])
@pytest.mark.parametrize("masked", [True, False])
def test_grouped_attention_is_that_of_transformers(scaling: float | None, softcap: float | None, masked: bool) -> None:
    import torch
    from transformers.models.gemma2.modeling_gemma2 import eager_attention_forward

    generator = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(2, heads, 5, 8, generator=generator) for heads in (6, 2, 2))
    mask = torch.full((2, 1, 5, 5), -1e9).triu(1) if masked else None
    module = SimpleNamespace(head_dim=8, num_key_value_groups=3, training=False)
    theirs: Any = eager_attention_forward
    expected = theirs(module, query, key, value, mask, scaling=scaling, softcap=softcap)[0]
    found = grouped_attention(module, query, key, value, mask, scaling=scaling, softcap=softcap)[0]
    torch.testing.assert_close(found, expected)


def test_attention_with_sinks_is_left_as_it_is() -> None:
    from transformers import GptOssConfig, GptOssForCausalLM

    config = GptOssConfig(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        num_local_experts=2,
        num_experts_per_tok=1,
    )
    model: Any = GptOssForCausalLM._from_config(config, attn_implementation="eager")
    with grouped_queries(model):
        assert model.config._attn_implementation == "eager"
