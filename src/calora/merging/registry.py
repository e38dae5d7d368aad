"""The merges by name: what a recipe, a table or a command line picks from."""

import functools
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, cast, get_type_hints

from pydantic import BaseModel, ConfigDict, ValidationError, create_model

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
        parameters: Its own parameters with their types, ranges, defaults and descriptions.
        aliases: Other names for it.
    """

    name: str
    title: str
    source: str
    merge: Merging
    parameters: type[BaseModel]
    aliases: tuple[str, ...] = ()

    @property
    def defaults(self) -> dict[str, Any]:
        """Its own parameters with their defaults."""
        return {name: field.default for name, field in self.parameters.model_fields.items()}

    def __call__(
        self, adapters: Sequence[Adapter], strengths: Sequence[float] | None = None, **parameters: Any
    ) -> Adapter | DenseUpdate:
        """Merge the adapters.

        Raises:
            CaloraError: The adapters do not fit each other, the method has no such parameter, or not of this value.
        """
        return self.merge(adapters, strengths, **parameters)


_METHODS: dict[str, MergeMethod] = {}
_BY_ANY_NAME: dict[str, MergeMethod] = {}


def merge_method(name: str, *, title: str, source: str, aliases: tuple[str, ...] = ()) -> Callable[[Method], Method]:
    """Register a function as the merge of that name; the one that is returned checks its own parameters first.

    Args:
        name: What a recipe calls it.
        title: What a table calls it.
        source: Address of the work that it comes from.
        aliases: Other names for it.

    Raises:
        ValueError: Another merge has one of the names.
    """

    def register(merge: Method) -> Method:
        taken = sorted({name, *aliases} & set(_BY_ANY_NAME))
        if taken:
            raise ValueError(f"two merges are called {', '.join(taken)}")
        parameters = _parameters_of(name, merge)

        @functools.wraps(merge)
        def checked(adapters: Sequence[Adapter], strengths: Sequence[float] | None = None, **given: Any) -> Any:
            valid = _valid(name, parameters, given)
            for key, value in valid.items():
                if isinstance(value, tuple) and len(value) != len(adapters):
                    raise CaloraError(
                        f"{len(value)} values of {key} for {len(adapters)} adapters", "give one an adapter"
                    )
            return merge(adapters, strengths, **valid)

        method = MergeMethod(name, title, source, checked, parameters, aliases)
        _METHODS[name] = method
        _BY_ANY_NAME.update(dict.fromkeys((name, *aliases), method))
        return cast("Method", checked)

    return register


def _parameters_of(name: str, merge: Merging) -> type[BaseModel]:
    """A model of a merge's keyword parameters: what their annotations say."""
    hints = get_type_hints(merge, include_extras=True)
    own = [one for one in inspect.signature(merge).parameters.values() if one.kind is inspect.Parameter.KEYWORD_ONLY]
    fields: dict[str, Any] = {one.name: (hints[one.name], one.default) for one in own}
    return create_model(name, __config__=ConfigDict(extra="forbid", allow_inf_nan=False), **fields)


def _valid(name: str, parameters: type[BaseModel], given: dict[str, Any]) -> dict[str, Any]:
    """The parameters in their types.

    Raises:
        CaloraError: One is unknown or out of its range.
    """
    unknown = sorted(set(given) - set(parameters.model_fields))
    if unknown:
        raise CaloraError(
            f"the {name} merge has no parameter {', '.join(unknown)}",
            f"its own parameters: {', '.join(parameters.model_fields) or 'none'}",
        )
    try:
        valid = parameters(**given)
    except ValidationError as error:
        key = str(error.errors()[0]["loc"][0])
        field = parameters.model_fields[key]
        raise CaloraError(f"the {name} merge: {key} = {given[key]!r}", f"expected {field.description}") from error
    return {key: getattr(valid, key) for key in parameters.model_fields}


def merge_methods() -> dict[str, MergeMethod]:
    """Every registered merge by its name, in alphabetical order."""
    return dict(sorted(_METHODS.items()))


def find_merge_method(name: str) -> MergeMethod:
    """The merge of a name or of an alias.

    Raises:
        CaloraError: There is none; the hint lists the names.
    """
    if name == "linear":
        raise CaloraError(
            "`linear` is the paper's mean of the factors, PEFT's sum with roots, mergekit's mean of the updates",
            "say `factors`, or take the preset `peft` or `mergekit`",
        )
    if name not in _BY_ANY_NAME:
        raise CaloraError(f"no merge is called {name!r}", f"names: {', '.join(merge_methods())}")
    return _BY_ANY_NAME[name]
