from typing import Any

import pytest

from calora.backbone import Backbone
from calora.corpus import Example
from calora.errors import CaloraError
from calora.tasks import Composition


def encoded(backbone: Backbone, lengths: list[int]) -> Any:
    from calora.training.data import EncodedExamples

    def examples(epoch: int) -> list[Example]:
        return [Example(str(index), "any", "word " * length, "Yes.", ()) for index, length in enumerate(lengths)]

    return EncodedExamples(backbone, backbone.prompt(Composition.parse("summary")), examples)


def test_labels_are_the_answer_and_its_end(llama: Backbone) -> None:
    from calora.training.data import collate

    data = encoded(llama, [2, 9])
    pad = int(llama.tokenizer.pad_token_id)
    batch = collate(pad, [data[0], data[1]])
    for row in (0, 1):
        prompt, answer = data[row]["prompt"], data[row]["answer"]
        end = len(prompt) + len(answer)
        width = batch["input_ids"].shape[1]
        assert batch["input_ids"][row].tolist() == prompt + answer + [pad] * (width - end)
        assert batch["attention_mask"][row].tolist() == [1] * end + [0] * (width - end)
        assert batch["labels"][row].tolist() == [-100] * len(prompt) + answer + [-100] * (width - end)
        assert answer[-1] == llama.tokenizer.eos_token_id


def test_the_order_comes_from_seed_and_epoch_alone(llama: Backbone) -> None:
    import torch

    from calora.training.data import GroupedSampler

    lengths = [1 + index * 7 % 30 for index in range(40)]
    orders = {}
    for seed, epoch in [(0, 0), (0, 1), (1, 0)]:
        for state in (5, 6):
            torch.manual_seed(state)
            data = encoded(llama, lengths)
            data.set_epoch(epoch)
            orders[seed, epoch, state] = list(GroupedSampler(data, 4, seed))
        assert orders[seed, epoch, 5] == orders[seed, epoch, 6]
        assert sorted(orders[seed, epoch, 5]) == list(range(40))
    assert len({tuple(order) for order in orders.values()}) == 3


def test_like_lengths_are_side_by_side(llama: Backbone) -> None:
    from calora.training.data import GroupedSampler

    lengths = [1 + index * 7 % 30 for index in range(40)]
    order = list(GroupedSampler(encoded(llama, lengths), 4, 0))
    spans = [
        max(batch) - min(batch)
        for batch in ([lengths[index] for index in order[start : start + 4]] for start in range(0, 40, 4))
    ]
    assert sum(spans) / len(spans) < 10  # of 29; 18 in a random order


def test_a_long_text_is_cut_so_that_its_answer_fits(llama: Backbone) -> None:
    with pytest.warns(UserWarning, match="its beginning is cut"):
        item = encoded(llama, [400])[0]
    assert len(item["prompt"]) + len(item["answer"]) == llama.context


def test_a_target_longer_than_the_context_is_refused_by_its_name(llama: Backbone) -> None:
    from calora.training.data import EncodedExamples

    prompt = llama.prompt(Composition.parse("summary"))
    data = EncodedExamples(llama, prompt, lambda epoch: [Example("arts-001", "arts", "A: Hi", "word " * 5000, ())])
    with pytest.raises(CaloraError, match=r"the target of arts-001 has .* tokens, more than .* context"):
        data[0]
