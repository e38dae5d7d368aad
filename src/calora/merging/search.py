"""Which method, and which strengths? Searched on examples of what the merge is for."""

import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict

from calora.adapter import Adapter
from calora.errors import CaloraError, install_hint
from calora.merging.apply import merge_measured
from calora.merging.inputs import check_parents, checked, modules

METHODS = ("product", "factors", "karcher", "tsv_m", "iso_c", "knots", "core")
"""Those whose result is an adapter, whole, but for `cat` (`product` with other strengths) and `slerp` (between two, and
near `karcher`); `factors` is left out where the adapters differ in rank."""
BUDGET, FINALISTS = 40, 4
_LEAST, _MOST = 0.2, 1.8
_SCALES = (1.0, 0.6)
_BEST = 3


class Trial(BaseModel):
    """One merge that was tried.

    Args:
        method: Its name.
        strengths: One an adapter.
        loss: On the examples.
        score: What its answers reached, of those that were let to answer.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    method: str
    strengths: tuple[float, ...]
    loss: float
    score: float | None = None


def search_merge(
    adapters: Sequence[Adapter],
    loss: Callable[[Adapter], float],
    score: Callable[[Adapter], float],
    *,
    budget: int = BUDGET,
    finalists: int = FINALISTS,
    methods: Sequence[str] = METHODS,
    seed: int = 0,
    follow: Callable[[], None] = lambda: None,
) -> list[Trial]:
    """Search method and strengths by loss, then let the best answer.

    Every method is tried at its own strengths (1 each; 1/N each with `factors`) and at 0.6 of them; what is left of the
    budget goes to the strengths of the three best, from 0.2 to 1.8, by Nevergrad's NGOpt. The best of each method, of
    as many as there are `finalists`, are scored by what they answer, as loss and answers do not always agree; the best
    score wins, the lower loss among equals. (Those of least loss may all be of one method, nearly alike.)

    Args:
        adapters: Of one backbone.
        loss: The mean loss of the examples under a merge; finite.
        score: What its answers reach; higher is better.
        budget: How many merges are tried by loss.
        finalists: How many of them are let to answer.
        methods: Names of merges that give adapters.
        seed: Of the search.
        follow: Called after each trial and each finalist.

    Returns:
        All that was tried, the winner first, then the other finalists and the rest by loss.

    Raises:
        CaloraError: Nevergrad is not installed, the budget does not suffice for each method twice, there is no
            finalist, or the adapters do not fit each other.
    """
    checked(adapters, None, 1.0)
    check_parents(adapters)
    _nevergrad()  # told before the first loss
    pairs = [[one.modules[module].rank for one in adapters if module in one.modules] for module in modules(adapters)]
    if any(len(set(ranks)) > 1 for ranks in pairs):
        methods = [method for method in methods if method != "factors"]
    if budget < len(_SCALES) * len(methods):
        raise CaloraError(f"budget {budget} for {len(methods)} methods", f"each is tried {len(_SCALES)} times at least")
    if finalists < 1:
        raise CaloraError(f"{finalists} finalists", "at least one merge has to answer")

    def made(method: str, strengths: Sequence[float]) -> Adapter:
        merged, _ = merge_measured(adapters, method, strengths)
        assert isinstance(merged, Adapter)
        return merged

    tried: dict[tuple[str, tuple[float, ...]], Trial] = {}

    def loss_of(method: str, strengths: Sequence[float]) -> float:
        place = (method, tuple(round(float(strength), 3) for strength in strengths))
        if place not in tried:
            tried[place] = Trial(method=method, strengths=place[1], loss=loss(made(*place)))
        follow()
        return tried[place].loss

    for method in methods:
        own = 1 / len(adapters) if method == "factors" else 1.0
        for scale in _SCALES:
            loss_of(method, [scale * own] * len(adapters))
    best = list(dict.fromkeys(trial.method for trial in sorted(tried.values(), key=lambda trial: trial.loss)))[:_BEST]
    left = budget - len(_SCALES) * len(methods)
    for place, method in enumerate(best):
        start = min((one for one in tried.values() if one.method == method), key=lambda one: one.loss).strengths
        _minimize(partial(loss_of, method), start, left // len(best) + (place < left % len(best)), seed)
    ranked = sorted(tried.values(), key=lambda trial: trial.loss)
    best_of: dict[str, Trial] = {}
    for trial in ranked:
        best_of.setdefault(trial.method, trial)
    chosen = [*best_of.values(), *(trial for trial in ranked if trial is not best_of[trial.method])][:finalists]
    final = []
    for trial in chosen:
        final.append(trial.model_copy(update={"score": score(made(trial.method, trial.strengths))}))
        follow()
    final.sort(key=lambda trial: (-(trial.score or 0.0), trial.loss))
    return [*final, *(trial for trial in ranked if trial not in chosen)]


def _minimize(loss: Callable[[Sequence[float]], float], start: Sequence[float], budget: int, seed: int) -> None:
    """Let Nevergrad ask for the loss of strengths, so many times."""
    nevergrad = _nevergrad()
    if budget < 1:
        return
    place: Any = nevergrad.p.Array(init=np.clip(start, _LEAST, _MOST), lower=_LEAST, upper=_MOST)
    place.random_state = np.random.RandomState(seed)
    with warnings.catch_warnings():
        # Nevergrad hands scipy a tolerance of 0, which scipy reports and replaces by its own.
        warnings.filterwarnings("ignore", "COBYLA: Invalid", UserWarning, r"scipy\.")
        nevergrad.optimizers.NGOpt(place, budget=budget).minimize(lambda strengths: loss(strengths.tolist()))


def _nevergrad() -> Any:
    try:
        import nevergrad
    except ImportError as error:
        raise CaloraError("a search needs nevergrad, which is not installed", install_hint("search")) from error
    return nevergrad
