import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from calora.corpus import OwnRecord, Record, TextRecord, load_everyday, read_records, spread
from calora.errors import CaloraError

Row = dict[str, Any]


def good_row(place: int = 0) -> Row:
    return load_everyday("train")[place].model_dump(mode="json")


def write_rows(path: Path, *rows: Row | str) -> Path:
    lines = [row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows]
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def test_records_are_read_as_they_were_written(tmp_path: Path) -> None:
    records = load_everyday("validation")[:3]
    file = write_rows(tmp_path / "some.jsonl", *(record.model_dump(mode="json") for record in records))
    assert read_records(file, Record) == records


def test_blank_lines_are_passed_over(tmp_path: Path) -> None:
    file = write_rows(tmp_path / "some.jsonl", "", good_row(0), "  ", good_row(1), "")
    assert [record.id for record in read_records(file, Record)] == [good_row(0)["id"], good_row(1)["id"]]


def _without(key: str) -> Callable[[Row], None]:
    def change(row: Row) -> None:
        del row[key]

    return change


def _with(key: str, value: Any) -> Callable[[Row], None]:
    def change(row: Row) -> None:
        row[key] = value

    return change


def _within(field: str, key: str, value: str | None) -> Callable[[Row], None]:
    def change(row: Row) -> None:
        if value is None:
            del row[field][key]
        else:
            row[field][key] = value

    return change


def _same_speaker_twice(row: Row) -> None:
    row["dialogue"][1][0] = row["dialogue"][0][0]


def _third_speaker(row: Row) -> None:
    row["dialogue"][2][0] = "C"


def _three_turns(row: Row) -> None:
    row["dialogue"] = row["dialogue"][:3]


def _ten_turns(row: Row) -> None:
    row["dialogue"] = [["AB"[turn % 2], "Yes."] for turn in range(10)]


def _odd_placeholder_in_a_turn(row: Row) -> None:
    row["dialogue"][0][1] = "Hello {C}, how are you?"


@pytest.mark.parametrize(
    ("change", "wrong"),
    [
        pytest.param(_without("reply"), ["reply", "Field required"], id="missing key"),
        pytest.param(_without("split"), ["split", "Field required"], id="no split"),
        pytest.param(_with("mood", "good"), ["mood", "Extra inputs are not permitted"], id="extra key"),
        pytest.param(_with("split", "dev"), ["split", "'train', 'validation' or 'test'"], id="unknown split"),
        pytest.param(_with("id", "Work 1"), ["id 'Work 1'", "DOMAIN-NNN"], id="odd id"),
        pytest.param(_with("genders", {"A": "f"}), ["genders", "one for A and one for B"], id="one gender"),
        pytest.param(_with("genders", {"A": "f", "B": "x"}), ["genders.B", "'f' or 'm'"], id="unknown gender"),
        pytest.param(_same_speaker_twice, ["dialogue", "speakers must alternate"], id="same speaker twice"),
        pytest.param(_third_speaker, ["dialogue.2.0", "'A' or 'B'"], id="third speaker"),
        pytest.param(_three_turns, ["dialogue: 3 turns", "4 to 9"], id="too few turns"),
        pytest.param(_ten_turns, ["dialogue: 10 turns", "4 to 9"], id="too many turns"),
        pytest.param(_odd_placeholder_in_a_turn, ["placeholder other than {A} and {B}", "{C}"], id="odd placeholder"),
        pytest.param(
            _within("summary", "de", "{a} ruft {B} an."), ["placeholder other than", "{a}"], id="placeholder in small"
        ),
        pytest.param(_within("summary", "humorous_de", None), ["summary", "humorous_de"], id="missing reference"),
        pytest.param(_within("reply", "professional_es", "Gracias."), ["reply", "professional_es"], id="extra one"),
        pytest.param(_within("reply", "fr", "  "), ["an empty text"], id="empty reference"),
    ],
)
def test_a_bad_record_is_named_with_file_line_and_fault(
    tmp_path: Path, change: Callable[[Row], None], wrong: list[str]
) -> None:
    bad = good_row(1)
    change(bad)
    file = write_rows(tmp_path / "some.jsonl", good_row(0), "", bad)
    with pytest.raises(CaloraError) as caught:
        read_records(file, Record)
    message = str(caught.value)
    assert message.startswith(f"{file}:3: ")
    for part in wrong:
        assert part in message
    assert caught.value.hint


@pytest.mark.parametrize(
    ("line", "wrong"),
    [("{'id': 1}", "not JSON"), ('{"id": "work-001"', "not JSON"), ("[1, 2]", "object"), ("null", "object")],
)
def test_a_line_that_is_no_json_object_is_named(tmp_path: Path, line: str, wrong: str) -> None:
    file = write_rows(tmp_path / "some.jsonl", good_row(0), line)
    with pytest.raises(CaloraError) as caught:
        read_records(file, Record)
    assert str(caught.value).startswith(f"{file}:2: ")
    assert wrong in str(caught.value)


def test_an_id_that_comes_twice_is_named_with_both_lines(tmp_path: Path) -> None:
    file = write_rows(tmp_path / "some.jsonl", good_row(0), good_row(1), good_row(0))
    with pytest.raises(CaloraError) as caught:
        read_records(file, Record)
    assert str(caught.value) == f"{file}:3: id {good_row(0)['id']} is also on line 1"


@pytest.mark.parametrize("content", ["", "\n \n"])
def test_an_empty_file_is_named(tmp_path: Path, content: str) -> None:
    file = tmp_path / "some.jsonl"
    file.write_text(content)
    with pytest.raises(CaloraError) as caught:
        read_records(file, Record)
    assert str(caught.value) == f"{file} holds no records"


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    file = tmp_path / "none.jsonl"
    with pytest.raises(CaloraError) as caught:
        read_records(file, Record)
    assert str(caught.value).startswith(f"{file} cannot be read: ")
    assert "No such file" in str(caught.value)


def test_a_file_in_another_encoding_is_named(tmp_path: Path) -> None:
    file = tmp_path / "latin.jsonl"
    file.write_bytes('{"id": "café"}'.encode("latin-1"))
    with pytest.raises(CaloraError) as caught:
        read_records(file, Record)
    assert str(caught.value).startswith(f"{file} cannot be read: ")
    assert caught.value.hint == "expected a UTF-8 file of JSON lines"


def test_a_part_of_a_split_has_three_or_more_of_each_of_its_domains() -> None:
    records = load_everyday("test")
    for wanted in (3, 12, 36, 72, 100):
        part = spread(records, wanted)
        assert len(part) == wanted
        assert min(Counter(record.domain for record in part).values()) >= 3
    assert spread(records, None) == spread(records, 1000) == records
    assert len({record.domain for record in spread(records, 36)}) == 12


def test_small_domains_fill_a_part_up() -> None:
    def records(domains: int) -> list[TextRecord]:
        made = [(f"d{n % domains}", str(n)) for n in range(24)]
        return [
            TextRecord(id=name, split="train", domain=domain, text="Hi.", targets={"summary": {"en": "Ho."}})
            for domain, name in made
        ]

    for domains, wanted in ((24, 12), (12, 15), (8, 12), (24, 23)):
        part = spread(records(domains), wanted)
        assert len(part) == len({record.id for record in part}) == wanted
    assert Counter(record.domain for record in spread(records(8), 12)) == {f"d{n}": 3 for n in (0, 2, 4, 6)}


def own_row() -> Row:
    return {
        "id": "mine-1",
        "split": "train",
        "genders": {"A": "f", "B": "m"},
        "dialogue": [["A", "Hello."]],
        "headline": {"en": "{A} greets {B}", "loud": "{A} GREETS {B}"},
    }


def test_records_of_ones_own_have_fields_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "own.jsonl"
    path.write_text(json.dumps(own_row()) + "\n", encoding="utf-8")
    (record,) = read_records(path, OwnRecord)
    assert record.references("headline")["loud"] == "{A} GREETS {B}"
    assert record.domain == "mine"
    assert [record.model_copy(update={"id": name}).domain for name in ("17", "a-b-3", "x1", "8f-3e", "b-")] == [
        "all",
        "a-b",
        "all",
        "all",
        "all",
    ]
    with pytest.raises(CaloraError, match="mine-1 has no references 'summary'"):
        record.references("summary")
    with pytest.raises(CaloraError, match="mine-1 has no references 'genders'"):
        record.references("genders")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"headline": "plain"}, "headline: Input should be an object"),
        ({"dialogue": []}, "dialogue: no turns"),
        ({"split": "dev"}, "split: Input should be"),
    ],
)
def test_what_is_wrong_with_a_record_of_ones_own_is_said(tmp_path: Path, change: Row, message: str) -> None:
    path = tmp_path / "own.jsonl"
    path.write_text(json.dumps(own_row() | change) + "\n", encoding="utf-8")
    with pytest.raises(CaloraError) as caught:
        read_records(path, OwnRecord)
    assert message in str(caught.value)
