from pathlib import Path

import pytest

from calora.corpus import load_everyday, make_examples, read_pairs, write_pairs
from calora.errors import CaloraError
from calora.tasks import Composition

GOOD = '{"text": "Hello there.", "target": "Hola."}'


@pytest.mark.parametrize("text", ["summary+es", "fr", "summary+humorous+de"])
def test_what_is_written_is_read_again(tmp_path: Path, text: str) -> None:
    examples = make_examples(load_everyday("validation"), Composition.parse(text), seed=0)
    file = tmp_path / "new" / "pairs.jsonl"
    write_pairs(examples, file)
    assert read_pairs(file) == examples


def test_odd_characters_survive(tmp_path: Path) -> None:
    example = make_examples(load_everyday("validation")[:1], Composition.parse("summary"), seed=0)[0]
    odd = type(example)("1", "all", 'Zoë: "¿Qué?"\n\tBó: {A} \\n 日本', "\u00fc \U0001f600", ("Zoë", "Bó"))
    write_pairs([example, odd], tmp_path / "pairs.jsonl")
    assert read_pairs(tmp_path / "pairs.jsonl") == [example, odd]


def test_only_text_and_target_are_needed(tmp_path: Path) -> None:
    file = tmp_path / "pairs.jsonl"
    file.write_text(
        f'\n{GOOD}\n{{"text": "Bye.", "target": "Adiós.\\n", "id": "x", "names": ["Ana"]}}\n', encoding="utf-8"
    )
    first, second = read_pairs(file)
    assert (first.id, first.domain, first.text, first.target, first.names) == ("2", "all", "Hello there.", "Hola.", ())
    assert (second.id, second.names) == ("x", ("Ana",))


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        pytest.param("text, target", ["Invalid JSON"], id="not JSON"),
        pytest.param('{"text": "Hello.", "target": ', ["Invalid JSON"], id="cut off"),
        pytest.param('["Hello.", "Hola."]', ["object"], id="a list"),
        pytest.param('{"text": "Hello."}', ["target", "Field required"], id="missing key"),
        pytest.param('{"text": "A", "target": "B", "output": "C"}', ["output", "not permitted"], id="extra key"),
        pytest.param('{"text": "A", "target": 3}', ["target", "valid string"], id="a number"),
        pytest.param('{"text": "A", "target": "B", "names": "Ana"}', ["names", "valid array"], id="names in a string"),
        pytest.param('{"text": " ", "target": "B"}', ["an empty text or target"], id="empty text"),
        pytest.param('{"text": "A", "target": ""}', ["an empty text or target"], id="empty target"),
        pytest.param('{"text": "A\\nB", "target": "C\\nD"}', ["a target of several lines"], id="a line break"),
    ],
)
def test_a_bad_line_is_named_with_file_line_and_fault(tmp_path: Path, line: str, wrong: list[str]) -> None:
    file = tmp_path / "pairs.jsonl"
    file.write_text(f"{GOOD}\n\n{line}\n{GOOD}\n", encoding="utf-8")
    with pytest.raises(CaloraError) as caught:
        read_pairs(file)
    assert str(caught.value).startswith(f"{file}:3: ")
    for part in wrong:
        assert part in str(caught.value)
    assert caught.value.hint


@pytest.mark.parametrize("content", ["", "\n\n"])
def test_an_empty_file_is_named(tmp_path: Path, content: str) -> None:
    file = tmp_path / "pairs.jsonl"
    file.write_text(content)
    with pytest.raises(CaloraError) as caught:
        read_pairs(file)
    assert str(caught.value) == f"{file} holds no examples"


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CaloraError) as caught:
        read_pairs(tmp_path / "none.jsonl")
    assert str(caught.value).startswith(f"{tmp_path / 'none.jsonl'} cannot be read: ")


def test_a_file_in_another_encoding_is_named(tmp_path: Path) -> None:
    file = tmp_path / "pairs.jsonl"
    file.write_bytes('{"text": "café", "target": "coffee"}'.encode("latin-1"))
    with pytest.raises(CaloraError) as caught:
        read_pairs(file)
    assert str(caught.value).startswith(f"{file} cannot be read: ")
