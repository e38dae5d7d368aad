"""How far the offline judge is to be trusted: the tables of docs/protocol.md.

    python benchmarks/judge.py [--split validation] [--train 240 --validation 36]

Thresholds are chosen on the validation split; with `--split test` the agreement is measured on dialogues that they have
not seen. With `--train` and `--validation` the judge is that of a recipe with so many dialogues: its tones and its
thresholds come from those alone. Some minutes: a text costs up to a tenth of a second to embed.
"""

import argparse
from collections.abc import Sequence

from calora.approaches import constant_sentence
from calora.corpus import Example, Split, load_everyday, make_examples, spread
from calora.errors import CaloraError
from calora.judges import (
    Agreement,
    agreement_table,
    choose_thresholds,
    cross_validate_tones,
    judge_answers,
    measure_agreement,
    train_tones,
)
from calora.judges.references import parts_of
from calora.tasks import TASKS, Composition

COMPOSITIONS = ("summary+es", "reply+de", "summary+casual", "reply+professional", "summary+casual+fr")


def main() -> None:
    """Print the agreement table and the tone classifier's accuracy."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--split", choices=("validation", "test"), default="validation")
    parser.add_argument("--train", type=int)
    parser.add_argument("--validation", type=int)
    asked = parser.parse_args()
    known: dict[Split, int | None] = {"train": asked.train, "validation": asked.validation}
    print(
        agreement_table(
            [row for name in COMPOSITIONS for row in agreement(Composition.parse(name), asked.split, known)]
        )
    )
    print("\n| tones of | accuracy % | majority % |\n| --- | ---: | ---: |")
    for primary in (TASKS["summary"], TASKS["reply"]):
        for language in (None, TASKS["es"], TASKS["fr"], TASKS["de"]):
            try:
                found = cross_validate_tones(load_everyday("train"), primary, language)
            except CaloraError:  # no references in a tone
                continue
            name = f"{primary.name} in {language.label if language else 'English'}"
            print(f"| {name} | {found.accuracy:.1f} | {found.majority:.1f} |")


def agreement(composition: Composition, split: Split, known: dict[Split, int | None]) -> list[Agreement]:
    """How often the judge is right on references and hard negatives of a split, if it knows so many of the others."""
    thresholds = choose_thresholds(spread(load_everyday("validation"), known["validation"]), composition)
    records = load_everyday(split)
    learnt = spread(load_everyday("train"), known["train"])
    parts = parts_of(composition)
    tones = train_tones(learnt, parts.primary, parts.language) if parts.tone else None
    train = make_examples(learnt, composition, seed=0)
    names = [example.names for example in make_examples(records, composition, seed=0)]

    def judge(answers: Sequence[str], examples: Sequence[Example]) -> list[bool | None]:
        return [verdict.passed for verdict in judge_answers(answers, examples, composition, thresholds, tones=tones)]

    return measure_agreement(records, composition, judge, constant=constant_sentence(train, names))


if __name__ == "__main__":
    main()
