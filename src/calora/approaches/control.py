"""Control rows: answers that read nothing, to show what a measure gives for nothing."""

from collections.abc import Sequence

from calora.approaches.one_pass import one_pass
from calora.approaches.registry import Plan, approach
from calora.bench.case import EVALUATION_SEED, Case
from calora.bench.making import adapter_step
from calora.corpus import Example, make_examples, neighbour_targets, records_for, renamed_target
from calora.errors import CaloraError
from calora.metrics import mask_names, rouge
from calora.tasks import Composition

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
    return [renamed_target(train[best], pair) for pair in names]


@approach("constant", "control: a constant sentence")
def constant(case: Case) -> Plan:
    """Plan the same sentence for every dialogue."""

    def given(examples: Sequence[Example]) -> list[str]:
        train = make_examples(
            records_for(case.place.records("train"), case.composition), case.composition, seed=EVALUATION_SEED
        )
        return constant_sentence(train, [example.names for example in examples])

    return Plan(given=given, data=("train",))


@approach("neighbour", "control: another dialogue's reference")
def neighbour(case: Case) -> Plan:
    """Plan the reference of another dialogue of the domain."""
    return Plan(given=lambda examples: [text or "" for text in neighbour_targets(examples)])


@approach("ceiling", "control: last pass on the reference")
def ceiling(case: Case) -> Plan:
    """Plan multi-step's last pass on the reference of what stands before it: the most that multi-step can reach."""
    *before, last = case.composition.tasks
    if not before:
        raise CaloraError(f"{case.composition} has no pass before its last", "leave `ceiling` out of single tasks")
    adapter = adapter_step(case, last)

    def texts(examples: Sequence[Example]) -> list[str]:
        of = Composition(tuple(before))
        records = [record for split in ("validation", "test") for record in records_for(case.place.records(split), of)]
        # By the text as well: in files of one's own the splits may share ids.
        middle = {(one.id, one.text): one.target for one in make_examples(records, of, seed=EVALUATION_SEED)}
        return [middle[one.id, one.text] for one in examples]

    return Plan(lambda backbone, values: one_pass(backbone, Composition((last,)), values[0]), (adapter,), texts=texts)
