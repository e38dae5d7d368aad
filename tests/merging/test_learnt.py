from pathlib import Path

import numpy as np
import pytest

from calora.adapter import Adapter, module_kind
from calora.backbone import Backbone
from calora.errors import CaloraError
from calora.merging import cat
from calora.merging.learnt import Learnt, LearntCard, per_module, projected, read_learnt, write_learnt
from tests.conftest import assert_same_updates, random_adapter


def test_one_strength_for_all_modules_is_the_concatenation(llama: Backbone) -> None:
    adapters = [random_adapter(llama, 1, rank=3), random_adapter(llama, 2, rank=5)]
    strengths = {module: np.array([0.7, -0.4], np.float32) for module in llama.targets}
    assert_same_updates(per_module(adapters, strengths), cat(adapters, [0.7, -0.4]))


def test_a_strength_of_0_leaves_an_adapter_out_of_one_module(llama: Backbone) -> None:
    adapters = [random_adapter(llama, seed) for seed in (1, 2)]
    first, *others = llama.targets
    strengths = {module: np.ones(2, np.float32) for module in others} | {first: np.array([1, 0], np.float32)}
    merged = per_module(adapters, strengths)
    np.testing.assert_allclose(
        merged.modules[first].update(), adapters[0].modules[first].update(), rtol=1e-5, atol=1e-6
    )
    both = adapters[0].modules[others[0]].update() + adapters[1].modules[others[0]].update()
    np.testing.assert_allclose(merged.modules[others[0]].update(), both, rtol=1e-4, atol=1e-5)


def test_a_diagonal_projection_is_the_mean_and_its_other_blocks_cross_the_tasks(llama: Backbone) -> None:
    adapters = [random_adapter(llama, 1, rank=2), random_adapter(llama, 2, rank=4)]
    kinds = {module_kind(module) for module in llama.targets}
    mean = {kind: np.eye(6, dtype=np.float32) / 2 for kind in kinds}
    assert_same_updates(projected(adapters, mean), cat(adapters))
    crossing = np.zeros((6, 6), np.float32)
    crossing[:2, 2:] = 1  # the first one's B, the second one's A
    merged = projected(adapters, dict.fromkeys(kinds, crossing))
    for module, factors in merged.modules.items():
        b, a = adapters[0].modules[module].b, adapters[1].modules[module].a
        np.testing.assert_allclose(factors.update(), b @ np.ones((2, 4), np.float32) @ a, rtol=1e-4, atol=1e-4)


def test_what_was_learnt_comes_back_as_it_was(tmp_path: Path) -> None:
    tensors = {"q_proj": np.arange(4, dtype=np.float32).reshape(2, 2)}
    learnt = Learnt(LearntCard(method="projection", composition="summary+es", training={"steps": 3}), tensors)
    write_learnt(learnt, tmp_path / "one")
    found = read_learnt(tmp_path / "one")
    assert found.card == learnt.card
    assert found.parameters == 4
    np.testing.assert_array_equal(found.tensors["q_proj"], tensors["q_proj"])


def test_what_does_not_fit_is_named(llama: Backbone) -> None:
    adapters = [random_adapter(llama, 1, rank=2), random_adapter(llama, 2, rank=4)]
    first = next(iter(llama.targets))
    with pytest.raises(CaloraError, match=rf"nothing was learnt for {first}"):
        per_module(adapters, {"other": np.ones(2, np.float32)})
    with pytest.raises(CaloraError, match=r"is \(3,\), these adapters need \(2,\)"):
        per_module(adapters, dict.fromkeys(llama.targets, np.ones(3, np.float32)))
    with pytest.raises(CaloraError, match=r"is \(4, 4\), these adapters need \(6, 6\)"):
        projected(adapters, {module_kind(module): np.eye(4, dtype=np.float32) for module in llama.targets})
    fewer = Adapter({module: pair for module, pair in adapters[1].modules.items() if module != first})
    with pytest.raises(CaloraError, match="other modules than adapter 1"):
        per_module([adapters[0], fewer], {})
