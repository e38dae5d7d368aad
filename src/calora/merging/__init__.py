"""Merging adapters without training, over their low-rank factors."""

from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict

from calora.adapter import Adapter
from calora.merging.apply import merge, merge_measured
from calora.merging.cat import cat
from calora.merging.core_space import core_space
from calora.merging.dare import dare, dare_ties
from calora.merging.dense import DenseUpdate, truncated
from calora.merging.knots import knots
from calora.merging.linear import linear_factors, linear_product
from calora.merging.lm_cocktail import lm_cocktail
from calora.merging.lorahub import lorahub
from calora.merging.prune import breadcrumbs, breadcrumbs_ties, magnitude_prune
from calora.merging.registry import MergeMethod, find_merge_method, merge_method, merge_methods
from calora.merging.slerp import karcher, slerp
from calora.merging.svd import svd
from calora.merging.task_singular_vectors import iso_c, tsv_m
from calora.merging.ties import ties

__all__ = [
    "DenseUpdate",
    "Merge",
    "MergeMethod",
    "Start",
    "breadcrumbs",
    "breadcrumbs_ties",
    "cat",
    "core_space",
    "dare",
    "dare_ties",
    "find_merge_method",
    "iso_c",
    "karcher",
    "knots",
    "linear_factors",
    "linear_product",
    "lm_cocktail",
    "lorahub",
    "magnitude_prune",
    "merge",
    "merge_measured",
    "merge_method",
    "merge_methods",
    "slerp",
    "svd",
    "ties",
    "truncated",
    "tsv_m",
]

Start = Literal["factors", "product"]


class Merge(BaseModel):
    """How adapters become one: kept with every calibration, so that the merge can be made again.

    Args:
        start: `factors` (the paper's) or `product` (exact).
        strengths: One number an adapter; None for the start's own (1/N with factors, 1 with product).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    start: Start = "factors"
    strengths: tuple[float, ...] | None = None

    def __call__(self, adapters: Sequence[Adapter]) -> Adapter:
        """Merge the adapters."""
        merge = linear_factors if self.start == "factors" else linear_product
        return merge(adapters, self.strengths)

    def __str__(self) -> str:
        strengths = "" if self.strengths is None else " " + "/".join(f"{value:g}" for value in self.strengths)
        return f"{self.start}{strengths}"
