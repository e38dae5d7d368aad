from typing import Any

import pytest

from calora.backbone import Backbone
from tests.conftest import TEXT


def data(rows: int, dtype: Any, seed: int = 0) -> tuple[Any, Any, Any]:
    """Hidden states, a head whose logits spread over some ten nats, and targets."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn(rows, 16, generator=generator).to(dtype).requires_grad_()
    weight = torch.randn(50, 16, generator=generator).to(dtype)
    return hidden, weight, torch.randint(50, (rows,), generator=generator)


@pytest.mark.parametrize("rows", [1, 128, 300])
@pytest.mark.parametrize("block", [1, 7, 49, 50, 51])
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("bfloat16", 2e-2)])
def test_value_and_gradient_are_those_of_cross_entropy(
    monkeypatch: pytest.MonkeyPatch, rows: int, block: int, dtype: str, tolerance: float
) -> None:
    import torch

    from calora.training import loss as module
    from calora.training.loss import head_loss

    monkeypatch.setattr(module, "_BLOCK", block)
    hidden, weight, targets = data(rows, getattr(torch, dtype))
    loss = head_loss(hidden, weight, targets)
    (found,) = torch.autograd.grad(3 * loss, hidden)
    exact = hidden.detach().double().requires_grad_()
    expected = torch.nn.functional.cross_entropy(exact @ weight.double().t(), targets)
    (gradient,) = torch.autograd.grad(3 * expected, exact)
    assert loss.dtype == torch.float32
    assert found.dtype == hidden.dtype
    assert float(loss.detach()) == pytest.approx(float(expected.detach()), rel=tolerance)
    assert float((found.double() - gradient).norm()) <= tolerance * float(gradient.norm())


def test_logits_far_out_neither_overflow_nor_lose_the_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from calora.training import loss as module
    from calora.training.loss import head_loss

    monkeypatch.setattr(module, "_BLOCK", 7)
    hidden, weight, targets = data(4, torch.float32)
    hidden = (100 * hidden.detach()).requires_grad_()
    loss = head_loss(hidden, weight, targets)
    (found,) = torch.autograd.grad(loss, hidden)
    other = hidden.detach().requires_grad_()
    expected = torch.nn.functional.cross_entropy(other @ weight.t(), targets)
    torch.testing.assert_close(loss.detach(), expected.detach())
    torch.testing.assert_close(found, torch.autograd.grad(expected, other)[0])


def test_without_a_gradient_wanted_the_value_is_the_same() -> None:
    import torch

    from calora.training.loss import head_loss

    hidden, weight, targets = data(200, torch.float32)
    with torch.no_grad():
        assert torch.equal(head_loss(hidden.detach(), weight, targets), head_loss(hidden, weight, targets))


def padded_batch(backbone: Backbone) -> tuple[Any, Any, Any]:
    """Two texts of different lengths, padded on the right, the first few positions without labels."""
    import torch

    tokenizer: Any = backbone.tokenizer
    batch = tokenizer([TEXT, TEXT[:40]], return_tensors="pt", padding=True, padding_side="right")
    labels = batch.input_ids.masked_fill(batch.attention_mask == 0, -100)
    labels[:, :5] = -100
    return batch.input_ids, batch.attention_mask, labels.to(torch.long)


def test_completion_loss_is_the_loss_of_transformers_itself(backbone: Backbone) -> None:
    import torch

    from calora.training.loss import completion_loss

    ids, mask, labels = padded_batch(backbone)
    with torch.no_grad():
        found = completion_loss(backbone.model, ids, mask, labels)
        expected: Any = backbone.model
        expected = expected(input_ids=ids, attention_mask=mask, labels=labels).loss
    assert float(found) == pytest.approx(float(expected), rel=1e-5)


def test_padding_and_prompt_have_no_part_in_the_loss(llama: Backbone) -> None:
    import torch

    from calora.training.loss import completion_loss

    ids, mask, labels = padded_batch(llama)
    with torch.no_grad():
        expected = completion_loss(llama.model, ids, mask, labels)
        ids[mask == 0] = 7
        assert torch.equal(completion_loss(llama.model, ids, mask, labels), expected)
        labels[0, 8] = (labels[0, 8] + 1) % 100
        assert not torch.equal(completion_loss(llama.model, ids, mask, labels), expected)
