import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calora.errors import CaloraError
from calora.merging import find_merge_method, linear_factors, linear_product, merge_method, merge_methods
from tests.conftest import random_adapter
from tests.merging.helpers import SHAPES, Q, assert_same, dense, in_another_gauge, several

NAMES = (
    "breadcrumbs breadcrumbs_ties cat core dare dare_ties factors iso_c karcher knots magnitude_prune product slerp "
    "svd ties tsv_m"
).split()
ALONE = [name for name in NAMES if name != "slerp"]  # that take one adapter
seeds = st.integers(0, 200)
pairs_of_strengths = st.tuples(st.floats(0.25, 2, width=32), st.floats(-2, -0.25, width=32))


def keeping_all(name: str) -> dict[str, Any]:
    return {"density": 1.0} if "density" in merge_methods()[name].defaults else {}


def test_every_method_is_there_with_its_source() -> None:
    assert list(merge_methods()) == NAMES
    for name, method in merge_methods().items():
        assert method.name == name
        assert method.title
        assert method.source.startswith("https://")


def test_a_method_is_found_by_its_aliases() -> None:
    assert find_merge_method("linear_factors").merge is linear_factors
    assert find_merge_method("task_arithmetic").merge is linear_product
    for method in merge_methods().values():
        assert all(find_merge_method(name) is method for name in (method.name, *method.aliases))


def test_an_unknown_name_is_answered_with_the_names() -> None:
    with pytest.raises(CaloraError, match="no merge is called 'tied'") as caught:
        find_merge_method("tied")
    assert caught.value.hint == f"names: {', '.join(NAMES)}"


def test_an_unknown_parameter_is_refused() -> None:
    with pytest.raises(CaloraError, match="the ties merge has no parameter densty") as caught:
        find_merge_method("ties")(several(0, 2), densty=0.5)
    assert caught.value.hint == "its own parameters: density, sign, vote, divide, scope, over"


def test_a_name_is_given_once() -> None:
    with pytest.raises(ValueError, match="two merges are called ties, ties_svd"):
        merge_method("ties", title="", source="", aliases=("ties_svd", "new"))(linear_product)
    with pytest.raises(CaloraError):
        find_merge_method("new")


@pytest.mark.parametrize("name", [name for name in ALONE if name != "iso_c"])
@given(seed=seeds)
def test_one_adapter_with_strength_one_is_itself(name: str, seed: int) -> None:
    adapter = random_adapter(SHAPES, seed)
    for strengths in ([1.0], None):
        assert_same(merge_methods()[name]([adapter], strengths, **keeping_all(name)), adapter)


@pytest.mark.parametrize("name", NAMES)
@given(seed=seeds, strengths=pairs_of_strengths)
def test_order_changes_nothing(name: str, seed: int, strengths: tuple[float, float]) -> None:
    method, adapters = merge_methods()[name], several(seed, 2)
    assert_same(method(adapters[::-1], strengths[::-1]), method(adapters, strengths))


@pytest.mark.parametrize("name", ALONE)
@given(seed=seeds, strength=st.floats(-2, 2, width=32))
def test_strength_zero_leaves_an_adapter_out(name: str, seed: int, strength: float) -> None:
    method, (first, second) = merge_methods()[name], several(seed, 2)
    assert_same(method([first, second], [strength, 0.0]), method([first], [strength]))


@pytest.mark.parametrize("name", [name for name in NAMES if name != "factors"])
@pytest.mark.parametrize("seed", range(5))
def test_no_method_on_the_updates_sees_the_gauge(name: str, seed: int) -> None:
    """Fixed seeds: at the edge of a trimmed set the last bit of a product would decide."""
    method, (first, second) = merge_methods()[name], several(seed, 2, rank=3)
    assert_same(method([first, in_another_gauge(second)], [0.5, 1.5]), method([first, second], [0.5, 1.5]))


@pytest.mark.parametrize("name", NAMES)
def test_a_module_that_one_adapter_lacks_is_a_zero_update_there(name: str) -> None:
    whole, part = random_adapter(SHAPES, 0), random_adapter({Q: SHAPES[Q]}, 1)
    zero = random_adapter(SHAPES, 1).modules
    padded = type(part)({module: part.modules.get(module, _nothing(zero[module])) for module in SHAPES})
    method = merge_methods()[name]
    assert_same(method([whole, part], [0.5, 2.0]), method([whole, padded], [0.5, 2.0]))


def _nothing(pair: Any) -> Any:
    return type(pair)(0 * pair.a, 0 * pair.b)


@pytest.mark.parametrize("name", NAMES)
def test_strengths_all_zero_are_no_update(name: str) -> None:
    merged = merge_methods()[name](several(0, 2), [0.0, 0.0])
    assert all(not update.any() for update in dense(merged).values())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("adapters", "strengths", "message"),
    [
        ([], None, "nothing to merge"),
        (several(0, 2), [1.0], "1 strengths for 2 adapters"),
        (several(0, 2), [1.0, float("inf")], "not all finite"),
        (
            [random_adapter(SHAPES), random_adapter({Q: (4, 5)}, name="reply")],
            None,
            "reply: layers.0.q_proj is (4, 5), the adapters before it have (6, 5)",
        ),
    ],
)
def test_what_does_not_fit_is_named(name: str, adapters: Any, strengths: Any, message: str) -> None:
    with pytest.raises(CaloraError, match=re.escape(message)):
        merge_methods()[name](adapters, strengths)


@pytest.mark.parametrize("name", [name for name in NAMES if "density" in merge_methods()[name].defaults])
@pytest.mark.parametrize("density", [0.0, -0.1, 1.5, float("nan"), (0.5, 2.0), "half"])
def test_a_density_that_is_no_fraction_is_refused(name: str, density: Any) -> None:
    with pytest.raises(CaloraError, match=re.escape(f"the {name} merge: density = {density!r}")) as caught:
        merge_methods()[name](several(0, 2), density=density)
    assert "above 0 and at most 1" in str(caught.value.hint)


@pytest.mark.parametrize("name", ["ties", "dare", "breadcrumbs", "knots"])
def test_each_adapter_may_have_its_own_density(name: str) -> None:
    method, (first, second) = merge_methods()[name], several(0, 2)
    alone = method([first], density=0.5)
    assert_same(method([first, second], [1.0, 0.0], density=(0.5, 0.1)), alone, 1e-4)
    for wrong in ((0.5,), (0.5, 0.2, 0.9)):
        with pytest.raises(CaloraError, match=f"{len(wrong)} values of density for 2 adapters"):
            method([first, second], density=wrong)


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_says_what_it_takes(name: str) -> None:
    for field in merge_methods()[name].parameters.model_fields.values():
        assert field.description
        assert not field.is_required()
