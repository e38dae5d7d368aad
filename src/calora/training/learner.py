"""What is trained: the learnt parameters, and the loss of the frozen backbone that they act on."""

from collections.abc import Sequence

import torch
from torch import nn

from calora.adapter import Adapter
from calora.backbone import Backbone
from calora.processes import part_of_mean
from calora.training.loss import check_head, completion_loss


class Learner(nn.Module):
    """The learnt parameters, and the loss of the backbone that they act on.

    The backbone is no submodule: checkpoints hold what is learnt and nothing else.

    Args:
        backbone: Frozen; the parameters act on it through hooks or injected layers.
        parameters: Name to parameter.
        frozen: What they mean something beside: adapters and merges, or words.
        autocast: Whether the learnt matrices are multiplied in the backbone's precision by autocast.
    """

    def __init__(
        self,
        backbone: Backbone,
        parameters: dict[str, nn.Parameter],
        frozen: Sequence[Adapter | str] = (),
        *,
        autocast: bool = False,
    ) -> None:
        super().__init__()
        self.learnt = nn.ParameterDict({name.replace(".", "|"): value for name, value in parameters.items()})
        check_head(backbone)
        self._held = (backbone,)
        self.frozen = [one if isinstance(one, str) else _content(one) for one in frozen]
        self.autocast = autocast
        self.tokens = 0

    @property
    def backbone(self) -> Backbone:
        """The backbone, held in a tuple so that torch takes it for no submodule."""
        return self._held[0]

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, labels: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """Mean loss over the completions of a batch, arguments all [batch, length]."""
        model = self.backbone.model
        if self.training:
            self.tokens += int(attention_mask.sum())
        with self.precision():
            loss = completion_loss(model, input_ids, attention_mask, labels)
        return {"loss": self.part(loss, int((labels[:, 1:] != -100).sum()))}

    def part(self, loss: torch.Tensor, count: int) -> torch.Tensor:
        """What a mean over so many tokens of this process counts in the mean of all processes."""
        return part_of_mean(loss, count)

    def precision(self) -> torch.autocast:
        """The context in which the backbone runs with the learnt matrices in place."""
        return torch.autocast(self.backbone.model.device.type, torch.bfloat16, enabled=self.autocast)

    def values(self) -> dict[str, torch.Tensor]:
        """The learnt tensors by name, detached, in float32."""
        return {name.replace("|", "."): value.detach().float() for name, value in self.learnt.items()}


class PartedLearner(Learner):
    """A learner of mixed examples: each part of a batch has its own loss, computed while `current` names the part."""

    current = 0

    def forward(  # type: ignore[override]
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, labels: torch.Tensor, part: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """Mean loss over the completions of a batch; part [batch], the other arguments [batch, length]."""
        if self.training:
            self.tokens += int(attention_mask.sum())
        total, count = torch.zeros((), device=input_ids.device), 0
        for current in part.unique().tolist():
            rows = part == current
            length = int(attention_mask[rows].sum(dim=1).max())
            ids, mask, wanted = (value[rows, :length] for value in (input_ids, attention_mask, labels))
            tokens = int((wanted != -100).sum())
            self.current = current
            total = total + tokens * self.part_loss(ids, mask, wanted)
            count += tokens
        return {"loss": self.part(total / count, count)}

    def part_loss(self, ids: torch.Tensor, mask: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Mean loss over the completions of the current part, arguments [rows, length]."""
        return completion_loss(self.backbone.model, ids, mask, labels)


def _content(adapter: Adapter) -> dict[str, str]:
    return {module: pair.sha256 for module, pair in adapter.modules.items()}
