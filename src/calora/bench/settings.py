"""What a demo run is made of: presets that fit six minutes, thirty minutes, or as long as validation says."""

from typing import Literal

from pydantic import BaseModel, ConfigDict

from calora.calibration import Kind
from calora.merging import Start
from calora.training.settings import TrainingSettings

Preset = Literal["quick", "default", "full"]


class CalibrationRow(BaseModel):
    """One calibration of the demo.

    Args:
        name: Of its folder and cell.
        title: Of its row.
        kind: Of the calibration.
        start: The merge it starts from: a start with its default strengths, or the tuned merge.
        rank: Of the low-rank kind.
        training: Its settings; the seed is the run's.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    title: str
    kind: Kind
    start: Literal["factors", "product", "tuned"]
    rank: int = 4
    training: TrainingSettings


class DemoSettings(BaseModel):
    """All that a demo run depends on; None takes every record of a split."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    composition: str = "summary+es"
    backbone: str = "gemma3-270m"
    seed: int = 0
    preset: Preset = "default"
    train_records: int | None
    validation_records: int | None
    test_records: int | None
    grid: dict[Start, tuple[float, ...]]
    finalists: int
    adapter: TrainingSettings
    calibrations: tuple[CalibrationRow, ...]


_PAPER_RATE = 5e-4
_RATES: dict[Kind, float] = {"column-bias": 1e-3, "low-rank": 2e-3}
_ADAPTER_RATES: dict[Preset, float] = {"quick": 5e-4, "default": 3e-4, "full": 2e-4}
_COARSE: dict[Start, tuple[float, ...]] = {"product": (0.7, 1.0), "factors": (0.5, 0.85)}
_FINE: dict[Start, tuple[float, ...]] = {"product": (0.6, 0.8, 1.0, 1.2), "factors": (0.5, 0.7, 0.85, 1.0)}
_NAMES: dict[Kind, str] = {"column-bias": "Learnable Calibration", "low-rank": "Learnable Calibration++"}


def _row(kind: Kind, start: Literal["factors", "product", "tuned"], rate: float, epochs: int) -> CalibrationRow:
    """A row; with the paper's start it has the paper's name, with its rate too its name ends in `-paper`."""
    paper = start == "factors" and rate == _PAPER_RATE
    name = _NAMES[kind] if start == "factors" else f"{kind} on the {start} start"
    return CalibrationRow(
        name=f"{kind}-paper" if paper else f"{kind}-{start}",
        title=f"{name} (paper's rate {rate:g})" if paper else f"{name} (rate {rate:g})",
        kind=kind,
        start=start,
        training=TrainingSettings(learning_rate=rate, epochs=epochs, patience=1),
    )


def demo_settings(
    preset: Preset = "default", composition: str = "summary+es", backbone: str = "gemma3-270m", seed: int = 0
) -> DemoSettings:
    """The settings of a preset.

    Args:
        preset: `quick` (smaller data, same path), `default` (half an hour on 2 cores) or `full`.
        composition: Two or more tasks.
        backbone: As for `Backbone.load`.
        seed: Of training; evaluation always has the same names.
    """
    records = {"quick": (48, 12, 12), "default": (240, 36, 72), "full": (None, None, None)}[preset]
    epochs = {"quick": 1, "default": 2, "full": 4}[preset]
    kinds: tuple[Kind, ...] = ("column-bias", "low-rank")
    if preset == "full":
        rows = [
            *(_row(kind, "factors", _PAPER_RATE, epochs) for kind in kinds),
            *(_row(kind, "tuned", _RATES[kind], epochs) for kind in kinds),
        ]
    else:
        rows = [_row(kind, "factors", _RATES[kind], epochs) for kind in kinds]
    return DemoSettings(
        composition=composition,
        backbone=backbone,
        seed=seed,
        preset=preset,
        train_records=records[0],
        validation_records=records[1],
        test_records=records[2],
        grid=_COARSE if preset == "quick" else _FINE,
        finalists={"quick": 1, "default": 2, "full": 3}[preset],
        adapter=TrainingSettings(learning_rate=_ADAPTER_RATES[preset], epochs=epochs, patience=1, seed=seed),
        calibrations=tuple(rows),
    )
