"""What PEFT and mergekit mean by a name: our methods with the parameters that make them theirs."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from calora.errors import CaloraError
from calora.merging.registry import find_merge_method

Preset = Literal["peft", "mergekit"]


@dataclass(frozen=True)
class Convention:
    """A method as a tool has it.

    Args:
        method: Our name.
        parameters: Ours, where they are not our defaults.
        normalized: Whether the strengths are divided by their sum first.
        truncated: Whether the result is cut to the largest parent's rank.
    """

    method: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    normalized: bool = False
    truncated: bool = False


# Their weights are our strengths; the defaults of PEFT 0.21 and mergekit 0.1.5. PEFT has no default density.
_FACTORS = {"over": "factors"}
_MERGEKIT_TIES = {"vote": "weighted", "divide": "none"}
CONVENTIONS: Mapping[str, Mapping[str, Convention]] = {
    "peft": {
        "linear": Convention("factors", {"root": True}),
        "cat": Convention("product"),
        "svd": Convention("svd"),
        **{name: Convention(ours, _FACTORS) for name, ours in (("ties", "ties"), ("dare_linear", "dare"))},
        **{name: Convention(name, _FACTORS) for name in ("dare_ties", "magnitude_prune")},
        "ties_svd": Convention("ties", truncated=True),
        "dare_linear_svd": Convention("dare", truncated=True),
        "dare_ties_svd": Convention("dare_ties", truncated=True),
        "magnitude_prune_svd": Convention("magnitude_prune", truncated=True),
    },
    "mergekit": {
        "linear": Convention("product", normalized=True),
        "task_arithmetic": Convention("product"),
        "ties": Convention("ties", {"density": 1.0, "vote": "weighted", "divide": "strength"}),
        "dare_linear": Convention("dare", {"density": 1.0, "rescale": "l1"}),
        "dare_ties": Convention("dare_ties", {"density": 1.0, "rescale": "l1", **_MERGEKIT_TIES}),
        "breadcrumbs": Convention("breadcrumbs", {"density": 1.0}),
        "breadcrumbs_ties": Convention("breadcrumbs_ties", {"density": 1.0, **_MERGEKIT_TIES}),
        "slerp": Convention("slerp", {"scope": "module"}),
        "karcher": Convention("karcher", {"scope": "module", "steps": 10}),
    },
}


def find_convention(name: str, preset: str | None = None) -> Convention:
    """A method by a tool's name, or by ours.

    Raises:
        CaloraError: The tool has no such method, or calora has not.
    """
    if preset is None:
        return Convention(find_merge_method(name).name)
    if preset not in CONVENTIONS:
        raise CaloraError(f"no preset is called {preset!r}", f"presets: {', '.join(CONVENTIONS)}")
    if name not in CONVENTIONS[preset]:
        raise CaloraError(
            f"{name!r} is no method of {preset} that calora has", f"those it has: {', '.join(CONVENTIONS[preset])}"
        )
    return CONVENTIONS[preset][name]


def in_mergekits_words(convention: Convention, given: Mapping[str, Any]) -> Convention:
    """A mergekit method with the parameters that a recipe sets for it: its own names and values, or ours.

    Raises:
        CaloraError: A parameter does nothing in calora, or needs true or false.
    """
    ours = dict(convention.parameters)
    normalized = convention.normalized
    for key, value in given.items():
        if key in ("normalize", "rescale") and not isinstance(value, bool):
            raise CaloraError(f"{key} = {value!r}", "expected true or false, as in mergekit")
        if key == "normalize" and "divide" in find_merge_method(convention.method).defaults:
            ours["divide"] = "strength" if value else "none"
        elif key == "normalize":
            normalized = value
        elif key == "rescale" and "rescale" in ours:
            ours["rescale"] = "l1" if value else "none"
        elif key == "max_iter" and "steps" in ours:
            ours["steps"] = value
        elif key == "int8_mask":
            continue  # the type of a mask that calora does not hold
        else:
            ours[key] = value
    return Convention(convention.method, ours, normalized, convention.truncated)
