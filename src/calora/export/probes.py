"""Log-probabilities of the same positions from two places: a runtime with an exported file, and our forward pass."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from calora.attach import Attachable, attached
from calora.storage import Array

if TYPE_CHECKING:
    from calora.backbone import Backbone

TOP = 40


@dataclass(frozen=True)
class Probe:
    """What a runtime said about each position of a text.

    Args:
        ids: The tokens of the text.
        start: The first position that was predicted.
        tops: For each position from there on, the likeliest tokens with their log-probabilities, the likeliest first.
    """

    ids: list[int]
    start: int
    tops: list[dict[int, float]]

    @classmethod
    def of(cls, ids: Sequence[int], start: int, logprobs: Array) -> "Probe":
        """Take the likeliest tokens of each position.

        Args:
            ids: The tokens.
            start: The first position that was predicted.
            logprobs: [positions, vocabulary], of the tokens from `start` on.
        """
        tops = []
        for row in logprobs:
            best = np.argsort(-row, kind="stable")[:TOP]
            tops.append(dict(zip(best.tolist(), row[best].tolist(), strict=True)))
        return cls(list(ids), start, tops)

    def spread(self, one: Array, other: Array) -> float:
        """The largest difference of two others in the log-probability of any token that was told here.

        Args:
            one: [positions, vocabulary], of the same positions.
            other: Likewise.
        """
        return max(
            float(np.abs(first[list(top)] - second[list(top)]).max())
            for top, first, second in zip(self.tops, one, other, strict=True)
        )

    def distance(self, logprobs: Array) -> float:
        """The largest difference of any token's logit, what all tokens of a position have in common left out.

        A logit is known up to such a constant; that of a log-probability is the logarithm of a sum over the vocabulary.
        llama.cpp's server adds it up in float32, one token after the other: with 262 thousand of them its
        log-probabilities are off by up to 0.002 where its logits are right.

        Args:
            logprobs: [positions, vocabulary] from elsewhere, of the same positions.
        """
        apart = (
            np.array([value - float(row[token]) for token, value in top.items()])
            for top, row in zip(self.tops, logprobs, strict=True)
        )
        return max(float(np.abs(one - np.median(one)).max()) for one in apart)

    def agreement(self, logprobs: Array, slack: float = 0.0) -> int:
        """At how many positions both have the same likeliest token.

        Args:
            logprobs: [positions, vocabulary] from elsewhere, of the same positions.
            slack: A token counts as likeliest within this of the best, for ties.
        """
        likeliest = [next(iter(top)) for top in self.tops]
        return sum(bool(row[token] >= row.max() - slack) for token, row in zip(likeliest, logprobs, strict=True))


def reference_logprobs(backbone: "Backbone", adapter: Attachable | None, ids: Sequence[int], start: int) -> Array:
    """Log-probabilities of our own forward pass in the backbone's precision.

    Returns:
        [positions, vocabulary], of the tokens from `start` on.
    """
    import torch

    with attached(backbone, adapter), torch.inference_mode():
        logits = backbone.model(torch.tensor([list(ids)], device=backbone.model.device)).logits[0, start - 1 : -1]
        found: Array = torch.log_softmax(logits.float(), dim=-1).cpu().numpy()
    return found


@contextmanager
def gelu_in_half(backbone: "Backbone") -> Iterator[int]:
    """Round what goes into each GELU, and what comes out, to float16 while the block lasts.

    Yields:
        How many there are.
    """
    import torch

    def half(x: torch.Tensor) -> torch.Tensor:
        return x.half().to(x.dtype)

    gelus = [module for module in backbone.model.modules() if "gelu" in type(module).__name__.lower()]
    handles = [
        handle
        for gelu in gelus
        for handle in (
            gelu.register_forward_pre_hook(lambda module, inputs: (half(inputs[0]),)),
            gelu.register_forward_hook(lambda module, inputs, out: half(out)),
        )
    ]
    try:
        yield len(gelus)
    finally:
        for handle in handles:
            handle.remove()


def mean_kl(first: Array, second: Array) -> float:
    """Mean over positions of the Kullback-Leibler divergence of the second from the first, in nats."""
    return float(np.mean(np.sum(np.exp(first) * (first - second), axis=1)))
