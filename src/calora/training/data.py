"""Examples as batches of token ids: new names each epoch, like lengths together, the same order every time."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

import torch
from torch.utils.data import Dataset, Sampler
from transformers.trainer_pt_utils import get_length_grouped_indices

from calora.backbone import Backbone
from calora.corpus import Example
from calora.encoding import encode_answer, encode_prompt
from calora.errors import CaloraError
from calora.storage import fingerprint
from calora.tasks import Prompt

ExamplesOf = Callable[[int], Sequence[Example]]


Item = dict[str, Any]


class EncodedExamples(Dataset[Item]):
    """The examples of the current epoch, encoded when asked for.

    Args:
        backbone: Gives the tokenizer and the longest length.
        prompt: What stands around each text.
        examples_of: Epoch to examples; every epoch has the same examples in the same order, other names in them.
    """

    def __init__(self, backbone: Backbone, prompt: Prompt, examples_of: ExamplesOf) -> None:
        self.backbone = backbone
        self.prompt = prompt
        self.examples_of = examples_of
        self.set_epoch(0)

    def set_epoch(self, epoch: int) -> None:
        """Take the names of an epoch (called by accelerate's data loader)."""
        self.epoch = epoch
        self.examples = self.examples_of(epoch)

    @property
    def identity(self) -> str:
        """A fingerprint of the current epoch's texts and of what stands around them."""
        return fingerprint([asdict(self.prompt), [(one.text, one.target) for one in self.examples]])

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: int) -> Item:
        example = self.examples[index]
        tokenizer = self.backbone.tokenizer
        answer = encode_answer(tokenizer, self.prompt, example.target)
        limit = self.backbone.context - len(answer)
        if limit < 1:
            raise CaloraError(
                f"the target of {example.id} has {len(answer)} tokens, more than {self.backbone.name}'s context of "
                f"{self.backbone.context}",
                "leave it out, or shorten it",
            )
        return {"prompt": encode_prompt(tokenizer, self.prompt, example.text, limit), "answer": answer}


class MixedExamples(Dataset[Item]):
    """Several sets of examples as one; each item says which set it is from, as `part`."""

    def __init__(self, parts: Sequence[EncodedExamples]) -> None:
        self.parts = parts
        self.places = [(part, index) for part, examples in enumerate(parts) for index in range(len(examples))]

    @property
    def epoch(self) -> int:
        """The current epoch."""
        return self.parts[0].epoch

    @property
    def identity(self) -> str:
        """A fingerprint of all parts."""
        return fingerprint([part.identity for part in self.parts])

    def set_epoch(self, epoch: int) -> None:
        """Take the names of an epoch in every part."""
        for part in self.parts:
            part.set_epoch(epoch)

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> Item:
        part, place = self.places[index]
        return self.parts[part][place] | {"part": part}


Examples = EncodedExamples | MixedExamples


class GroupedSampler(Sampler[int]):
    """Indices with like lengths side by side, drawn from the seed and the epoch alone.

    transformers' own sampler draws from the global generator, so that a run that was stopped would go on in
    another order than one that was not.
    """

    def __init__(self, data: Examples, batch_size: int, seed: int) -> None:
        self.data = data
        self.batch_size = batch_size
        self.seed = seed
        self.lengths = [len(data[i]["prompt"]) + len(data[i]["answer"]) for i in range(len(data))]

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(1_000_003 * self.seed + self.data.epoch)
        return iter(get_length_grouped_indices(self.lengths, self.batch_size, generator=generator))


def collate(pad: int, items: Sequence[Item]) -> dict[str, Any]:
    """Pad examples on the right; labels are -100 outside the answers.

    Returns:
        input_ids, attention_mask and labels, each [batch, longest]; with mixed examples part, [batch].
    """
    longest = max(len(item["prompt"]) + len(item["answer"]) for item in items)
    shape = (len(items), longest)
    batch = {
        "input_ids": torch.full(shape, pad),
        "attention_mask": torch.zeros(shape, dtype=torch.long),
        "labels": torch.full(shape, -100),
    }
    for row, item in enumerate(items):
        start, end = len(item["prompt"]), len(item["prompt"]) + len(item["answer"])
        batch["input_ids"][row, :end] = torch.tensor(item["prompt"] + item["answer"])
        batch["attention_mask"][row, :end] = 1
        batch["labels"][row, start:end] = torch.tensor(item["answer"])
    if "part" in items[0]:
        batch["part"] = torch.tensor([item["part"] for item in items])
    return batch
