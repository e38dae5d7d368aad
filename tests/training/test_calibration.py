from pathlib import Path
from typing import Any

import numpy as np
import pytest

from calora.backbone import Backbone
from calora.calibration import KINDS, Kind, fresh_tensors
from calora.merging import linear_factors
from tests.conftest import random_adapter
from tests.training.helpers import SETTINGS, bits, calibrate, examples_of, make_card, same


@pytest.mark.parametrize("kind", KINDS)
def test_training_lowers_the_loss_and_leaves_the_weights_to_the_bit(
    llama: Backbone, train_rows: list[dict[str, Any]], tmp_path: Path, kind: Kind
) -> None:
    before = bits(llama)
    calibration = calibrate(llama, train_rows, tmp_path / "work", kind)
    losses = [entry["eval_loss"] for entry in calibration.card.training["validation"]]
    assert len(losses) == 3
    assert losses[-1] < losses[0] - 0.01
    # Rounding to bfloat16 is 1 part in 256 at most; of most kinds that costs less than float32 tells.
    shipped_kl = calibration.card.training["shipped_kl"]
    assert (0 if kind == "column-bias" else -1e-7) < shipped_kl < 1e-4
    assert bits(llama) == before
    fresh = fresh_tensors(calibration.card, random_adapter(llama), SETTINGS.seed)
    assert calibration.tensors.keys() == fresh.keys()
    assert not any(np.array_equal(calibration.tensors[name], fresh[name]) for name in fresh)


def test_training_on_leaves_the_calibration_it_begins_with_as_it_is(
    llama: Backbone, train_rows: list[dict[str, Any]], tmp_path: Path
) -> None:
    from calora.training.calibration import train_calibration

    first = calibrate(llama, train_rows, tmp_path / "work")
    before = {name: value.copy() for name, value in first.tensors.items()}
    merged = linear_factors([random_adapter(llama, seed) for seed in (1, 2)])
    examples = examples_of(train_rows)
    second = train_calibration(llama, merged, first.card, examples, examples, SETTINGS, tmp_path / "again", start=first)
    assert same(dict(first.tensors), before)
    losses = [one.card.training["validation"][-1]["eval_loss"] for one in (first, second)]
    assert losses[1] < losses[0]


def test_one_seed_gives_one_calibration(llama: Backbone, train_rows: list[dict[str, Any]], tmp_path: Path) -> None:
    one_epoch = SETTINGS.model_copy(update={"epochs": 1})
    first, second, other = (
        calibrate(llama, train_rows, tmp_path / str(run), settings=one_epoch.model_copy(update={"seed": seed}))
        for run, seed in enumerate((1, 1, 2))
    )
    assert same(dict(first.tensors), dict(second.tensors))
    assert not same(dict(first.tensors), dict(other.tensors))


def test_each_epoch_has_its_own_texts_and_validation_the_first(
    llama: Backbone, train_rows: list[dict[str, Any]], tmp_path: Path
) -> None:
    from calora.training.calibration import train_calibration

    asked: tuple[list[int], list[int]] = ([], [])
    train_calibration(
        llama,
        random_adapter(llama),
        make_card(llama, "row-scale"),
        examples_of(train_rows, asked[0]),
        examples_of(train_rows, asked[1]),
        SETTINGS,
        tmp_path / "work",
    )
    assert list(dict.fromkeys(asked[0])) == [0, 1, 2]
    assert set(asked[1]) == {0}
