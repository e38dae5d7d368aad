"""What a training run depends on beside its data; apart from the loop, so that reading settings needs no torch."""

from pydantic import BaseModel, ConfigDict


class TrainingSettings(BaseModel):
    """What a training run depends on beside its data.

    Args:
        learning_rate: The highest, after the warm-up.
        epochs: At most; it stops earlier when validation loss does.
        batch_size: Examples a step.
        patience: Epochs without a lower validation loss before it stops.
        warmup: Share of all steps.
        weight_decay: Of AdamW; 0 is Adam.
        seed: Of the order, the names and the dropout, and of a low-rank calibration's initial values; a LoRA's do not
            depend on it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    learning_rate: float
    epochs: int = 3
    batch_size: int = 8
    patience: int = 1
    warmup: float = 0.05
    weight_decay: float = 0.0
    seed: int = 0
