"""The registry of approaches: those of calora, one a file, and those of other packages.

Another package adds its own by an entry point in the group `calora.approaches` that names a module; importing the
module runs its `@approach` decorators.
"""

import inspect
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, get_type_hints

from pydantic import TypeAdapter, ValidationError

from calora.bench.recipe import CONTROL
from calora.errors import CaloraError

if TYPE_CHECKING:
    from calora.adapter import Adapter
    from calora.backbone import Backbone
    from calora.bench.store import Step
    from calora.calibration import Calibration
    from calora.corpus import Example, Split
    from calora.generation import Pass

GROUP = "calora.approaches"


def _nothing(values: Sequence[Any]) -> "Sequence[Adapter | Calibration]":
    return ()


def _found_nothing(values: Sequence[Any]) -> Mapping[str, Any]:
    return {}


def _no_passes(backbone: "Backbone", values: Sequence[Any]) -> "Sequence[Pass]":
    return ()


@dataclass(frozen=True)
class Plan:
    """How an approach answers in one case.

    Args:
        passes: (backbone, the parents' values) to the passes of a request.
        parents: What has to be trained or chosen first.
        stored: The parents' values to those that have to be kept for the composition alone.
        found: The parents' values to what a search of its own chose for the composition, for the cell's provenance.
        texts: What the first pass reads, for each example; its own text if None.
        given: Answers that no model gives, for a control row; then there are no passes.
        data: Splits that are read when the request is answered, beside the one that is asked.
        shared_by: How many compositions what is stored serves.
    """

    passes: "Callable[[Backbone, Sequence[Any]], Sequence[Pass]]" = _no_passes
    parents: "tuple[Step[Any], ...]" = ()
    stored: "Callable[[Sequence[Any]], Sequence[Adapter | Calibration]]" = _nothing
    found: Callable[[Sequence[Any]], Mapping[str, Any]] = _found_nothing
    texts: "Callable[[Sequence[Example]], Sequence[str]] | None" = None
    given: "Callable[[Sequence[Example]], Sequence[str]] | None" = None
    data: "tuple[Split, ...]" = ()
    shared_by: int = 1


@dataclass(frozen=True)
class Approach:
    """A way to answer composite requests.

    Args:
        name: In recipes.
        title: In tables; it begins with `control:` where the rows show what a measure gives for nothing, or at most.
        plan: (case, **options) to a plan; the options' defaults are the published values.
        search: Options to try for the tuned row, the published ones among them.
        source: Where it is described.
        version: Of its code; cells of another version are made again.
    """

    name: str
    title: str
    plan: Callable[..., Plan]
    search: tuple[Mapping[str, Any], ...] = ()
    source: str | None = None
    version: int = 1

    @property
    def control(self) -> bool:
        """Whether its rows are compared with nothing."""
        return self.title.startswith(CONTROL)

    @property
    def options(self) -> list[inspect.Parameter]:
        """What may be set, with the published values as defaults."""
        return list(inspect.signature(self.plan).parameters.values())[1:]

    def checked(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Options as the plan takes them: a number that YAML read as text (`1e-3`) is one again.

        Raises:
            CaloraError: The approach does not have one of them, needs another, or one is of a wrong type.
        """
        known = self.options
        hint = f"its options: {', '.join(option.name for option in known) or 'none'}"
        unknown = sorted(set(options) - {option.name for option in known})
        if unknown:
            raise CaloraError(f"approach {self.name} has no option {', '.join(unknown)}", hint)
        missing = [o.name for o in known if o.default is inspect.Parameter.empty and o.name not in options]
        if missing:
            raise CaloraError(f"approach {self.name} needs the option {', '.join(missing)}", hint)
        types = get_type_hints(self.plan)
        return {name: self._valid(name, value, types.get(name, Any)) for name, value in options.items()}

    def _valid(self, name: str, value: Any, kind: Any) -> Any:
        try:
            return TypeAdapter(kind).validate_python(value)
        except ValidationError as error:
            problem = f"approach {self.name}: option {name} = {value!r}: {error.errors()[0]['msg']}"
            raise CaloraError(problem, "see the docstring of its planning function") from error


_REGISTRY: dict[str, Approach] = {}


def approach(
    name: str, title: str, *, search: Sequence[Mapping[str, Any]] = (), source: str | None = None, version: int = 1
) -> Callable[[Callable[..., Plan]], Callable[..., Plan]]:
    """Register a planning function as an approach; arguments as for `Approach`."""

    def register(plan: Callable[..., Plan]) -> Callable[..., Plan]:
        if name in _REGISTRY and _REGISTRY[name].plan.__module__ != plan.__module__:
            raise CaloraError(
                f"two approaches are called {name}: in {_REGISTRY[name].plan.__module__} and in {plan.__module__}",
                "give one of them another name",
            )
        _REGISTRY[name] = Approach(name, title, plan, tuple(search), source, version)
        return plan

    return register


def approaches() -> dict[str, Approach]:
    """Every registered approach by name."""
    _load()
    return dict(_REGISTRY)


def find_approach(name: str) -> Approach:
    """An approach by name.

    Raises:
        CaloraError: There is none; names those that there are.
    """
    _load()
    if name not in _REGISTRY:
        raise CaloraError(f"unknown approach {name!r}", f"approaches: {', '.join(sorted(_REGISTRY))}")
    return _REGISTRY[name]


@cache
def _load() -> None:
    import calora.approaches as package

    for module in pkgutil.iter_modules(package.__path__):
        import_module(f"{package.__name__}.{module.name}")
    for entry in entry_points(group=GROUP):
        entry.load()
