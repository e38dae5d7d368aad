"""Put an adapter beside a backbone's weights, for as long as a block lasts.

The weights are never touched: an update is about 0.2 % of a weight's norm, and adding it to a bfloat16
weight would round half of it away.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from calora.adapter import Adapter, Factors
from calora.backbone import Backbone
from calora.calibration import Unfolded
from calora.merging import DenseUpdate
from calora.storage import Array

if TYPE_CHECKING:
    import torch

Attachable = Adapter | DenseUpdate | Unfolded
Update = Callable[["torch.Tensor", "torch.Tensor"], "torch.Tensor"]


def low_rank(x: "torch.Tensor", out: "torch.Tensor", a: "torch.Tensor", b: "torch.Tensor") -> "torch.Tensor":
    """Out + (x a^T) b^T, in one pass over `out`.

    Args:
        x: [..., in].
        out: [..., out], the module's own result.
        a: [rank, in].
        b: [out, rank].
    """
    import torch

    inner = x.reshape(-1, x.shape[-1]) @ a.t()
    return torch.addmm(out.reshape(-1, out.shape[-1]), inner, b.t()).view(out.shape)


def full_rank(x: "torch.Tensor", out: "torch.Tensor", weight: "torch.Tensor") -> "torch.Tensor":
    """Out + x weight^T, in one pass over `out`.

    Args:
        x: [..., in].
        out: [..., out], the module's own result.
        weight: [out, in].
    """
    import torch

    return torch.addmm(out.reshape(-1, out.shape[-1]), x.reshape(-1, x.shape[-1]), weight.t()).view(out.shape)


@contextmanager
def hooked(backbone: Backbone, updates: dict[str, Update]) -> Iterator[None]:
    """Pass each named module's input and result through its update while the block lasts."""

    def hook(update: Update) -> "Callable[[torch.nn.Module, tuple[torch.Tensor, ...], torch.Tensor], torch.Tensor]":
        return lambda module, inputs, out: update(inputs[0], out)

    handles = [
        backbone.model.get_submodule(name).register_forward_hook(hook(update)) for name, update in updates.items()
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def attached(backbone: Backbone, adapter: Attachable | None) -> Iterator[None]:
    """Run the backbone with an adapter, or what is like one, beside its weights; with None, as it is.

    Raises:
        CaloraError: The adapter does not fit the backbone.
    """
    import torch

    if adapter is None:
        yield
        return
    if isinstance(adapter, Unfolded):
        from calora.training.calibration import frozen_updates

        with hooked(backbone, frozen_updates(backbone, adapter)):
            yield
        return
    backbone.check_adapter(adapter)
    model = backbone.model

    def placed(values: Array) -> torch.Tensor:
        return torch.from_numpy(values).to(model.device, model.dtype)

    def update(part: Factors | Array) -> Update:
        if isinstance(part, Factors):
            a, b = placed(part.a), placed(part.b)
            return lambda x, out: low_rank(x, out, a, b)
        weight = placed(part)
        return lambda x, out: full_rank(x, out, weight)

    with hooked(backbone, {module: update(part) for module, part in adapter.modules.items()}):
        yield
