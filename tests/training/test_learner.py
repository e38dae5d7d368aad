import copy
from dataclasses import replace

import pytest
import torch

from calora.attach import attached
from calora.backbone import Backbone
from calora.corpus import Example
from calora.errors import CaloraError
from calora.tasks import Prompt
from calora.training.data import EncodedExamples
from calora.training.learner import Learner, PartedLearner
from calora.training.loss import completion_loss
from calora.training.mean_loss import mean_loss
from tests.conftest import random_adapter
from tests.training.test_loss import padded_batch


@pytest.fixture
def changed(llama: Backbone) -> Backbone:
    """A tiny Llama that a test may change."""
    return replace(llama, model=copy.deepcopy(llama.model))


@pytest.mark.parametrize(
    ("key", "plain", "odd"),
    [
        ("final_logit_softcapping", None, 30.0),
        ("logit_scale", 1.0, 0.5),
        ("logits_scaling", 1, 8),
        ("logits_soft_cap", None, 30.0),
        ("lm_head_multiplier", 1.0, 0.5),
    ],
)
def test_a_head_that_scales_or_caps_its_logits_is_refused(
    changed: Backbone, key: str, plain: float | None, odd: float
) -> None:
    setattr(changed.model.config, key, plain)
    Learner(changed, {})
    setattr(changed.model.config, key, odd)
    data = EncodedExamples(changed, Prompt("Say:\n", "\n", ""), lambda epoch: [Example("1", "all", "a", "b", ())])
    for make in (lambda: Learner(changed, {}), lambda: mean_loss(changed, None, data)):
        with pytest.raises(CaloraError, match=f"{key}, which calora's loss does not compute"):
            make()


def test_a_head_with_a_bias_is_refused(changed: Backbone) -> None:
    head = changed.model.get_output_embeddings()
    assert isinstance(head, torch.nn.Linear)
    head.bias = torch.nn.Parameter(torch.ones(head.out_features))
    with pytest.raises(CaloraError, match="a bias in the language-model head"):
        Learner(changed, {})


def test_parts_of_a_batch_count_by_their_tokens(llama: Backbone) -> None:
    """Two parts with completions of different lengths, and for both what acts on a whole batch."""
    ids, mask, labels = padded_batch(llama)
    assert len({int((row != -100).sum()) for row in labels}) == 2
    with attached(llama, random_adapter(llama)), torch.no_grad():
        found = PartedLearner(llama, {})(ids, mask, labels, torch.tensor([1, 0]))["loss"]
        torch.testing.assert_close(found, completion_loss(llama.model, ids, mask, labels))
