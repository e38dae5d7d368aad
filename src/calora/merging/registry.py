"""The merges by name: what a recipe, a table or a command line picks from."""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from calora.adapter import Adapter
from calora.errors import CaloraError
from calora.merging.dense import DenseUpdate

Merging = Callable[..., Adapter | DenseUpdate]
Method = TypeVar("Method", bound=Merging)


@dataclass(frozen=True)
class MergeMethod:
    """A merge that needs neither training nor search.

    Args:
        name: What a recipe calls it.
        title: What a table calls it.
        source: Address of the work that it comes from.
        merge: (adapters, strengths, own keyword parameters) to the merge.
        aliases: Other names for it.
    """

    name: str
    title: str
    source: str
    merge: Merging
    aliases: tuple[str, ...] = ()

    @property
    def parameters(self) -> dict[str, Any]:
        """Its own parameters with their defaults."""
        found = inspect.signature(self.merge).parameters.values()
        return {one.name: one.default for one in found if one.kind is inspect.Parameter.KEYWORD_ONLY}

    def __call__(
        self, adapters: Sequence[Adapter], strengths: Sequence[float] | None = None, **parameters: Any
    ) -> Adapter | DenseUpdate:
        """Merge the adapters.

        Raises:
            CaloraError: The adapters do not fit each other, or the method has no such parameter.
        """
        unknown = sorted(set(parameters) - set(self.parameters))
        if unknown:
            raise CaloraError(
                f"the {self.name} merge has no parameter {', '.join(unknown)}",
                f"its own parameters: {', '.join(self.parameters) or 'none'}",
            )
        return self.merge(adapters, strengths, **parameters)


_METHODS: dict[str, MergeMethod] = {}
_BY_ANY_NAME: dict[str, MergeMethod] = {}


def merge_method(name: str, *, title: str, source: str, aliases: tuple[str, ...] = ()) -> Callable[[Method], Method]:
    """Register a function as the merge of that name and return it as it is.

    Args:
        name: What a recipe calls it.
        title: What a table calls it.
        source: Address of the work that it comes from.
        aliases: Other names for it.

    Raises:
        ValueError: Another merge has one of the names.
    """

    def register(merge: Method) -> Method:
        method = MergeMethod(name, title, source, merge, aliases)
        taken = sorted({name, *aliases} & set(_BY_ANY_NAME))
        if taken:
            raise ValueError(f"two merges are called {', '.join(taken)}")
        _METHODS[name] = method
        _BY_ANY_NAME.update(dict.fromkeys((name, *aliases), method))
        return merge

    return register


def merge_methods() -> dict[str, MergeMethod]:
    """Every registered merge by its name, in alphabetical order."""
    return dict(sorted(_METHODS.items()))


def find_merge_method(name: str) -> MergeMethod:
    """The merge of a name or of an alias.

    Raises:
        CaloraError: There is none; the hint lists the names.
    """
    if name not in _BY_ANY_NAME:
        raise CaloraError(f"no merge is called {name!r}", f"names: {', '.join(merge_methods())}")
    return _BY_ANY_NAME[name]
