"""Control rows: answers that read nothing, to show what a measure gives for nothing."""

from collections.abc import Sequence

from calora.corpus import Example, rename
from calora.metrics import mask_names, rouge

_CANDIDATES, _VOTERS = 150, 50


def constant_sentence(train: Sequence[Example], names: Sequence[tuple[str, ...]]) -> list[str]:
    """The training reference most like the others, of those with both names if any, with each dialogue's own names.

    Args:
        train: Composed training examples.
        names: The two names of each dialogue to answer.
    """
    masked = [mask_names(example.target, example.names) for example in train]
    voters = masked[:: max(1, len(masked) // _VOTERS)]
    both = [index for index, example in enumerate(train) if all(name in example.target for name in example.names)]
    pool = both or list(range(len(train)))  # replies seldom name anybody
    pool = pool[:: max(1, len(pool) // _CANDIDATES)]
    best = max(pool, key=lambda index: sum(rouge(masked[index], voter)["rougeL"] for voter in voters))
    return [_renamed(train[best], pair) for pair in names]


def neighbour_reference(examples: Sequence[Example]) -> list[str]:
    """For each dialogue the reference of the next one of its domain, under this one's names."""
    answers = []
    for index, example in enumerate(examples):
        turned = [*examples[index + 1 :], *examples[:index]]
        other = next((item for item in turned if item.domain == example.domain), example)
        answers.append(_renamed(other, example.names))
    return answers


def _renamed(example: Example, names: tuple[str, ...]) -> str:
    return rename(example.target, dict(zip(example.names, names, strict=True)))
