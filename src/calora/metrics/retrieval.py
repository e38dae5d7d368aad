"""Retrieval: whether an answer is nearest to its own reference, which a fluent but empty answer is not."""

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence

from calora.metrics.chrf import chrf


def retrieval_hits(
    predictions: Sequence[str],
    references: Sequence[str],
    groups: Sequence[str],
    score: Callable[[str, str], float] = chrf,
) -> list[bool]:
    """Tell for each answer whether it finds its own reference among those of its group.

    Answer i is a hit if it scores strictly higher against reference i than against every other reference of its group.
    Ties are misses, and so are answers without a letter or digit (empty, or nothing but names before they were masked);
    any other answer alone in its group is a hit.

    Args:
        predictions: The answers, best with the names masked.
        references: Their references, in the same order, masked in the same way.
        groups: The group (domain) of each.
        score: Similarity of an answer (first) and a reference (second), higher for more alike.

    Returns:
        One truth value per answer.

    Raises:
        ValueError: The three sequences differ in length.
    """
    if not len(predictions) == len(references) == len(groups):
        raise ValueError(f"{len(predictions)} predictions, {len(references)} references and {len(groups)} groups.")
    members: defaultdict[str, list[int]] = defaultdict(list)
    for index, group in enumerate(groups):
        members[group].append(index)

    def hit(index: int) -> bool:
        prediction = predictions[index]
        if not any(character.isalnum() for character in prediction):
            return False
        own = score(prediction, references[index])
        return all(score(prediction, references[other]) < own for other in members[groups[index]] if other != index)

    return [hit(index) for index in range(len(predictions))]


def retrieval_chance(groups: Sequence[str]) -> float:
    """Give the hit rate of guessing: the mean over items of 1 / size of the item's group.

    Args:
        groups: The group of each item, as for `retrieval_hits`.

    Returns:
        Percent, above 0 and at most 100.

    Raises:
        ValueError: There are no items.
    """
    if not groups:
        raise ValueError("The chance of no items is not defined.")
    sizes = Counter(groups)
    return 100.0 * sum(1 / sizes[group] for group in groups) / len(groups)
