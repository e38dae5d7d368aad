"""Merges that decide entry by entry: of the updates, of their cores, or of the factors as PEFT does."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from calora.adapter import Adapter, Factors
from calora.merging.dense import DenseUpdate
from calora.merging.inputs import by_module, checked, modules, one_rank
from calora.merging.spaces import Coordinates, Form, Space, core_space, knots_space, product_space
from calora.storage import Array

Fraction = Annotated[float, Field(gt=0, le=1)]
Density = Annotated[
    Fraction | tuple[Fraction, ...],
    Field(description="the fraction of entries that is kept, above 0 and at most 1: one number, or one an adapter"),
]
Over = Annotated[
    Literal["product", "factors", "core", "knots"],
    Field(
        description="whose entries are meant: `product`, of the updates; `factors`, of A and B each, cheap and rough; "
        "`core` or `knots`, of the updates in a basis that they share"
    ),
]
_SPACES: dict[str, Space] = {"product": product_space, "core": core_space, "knots": knots_space}


@dataclass(frozen=True)
class Party:
    """One adapter's matrix where several are merged entry by entry.

    Args:
        matrix: Makes the matrix [rows, columns], free to be changed in place.
        strength: By which it counts.
        place: Of its adapter among all.
        key: Names adapter, module and matrix, whatever the order; what is drawn at random hangs on it.
    """

    matrix: Form
    strength: float
    place: int
    key: str

    def generator(self, seed: int) -> np.random.Generator:
        """A random generator of its own."""
        digest = hashlib.sha256(f"{seed}/{self.key}".encode()).digest()
        return np.random.default_rng(int.from_bytes(digest))

    def own(self, values: float | tuple[float, ...]) -> float:
        """The value of its adapter, where there may be one for all."""
        return values[self.place] if isinstance(values, tuple) else values


Rule = Callable[[Sequence[Party]], Array]


def entrywise(
    adapters: Sequence[Adapter], strengths: Sequence[float] | None, rule: Rule, over: Over = "product"
) -> Adapter | DenseUpdate:
    """Merge by a rule for the matrices of one module.

    Over `factors` the rule meets all A with sign(w_i) sqrt|w_i|, then all B with sqrt|w_i|, as in PEFT's combination
    types without `_svd`, for adapters of one scale alpha / r; the updates' cross terms come with it, as in
    `linear_factors`.

    Args:
        adapters: Adapters of any ranks (of one rank over `factors`); what one of them lacks is a zero update there.
        strengths: w_i; 1 each if None.
        rule: What to make of the matrices of those adapters that have the module, not as an update of 0, and a
            strength that is not 0.
        over: What the matrices are.

    Returns:
        A `DenseUpdate` over `product`, else an adapter: of the parents' rank over `factors`, of rank sum r_i over a
        basis.

    Raises:
        CaloraError: The adapters differ in shapes, or over `factors` in rank.
    """
    weights = checked(adapters, strengths, 1.0)

    def part(module: str) -> Any:
        parties = _present(adapters, weights, module, over)
        if not parties:
            first = next(adapter.modules[module] for adapter in adapters if module in adapter.modules)
            return np.zeros(first.shape, np.float32) if over == "product" else first.scaled(0.0)
        if over == "factors":
            return _over_factors(module, parties, rule)
        placed, coordinates = _placed(parties, over)
        return coordinates.back(rule(placed))

    every = modules(adapters)
    if over == "product":  # one after the other: a whole update each is what memory is kept to
        return DenseUpdate({module: part(module) for module in every})
    return Adapter(by_module(every, part))


def every_party(adapters: Sequence[Adapter], strengths: Sequence[float] | None, over: Over) -> Iterator[Party]:
    """The parties of all modules, for rules that look at whole adapters first; not over `factors`."""
    weights = checked(adapters, strengths, 1.0)
    for module in modules(adapters):
        if parties := _present(adapters, weights, module, over):
            yield from _placed(parties, over)[0]


def _present(
    adapters: Sequence[Adapter], weights: Sequence[float], module: str, over: Over
) -> list[tuple[Party, Factors]]:
    """Parties without a matrix yet, and the factors, of the adapters that take part in a module.

    A basis would give an update of 0 entries that rounding leaves, and rules for signs would count them; over the
    factors one half of it may be what another adapter's half is added to.
    """
    names = [adapter.card.name if adapter.card else "" for adapter in adapters]
    keys: list[str] = []
    found = []
    for place, (adapter, name, weight) in enumerate(zip(adapters, names, weights, strict=True)):
        pair = adapter.modules.get(module)
        # One without a name of its own is known by its factors, wherever it stands among others.
        alike = not name or names.count(name) > 1
        key = f"{name}{pair.sha256}" if alike and pair else name
        keys.append(key)
        if weight and pair is not None and (over == "factors" or not pair.is_zero):
            twins = keys[:place].count(key)  # one that is given twice is drawn twice
            found.append((Party(pair.update, weight, place, f"{key}/{twins}/{module}"), pair))
    return found


def _placed(parties: Sequence[tuple[Party, Factors]], over: Over) -> tuple[list[Party], Coordinates]:
    coordinates = _SPACES[over]([pair for _, pair in parties])
    placed = [
        Party(form, party.strength, party.place, party.key)
        for (party, _), form in zip(parties, coordinates.forms, strict=True)
    ]
    return placed, coordinates


def _over_factors(module: str, parties: Sequence[tuple[Party, Factors]], rule: Rule) -> Factors:
    one_rank(module, [pair for _, pair in parties])

    def half(name: str, form: Callable[[Factors], Form], root: Callable[[float], float]) -> Array:
        return rule(
            [Party(form(pair), root(party.strength), party.place, f"{party.key}/{name}") for party, pair in parties]
        )

    return Factors(
        half("A", lambda pair: pair.a.copy, lambda weight: float(np.copysign(abs(weight) ** 0.5, weight))),
        half("B", lambda pair: pair.b.copy, lambda weight: float(abs(weight) ** 0.5)),
    )


def summed(prepared: Callable[[Party], Array]) -> Rule:
    """A rule that adds up what is made of each matrix, times its strength, holding two at a time."""

    def rule(parties: Sequence[Party]) -> Array:
        merged: Array | None = None
        for party in parties:
            part = prepared(party)
            part *= np.float32(party.strength)
            merged = part if merged is None else np.add(merged, part, out=merged)
        assert merged is not None
        return merged

    return rule
