"""What a training run depends on beside its data; apart from the loop, so that reading settings needs no torch."""

from pydantic import BaseModel, ConfigDict, Field


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

    learning_rate: float = Field(ge=0)
    epochs: int = Field(default=3, ge=1)
    batch_size: int = Field(default=8, ge=1)
    patience: int = Field(default=1, ge=1)
    warmup: float = Field(default=0.05, ge=0, le=1)
    weight_decay: float = Field(default=0.0, ge=0)
    seed: int = 0
