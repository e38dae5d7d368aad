"""Put an adapter beside a backbone's weights, for as long as a block lasts.

The weights are never touched: an update is about 0.2 % of a weight's norm, and adding it to a bfloat16
weight would round half of it away.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from calora.adapter import Adapter
from calora.backbone import Backbone

if TYPE_CHECKING:
    import torch

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
def attached(backbone: Backbone, adapter: Adapter | None) -> Iterator[None]:
    """Run the backbone with an adapter beside its weights; with None, as it is.

    Raises:
        CaloraError: The adapter does not fit the backbone.
    """
    import torch

    if adapter is None:
        yield
        return
    backbone.check_adapter(adapter)
    model = backbone.model

    def update(a: torch.Tensor, b: torch.Tensor) -> Update:
        return lambda x, out: low_rank(x, out, a, b)

    updates = {
        module: update(
            torch.from_numpy(factors.a).to(model.device, model.dtype),
            torch.from_numpy(factors.b).to(model.device, model.dtype),
        )
        for module, factors in adapter.modules.items()
    }
    with hooked(backbone, updates):
        yield
