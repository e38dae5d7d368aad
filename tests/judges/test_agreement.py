from calora.corpus import Example, Record
from calora.judges.agreement import agreement_table, measure_agreement
from calora.tasks import Composition

SPANISH = Composition.parse("summary+es")


def test_a_judge_that_knows_the_reference_is_always_right(records: list[Record]) -> None:
    rows = measure_agreement(
        records, SPANISH, lambda answers, examples: [a == e.target for a, e in zip(answers, examples, strict=True)]
    )
    assert rows[0].kind == "reference"
    assert [row.right for row in rows] == [100.0] * len(rows)
    assert {row.kind for row in rows} == {
        "reference", "neighbour", "swapped", "detail", "negation", "copied", "other task", "untranslated"
    }  # fmt: skip
    assert all(row.judged == len(records) for row in rows if row.kind in ("reference", "neighbour", "untranslated"))


def test_a_judge_that_always_says_yes_is_right_about_references_alone(records: list[Record]) -> None:
    rows = measure_agreement(records, SPANISH, lambda answers, examples: [True] * len(answers))
    assert [row.right for row in rows] == [100.0] + [0.0] * (len(rows) - 1)


def test_what_was_not_judged_does_not_count(records: list[Record]) -> None:
    def judge(answers: list[str], examples: list[Example]) -> list[bool | None]:
        return [True, *[None] * (len(answers) - 1)]

    rows = measure_agreement(records, SPANISH, judge)
    assert {row.judged for row in rows} == {1}
    nothing = measure_agreement(records[:2], SPANISH, lambda answers, examples: [None] * len(answers))
    lines = agreement_table([*rows, *nothing[:1]]).splitlines()
    assert lines[0] == "| judge is right, % (of) | summary+es |"
    assert lines[2] == "| reference | — |"
    assert lines[3] == "| neighbour | 0 (1) |"
