import json
import os
import re
import subprocess
import sys

import pytest

from calora.corpus import Record, draw_names, load_everyday, rename
from calora.corpus.names import FEMALE, MALE

DRAWS = [(seed, epoch) for seed in (0, 1, 7) for epoch in (0, 1, 5)]


def words(record: Record) -> set[str]:
    return set(re.findall(r"\w+", " ".join(record.texts)))


def test_each_name_is_in_one_list_once_and_plain() -> None:
    assert len({*FEMALE, *MALE}) == len(FEMALE) + len(MALE)
    for name in (*FEMALE, *MALE):
        assert re.fullmatch("[A-Z][a-z]+", name)


@pytest.mark.parametrize(("seed", "epoch"), DRAWS)
def test_names_have_the_gender_of_the_record(seed: int, epoch: int) -> None:
    pools = {"f": set(FEMALE), "m": set(MALE)}
    for record in load_everyday():
        names = draw_names(record, seed, epoch)
        assert set(names) == {"A", "B"}
        assert names["A"] in pools[record.genders["A"]], record.id
        assert names["B"] in pools[record.genders["B"]], record.id


@pytest.mark.parametrize(("seed", "epoch"), DRAWS)
def test_the_two_names_differ_in_their_first_letters(seed: int, epoch: int) -> None:
    for record in load_everyday():
        names = draw_names(record, seed, epoch)
        assert names["A"][0] != names["B"][0], record.id


@pytest.mark.parametrize(("seed", "epoch"), DRAWS)
def test_no_name_is_a_word_of_its_record(seed: int, epoch: int) -> None:
    for record in load_everyday():
        drawn = set(draw_names(record, seed, epoch).values())
        assert not drawn & words(record), record.id
        folded = {word.casefold() for word in words(record)}
        assert not {name for name in drawn if name.casefold() in folded}, record.id


def test_a_name_that_the_record_uses_is_never_drawn() -> None:
    record = load_everyday("train")[0]
    name = draw_names(record, 0)["A"]
    turns = ((record.dialogue[0][0], f"Ask {name}."), *record.dialogue[1:])
    changed = record.model_copy(update={"dialogue": turns})
    assert draw_names(changed, 0)["A"] != name


def test_no_name_is_an_ordinary_word_of_the_corpus() -> None:
    small = {word for record in load_everyday() for word in words(record) if word == word.lower()}
    assert not {name for name in (*FEMALE, *MALE) if name.lower() in small}


def test_no_name_is_part_of_another() -> None:
    names = (*FEMALE, *MALE)
    assert not [(one, other) for one in names for other in names if one != other and one.lower() in other.lower()]


def test_names_follow_from_record_seed_and_epoch_alone() -> None:
    records = load_everyday()
    forwards = {record.id: draw_names(record, 3, 2) for record in records}
    backwards = {record.id: draw_names(record, 3, 2) for record in reversed(records)}
    assert forwards == backwards


@pytest.mark.parametrize("hash_seed", ["0", "1", "4242"])
def test_names_are_the_same_in_every_process(hash_seed: str) -> None:
    code = (
        "import json; from calora.corpus import draw_names, load_everyday; "
        "print(json.dumps([[draw_names(r, 7, e) for r in load_everyday()] for e in (0, 3)]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONHASHSEED": hash_seed},
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout) == [[draw_names(record, 7, epoch) for record in load_everyday()] for epoch in (0, 3)]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param((0, 0), (0, 1), id="next epoch"),
        pytest.param((0, 1), (0, 2), id="epoch after"),
        pytest.param((0, 0), (1, 0), id="other seed"),
        pytest.param((1, 12), (11, 2), id="the digits are not run together"),
    ],
)
def test_names_are_others_in_other_epochs_and_seeds(one: tuple[int, int], other: tuple[int, int]) -> None:
    records = load_everyday()
    same_pair = [record.id for record in records if draw_names(record, *one) == draw_names(record, *other)]
    same_a = [record.id for record in records if draw_names(record, *one)["A"] == draw_names(record, *other)["A"]]
    # Draws are independent, so one name in about eighty comes again.
    assert len(same_pair) <= 0.005 * len(records)
    assert len(same_a) <= 0.04 * len(records)


def test_most_names_are_in_use() -> None:
    drawn = {name for record in load_everyday() for name in draw_names(record, 0).values()}
    assert len(drawn) > 0.95 * (len(FEMALE) + len(MALE))


def test_names_change_places() -> None:
    assert rename("Ana calls Tom; Anabel and Tom's dog wait.", {"Ana": "Tom", "Tom": "Ana"}) == (
        "Tom calls Ana; Anabel and Ana's dog wait."
    )
    assert rename("Ana", {}) == "Ana"
