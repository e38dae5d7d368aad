"""Train one calibration for several compositions at once, each with the merge of its own adapters."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from calora import __version__
from calora.adapter import Adapter
from calora.attach import Update, hooked
from calora.backbone import Backbone
from calora.calibration import Calibration, CalibrationCard, fresh_tensors
from calora.tasks import Prompt
from calora.training.calibration import calibrated_updates
from calora.training.data import EncodedExamples, ExamplesOf, MixedExamples
from calora.training.learner import PartedLearner
from calora.training.loop import train
from calora.training.settings import TrainingSettings


@dataclass(frozen=True)
class Member:
    """One of the compositions that share a calibration.

    Args:
        merged: Its adapters' merge.
        prompt: That asks for it.
        train: Epoch to composed examples.
        validation: Likewise.
    """

    merged: Adapter
    prompt: Prompt
    train: ExamplesOf
    validation: ExamplesOf


def train_shared_calibration(
    backbone: Backbone, members: Sequence[Member], card: CalibrationCard, settings: TrainingSettings, work: Path
) -> Calibration:
    """Learn one calibration on the composed examples of several compositions; the epoch is chosen by validation loss.

    Args:
        backbone: Its weights stay as they are, to the bit.
        members: Of one backbone, their merges with the same modules.
        card: Kind, rank and sharing; its composition names all members.
        settings: Learning rate, epochs and the like.
        work: Folder for checkpoints.
    """
    for member in members:
        backbone.check_adapter(member.merged)
    device = backbone.model.device
    parameters = {
        name: nn.Parameter(torch.from_numpy(value).to(device))
        for name, value in fresh_tensors(card, members[0].merged, settings.seed).items()
    }
    learner = PartedLearner(backbone, parameters, [member.merged for member in members])
    updates = [calibrated_updates(backbone, member.merged, card, parameters) for member in members]

    def switching(module: str) -> Update:
        return lambda x, out: updates[learner.current][module](x, out)

    with hooked(backbone, {module: switching(module) for module in updates[0]}):
        summary = train(
            learner,
            MixedExamples([EncodedExamples(backbone, member.prompt, member.train) for member in members]),
            MixedExamples([EncodedExamples(backbone, member.prompt, member.validation) for member in members]),
            settings,
            work,
            f"calibration of {len(members)} compositions {card.kind}",
        )
    tensors = {name: value.cpu().numpy().astype(np.float32) for name, value in learner.values().items()}
    return Calibration(card.model_copy(update={"training": summary, "calora_version": __version__}), tensors)
