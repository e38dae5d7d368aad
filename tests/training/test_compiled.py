import copy
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from calora.training import compiled
from calora.training.compiled import compiled_norms


@pytest.fixture(scope="module")
def model() -> Any:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=64, hidden_size=256, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2
    )
    return LlamaForCausalLM(config).eval()


def gradient(model: Any, length: int) -> torch.Tensor:
    """Of the embedding, which lies before every norm."""
    weight = model.get_input_embeddings().weight
    ids = torch.arange(2 * length).view(2, length) % 64
    (found,) = torch.autograd.grad(model(input_ids=ids, labels=ids).loss, [weight])
    return found


@pytest.mark.skipif(not compiled._can_compile(), reason="no compiler for C++ here")
def test_compiled_norms_give_the_same_gradients_at_any_length(model: Any) -> None:
    expected = {length: gradient(model, length) for length in (1, 5, 9)}
    with compiled_norms(model):
        found = {length: gradient(model, length) for length in expected}
        assert "forward" in vars(model.model.norm)
    for length, value in expected.items():
        torch.testing.assert_close(found[length], value, rtol=1e-4, atol=1e-7)


@pytest.mark.skipif(not compiled._can_compile(), reason="no compiler for C++ here")
def test_without_gradients_a_model_answers_to_the_bit_as_ever(model: Any) -> None:
    ids = torch.arange(12).view(2, 6)
    with torch.no_grad():
        expected = model(input_ids=ids).logits
        with compiled_norms(model):
            assert torch.equal(model(input_ids=ids).logits, expected)
    assert "forward" not in vars(model.model.norm), "the model's own norms are back"


def test_a_model_is_left_alone_where_nothing_can_be_compiled(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "_can_compile", lambda: False)
    with compiled_norms(model):
        assert "forward" not in vars(model.model.norm)


def test_a_small_model_is_not_worth_it(model: Any) -> None:
    small = copy.deepcopy(model)
    small.config.hidden_size = 64
    with compiled_norms(small):
        assert "forward" not in vars(small.model.norm)
