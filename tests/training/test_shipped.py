import pytest


def test_divergence_is_the_kl_of_torch() -> None:
    import torch

    from calora.training.shipped import divergence

    generator = torch.Generator().manual_seed(0)
    one, other = (torch.randn(150, 40, generator=generator).log_softmax(-1) for _ in range(2))
    expected = torch.nn.functional.kl_div(other, one, log_target=True, reduction="batchmean")
    assert divergence(one, other) == pytest.approx(float(expected), rel=1e-5)
    assert divergence(one, one) == 0
