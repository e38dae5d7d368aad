import hashlib
import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from itertools import combinations
from pathlib import Path

import pytest

import calora
from calora.corpus import Record, Split, load_everyday
from calora.errors import CaloraError
from calora.metrics import in_language

FOLDER = Path(calora.__file__).parent / "data" / "everyday"
DOMAINS = ("arts", "food", "home", "kids", "make", "shop", "tech", "town", "trip", "well", "wild", "work")
SIZES: dict[Split, int] = {"train": 42, "validation": 5, "test": 9}  # of each domain
PLAIN = ["en", "es", "fr", "de", "professional", "casual", "humorous", "narrative"]
KEYS = {"summary": [*PLAIN, "professional_es", "casual_fr", "humorous_de"], "reply": PLAIN}
# Across splits the nearest dialogues measure 0.026, the nearest English summaries 0.047.
LIMITS = {"dialogue": 0.06, "summary": 0.1}


def test_files_are_one_a_domain_and_ids_run_through() -> None:
    assert sorted(file.stem for file in FOLDER.glob("*.jsonl")) == list(DOMAINS)
    for file in FOLDER.glob("*.jsonl"):
        ids = [json.loads(line)["id"] for line in file.read_text(encoding="utf-8").splitlines()]
        assert sorted(ids) == [f"{file.stem}-{number:03}" for number in range(1, 57)]


def test_splits_never_change() -> None:
    lines = sorted(f"{record.id} {record.split}\n" for record in load_everyday())
    digest = hashlib.sha256("".join(lines).encode()).hexdigest()
    assert digest == "96eb0a43e0f63f68545a1556e5e17ac6cab9801bd40d3cb6700bd859c1b1c67d"


@pytest.mark.parametrize(("split", "size"), [("train", 504), ("validation", 60), ("test", 108)])
def test_split_has_its_size_in_all_and_in_each_domain(split: Split, size: int) -> None:
    records = load_everyday(split)
    assert len(records) == size
    assert {record.split for record in records} == {split}
    assert Counter(record.domain for record in records) == dict.fromkeys(DOMAINS, SIZES[split])


def test_without_a_split_all_records_come_domain_by_domain() -> None:
    records = load_everyday()
    assert len(records) == 672
    assert len({record.id for record in records}) == 672
    domains = [record.domain for record in records]
    assert domains == sorted(domains)


def test_unknown_split_is_refused() -> None:
    with pytest.raises(CaloraError, match="'dev'") as caught:
        load_everyday("dev")  # type: ignore[arg-type]
    assert caught.value.hint == "splits: train, validation, test"


def test_what_is_given_out_can_be_changed_without_harm() -> None:
    load_everyday("test").clear()
    assert len(load_everyday("test")) == 108


def test_records_keep_to_the_format() -> None:
    for record in load_everyday():
        assert 2 <= len(record.topic.split()) <= 8, record.id
        speakers = "".join(speaker for speaker, _ in record.dialogue)
        assert 4 <= len(speakers) <= 9 and speakers in "ABABABABABA", record.id
        assert 40 <= sum(len(text.split()) for _, text in record.dialogue) <= 170, record.id
        assert {field: list(getattr(record, field)) for field in KEYS} == KEYS, record.id


@pytest.mark.parametrize(("field", "low", "high"), [("summary", 10, 45), ("reply", 4, 34)])
def test_references_differ_and_have_the_length_of_their_kind(field: str, low: int, high: int) -> None:
    for record in load_everyday():
        references: dict[str, str] = getattr(record, field)
        assert len(set(references.values())) == len(references), record.id
        for key, text in references.items():
            assert low <= len(text.split()) <= high, (record.id, key)


def test_texts_have_no_stray_whitespace_and_no_elision_before_a_name() -> None:
    for record in load_everyday():
        for text in record.texts:
            assert text == " ".join(text.split()), record.id
            assert not re.search(r"\b[dlqnsmtj]u?['\u2019]\{", text, re.IGNORECASE), (record.id, text)


def test_every_summary_names_someone() -> None:
    for record in load_everyday():
        for key, text in record.summary.items():
            assert re.search(r"\{[AB]\}", text), (record.id, key)


def language_of(key: str) -> str:
    last = key.split("_")[-1]
    return last if last in ("es", "fr", "de") else "en"


def language_faults(records: Iterable[Record]) -> list[tuple[str, str, str]]:
    return [
        (record.id, field, key)
        for record in records
        for field in KEYS
        for key, text in getattr(record, field).items()
        if len(text.split()) > 6 and not in_language(re.sub(r"\{[AB]\}", "", text), language_of(key))
    ]


def test_every_reference_is_in_its_language() -> None:
    assert language_faults(load_everyday()) == []


def test_a_reference_in_another_language_would_be_found() -> None:
    record = load_everyday()[0]
    changed = record.model_copy(update={"reply": record.reply | {"casual": record.reply["fr"]}})
    assert language_faults([changed]) == [(record.id, "reply", "casual")]


def dialogue_of(record: Record) -> str:
    return "\n".join(text for _, text in record.dialogue)


def english_summary_of(record: Record) -> str:
    return record.summary["en"]


def nearest(records: Iterable[Record], text_of: Callable[[Record], str]) -> tuple[float, str, str]:
    """The largest Jaccard similarity of word 5-grams between records of different splits, and their ids."""
    grams: dict[str, set[tuple[str, ...]]] = {}
    holders: dict[tuple[str, ...], list[Record]] = defaultdict(list)
    for record in records:
        words = re.findall(r"\w+", text_of(record).lower())
        grams[record.id] = {tuple(words[start : start + 5]) for start in range(len(words) - 4)}
        for gram in grams[record.id]:
            holders[gram].append(record)
    shared = Counter(
        (one.id, other.id)
        for group in holders.values()
        for one, other in combinations(group, 2)
        if one.split != other.split
    )
    similar = ((count / len(grams[one] | grams[other]), one, other) for (one, other), count in shared.items())
    return max(similar, default=(0.0, "", ""))


TEXTS = [
    pytest.param(dialogue_of, "dialogue", id="dialogue"),
    pytest.param(english_summary_of, "summary", id="summary"),
]


@pytest.mark.parametrize(("text_of", "kind"), TEXTS)
def test_no_text_is_nearly_one_of_another_split(text_of: Callable[[Record], str], kind: str) -> None:
    similarity, one, other = nearest(load_everyday(), text_of)
    assert similarity <= LIMITS[kind], (one, other)


@pytest.mark.parametrize(("text_of", "kind"), TEXTS)
def test_a_near_duplicate_would_be_found(text_of: Callable[[Record], str], kind: str) -> None:
    record = load_everyday("train")[100]
    turns = (*record.dialogue[:-1], (record.dialogue[-1][0], "All right, have it your way then."))
    words = record.summary["en"].split()
    summary = record.summary | {"en": " ".join([*words[:-4], "in", "the", "end."])}
    copy = record.model_copy(update={"id": "copy-001", "split": "test", "dialogue": turns, "summary": summary})
    similarity, one, other = nearest([*load_everyday(), copy], text_of)
    assert similarity > LIMITS[kind]
    assert {one, other} == {record.id, "copy-001"}


def test_no_text_comes_twice() -> None:
    for text_of in (dialogue_of, english_summary_of):
        assert max(Counter(map(text_of, load_everyday())).values()) == 1


def test_the_data_card_ships_and_says_what_it_must() -> None:
    card = (FOLDER / "README.md").read_text(encoding="utf-8")
    for phrase in ("CC BY 4.0", '"Everyday corpus, calora contributors"', "language model", "not reviewed by native"):
        assert phrase in card
