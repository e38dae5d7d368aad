import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from calora.corpus import make_examples, read_own_records
from calora.corpus.compose_recipe import ComposeRecipe, read_compose_recipe
from calora.corpus.composing import JOURNAL, RECORDS, compose, entries
from calora.corpus.opening import open_plain, open_source
from calora.corpus.sheet import write_sheet
from calora.corpus.sources import find_source
from calora.errors import CaloraError
from calora.tasks import Composition

# A teacher of words: reads lines, writes "Español: " and the line, but for lines that ask for something else.
TEACHER = """
import sys, time
for line in sys.stdin:
    line = line.rstrip("\\n")
    if "same" in line:
        print(line)
    elif "english" in line:
        print("This is still an English sentence about the cat and the dog.")
    else:
        print("La señora dice que el perro de su hermano come pan: " + line[-12:])
    time.sleep(PAUSE)
"""


def written(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def rows(count: int, start: int = 0) -> list[dict[str, Any]]:
    return [
        {"id": f"row{n}", "talk": f"Ann: The dog number {n}.", "short": f"Ann speaks of the dog number {n} again."}
        for n in range(start, start + count)
    ]


def recipe_of(folder: Path, files: dict[str, Path], pause: float = 0.0, **more: Any) -> ComposeRecipe:
    teacher = folder / "teacher.py"
    teacher.write_text(TEACHER.replace("PAUSE", str(pause)), encoding="utf-8")
    by = {"teacher": "command", "command": f"{sys.executable} -S {teacher}", "version": "1"}
    columns = {"id": "id", "text": "talk", "summary": "short"}
    return ComposeRecipe.model_validate(
        {"files": files, "columns": columns, "targets": {"es": {"by": by}}, "batch": 4} | more
    )


def test_targets_are_made_and_say_by_whom(tmp_path: Path) -> None:
    data = rows(5)
    data[1]["short"] = "the same again"
    data[2]["short"] = "something in english please"
    recipe = recipe_of(tmp_path, {"train": written(tmp_path / "train.jsonl", data)})
    counts = compose(recipe, tmp_path / "out")
    assert counts.read == {"train": 5}
    assert counts.kept == {"train": 3}
    assert counts.dropped == {"summary.es": {"copy": 1, "language": 1}}
    records = read_own_records(tmp_path / "out" / RECORDS)
    assert [record.id for record in records] == ["train-row0", "train-row3", "train-row4"]
    first: Any = records[0]
    assert first.targets["summary"]["en"] == "Ann speaks of the dog number 0 again."
    assert first.targets["summary"]["es"].startswith("La señora dice")
    assert first.made["summary.es"]["version"] == "1"
    assert first.made["summary.es"]["time"].startswith("20")
    for composition, text in (
        ("summary+es", "Ann: The dog number 0."),
        ("es", "Ann speaks of the dog number 0 again."),
    ):
        example = make_examples(records, Composition.parse(composition), seed=0)[0]
        assert (example.text, example.target) == (text, first.targets["summary"]["es"])
    page = write_sheet(tmp_path / "out").read_text(encoding="utf-8")
    assert "the same again" in page and "train-row2**, summary.es: language" in page


def test_a_text_that_was_tested_on_is_never_learnt_from(tmp_path: Path) -> None:
    files = {
        "train": written(tmp_path / "train.jsonl", rows(4)),
        "test": written(tmp_path / "test.jsonl", [*rows(2, 2), rows(1, 2)[0] | {"id": "other"}, *rows(1, 9)]),
    }
    counts = compose(recipe_of(tmp_path, files), tmp_path / "out")
    assert counts.read == {"test": 4, "train": 4}
    assert counts.again == {"test": 1, "train": 2}
    assert [(record.id, record.split) for record in read_own_records(tmp_path / "out" / RECORDS)] == [
        ("test-row2", "test"),
        ("test-row3", "test"),
        ("test-row9", "test"),
        ("train-row0", "train"),
        ("train-row1", "train"),
    ]


def test_dealt_records_of_one_group_stay_together_whatever_the_order(tmp_path: Path) -> None:
    shares = {"train": 0.5, "validation": 0.25, "test": 0.25}
    grouped = [row | {"talk_of": f"group{n // 4}"} for n, row in enumerate(rows(400))]
    columns = {"id": "id", "text": "talk", "summary": "short", "group": "talk_of"}
    splits = []
    for name, data in (("forth", grouped), ("back", grouped[::-1])):
        path = written(tmp_path / f"{name}.jsonl", data)
        compose(recipe_of(tmp_path, {"train": path}, deal=shares, columns=columns), tmp_path / name)
        splits.append({record.id: record.split for record in read_own_records(tmp_path / name / RECORDS)})
    assert splits[0] == splits[1]
    groups = [{splits[0][f"train-row{4 * n + k}"] for k in range(4)} for n in range(100)]
    assert all(len(group) == 1 for group in groups)
    assert 30 < sum(group == {"train"} for group in groups) < 70


def test_files_that_count_alike_give_records_of_their_own(tmp_path: Path) -> None:
    files = {
        split: written(tmp_path / f"{split}.jsonl", [row | {"id": n} for n, row in enumerate(rows(3, start))])
        for split, start in (("train", 0), ("test", 10))
    }
    assert compose(recipe_of(tmp_path, files, name="mine"), tmp_path / "out").kept == {"test": 3, "train": 3}
    names = [record.id for record in read_own_records(tmp_path / "out" / RECORDS)]
    assert names == [f"mine-{split}-{n}" for split in ("test", "train") for n in range(3)]
    twice = {"train": written(tmp_path / "twice.jsonl", [row | {"id": 7} for row in rows(2)])}
    with pytest.raises(CaloraError, match="two records are called train-7"):
        compose(recipe_of(tmp_path, twice), tmp_path / "twice")


def test_what_a_person_wrote_stays(tmp_path: Path) -> None:
    data = [row | {"kurz": "Escrito por una persona."} for row in rows(2)]
    data[1]["kurz"] = "  "
    columns = {"id": "id", "text": "talk", "summary": "short", "summary.es": "kurz"}
    recipe = recipe_of(tmp_path, {"train": written(tmp_path / "train.jsonl", data)}, columns=columns)
    compose(recipe, tmp_path / "out")
    first, second = (record for record in read_own_records(tmp_path / "out" / RECORDS))
    assert first.references("summary")["es"] == "Escrito por una persona."
    assert second.references("summary")["es"].startswith("La señora")
    assert [len(record.made) for record in (first, second)] == [0, 1]  # type: ignore[union-attr]


def test_files_that_have_changed_are_not_gone_on_with_nor_one_folder_by_two(tmp_path: Path) -> None:
    path = written(tmp_path / "train.jsonl", rows(3))
    recipe = recipe_of(tmp_path, {"train": path})
    compose(recipe, tmp_path / "out")
    written(path, rows(4))
    with pytest.raises(CaloraError, match="other files"):
        compose(recipe, tmp_path / "out")
    with FileLock(tmp_path / "other/.lock"), pytest.raises(CaloraError, match="another process works in"):
        compose(recipe, tmp_path / "other")


@pytest.mark.parametrize("name", ["records.jsonl", "journal.jsonl", "counts.json", "sample.md"])
def test_what_it_did_not_write_is_kept(tmp_path: Path, name: str) -> None:
    path = written(tmp_path / "train.jsonl", rows(1))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / name).write_text("mine", encoding="utf-8")
    with pytest.raises(CaloraError, match=f"holds a {name} that is not of this command"):
        compose(recipe_of(tmp_path, {"train": path}), tmp_path / "mine")
    assert (tmp_path / "mine" / name).read_text(encoding="utf-8") == "mine"
    (tmp_path / "run").mkdir()
    (tmp_path / "run/recipe.json").write_text('{"backbones": []}', encoding="utf-8")
    with pytest.raises(CaloraError, match=r"run/recipe\.json: "):
        compose(recipe_of(tmp_path, {"train": path}), tmp_path / "run")


def test_cells_that_are_no_text_are_named_and_names_may_be_a_list(tmp_path: Path) -> None:
    columns = {"text": "talk", "summary": "short", "names": "who"}
    good: list[dict[str, Any]] = [{**row, "who": ["Ann", "Bob"]} for row in rows(2)]
    read = list(open_plain(written(tmp_path / "a.jsonl", good), columns, "train"))
    assert [record.names for record in read] == [("Ann", "Bob")] * 2
    empty = Counter[str]()
    assert list(open_plain(written(tmp_path / "b.jsonl", [good[0], {"talk": "Ann: Hi."}]), columns, "train", empty))
    assert empty == {"train": 1}
    with pytest.raises(CaloraError, match=r"c\.jsonl, row 1: there is no column 'short'"):
        list(open_plain(written(tmp_path / "c.jsonl", [{"talk": "a", "who": "b"}]), columns, "train"))
    for key, value in (("short", ["Ann speaks."]), ("talk", True), ("who", [1]), ("who", {"a": "b"})):
        bad = written(tmp_path / "d.jsonl", [good[0], {**good[1], key: value}])
        with pytest.raises(CaloraError, match=rf"d\.jsonl, row 2: '{key}' holds "):
            list(open_plain(bad, columns, "train"))


@pytest.mark.parametrize(
    ("source", "row", "message"),
    [
        ("samsum", {"dialogue": "a", "summary": "b"}, "there is no column 'id'"),
        ("everyday", {"id": "x", "split": "validation"}, "Everyday corpus, validation, record 1: "),
    ],
)
def test_a_file_that_is_not_the_sources_is_named(
    tmp_path: Path, source: str, row: dict[str, str], message: str
) -> None:
    (tmp_path / "own").mkdir()
    written(tmp_path / f"own/{'val.json' if source == 'samsum' else 'my.jsonl'}", [row])
    with pytest.raises(CaloraError, match=message):
        list(open_source(find_source(source), "validation", tmp_path / "own"))


def test_a_folder_that_has_changed_is_not_gone_on_with(tmp_path: Path) -> None:
    import datasets

    datasets.Dataset.from_list(rows(3)).save_to_disk(tmp_path / "data")
    recipe = recipe_of(tmp_path, {"train": tmp_path / "data"})
    compose(recipe, tmp_path / "out")
    shutil.rmtree(tmp_path / "data")
    datasets.Dataset.from_list(rows(5, 3)).save_to_disk(tmp_path / "data")
    with pytest.raises(CaloraError, match="was begun with other files"):
        compose(recipe, tmp_path / "out")


def test_how_fast_it_goes_may_change(tmp_path: Path) -> None:
    files = {"train": written(tmp_path / "train.jsonl", rows(5))}
    compose(recipe_of(tmp_path, files), tmp_path / "out")
    assert compose(recipe_of(tmp_path, files, batch=2), tmp_path / "out").kept == {"train": 5}


def test_what_ends_in_nothing_is_said(tmp_path: Path) -> None:
    data = rows(4)
    data[0]["short"] = data[1]["talk"] = ""
    recipe = recipe_of(tmp_path, {"train": written(tmp_path / "train.jsonl", data)})
    counts = compose(recipe, tmp_path / "out")
    assert (counts.read, counts.empty) == ({"train": 2}, {"train": 2})
    with pytest.raises(CaloraError, match="no record has a field 'sumary'") as caught:
        compose(recipe.model_copy(update={"fields": ("sumary",)}), tmp_path / "typo")
    assert caught.value.hint == "fields: summary"
    empty = recipe_of(tmp_path, {"train": written(tmp_path / "empty.jsonl", data[:2])})
    with pytest.raises(CaloraError, match="there are no records to compose; 2 rows have no text or no reference"):
        compose(empty, tmp_path / "empty")
    german = recipe.model_copy(update={"columns": {"id": "id", "text": "talk", "summary.de": "short"}})
    assert compose(german, tmp_path / "german").dropped == {"summary.es": {"no English reference": 2}}


def test_a_name_that_was_inflected_drops_the_answer(tmp_path: Path) -> None:
    row = {"fname": "dev_0", "dialogue": "#Person1#: Hi.\n#Person2#: Ho.", "summary": "#Person1# greets #Person2#."}
    written(tmp_path / "dialogsum.dev.jsonl", [row])
    script = tmp_path / "teacher.py"
    script.write_text("import sys\nfor line in sys.stdin: print(line.replace(' greets', 's saluda a la señora'))\n")
    by = {"teacher": "command", "command": f"{sys.executable} {script}", "version": "1"}
    recipe = ComposeRecipe.model_validate(
        {"source": "dialogsum", "splits": ["validation"], "folder": tmp_path, "targets": {"es": {"by": by}}}
    )
    script.write_text(
        "import sys\nfor line in sys.stdin: print(line.rstrip().replace(' greets', 's saluda a la señora'))\n",
        encoding="utf-8",
    )
    assert compose(recipe, tmp_path / "out").dropped == {"summary.es": {"lost name": 1}}


def test_names_that_are_no_words_come_back(tmp_path: Path) -> None:
    folder = tmp_path / "dialogsum"
    folder.mkdir()
    row = {"fname": "dev_0", "dialogue": "#Person1#: Hi.\n#Person2#: Ho.", "summary": "#Person1# greets #Person2#."}
    written(folder / "dialogsum.dev.jsonl", [row])
    script = tmp_path / "teacher.py"
    script.write_text(
        "import sys\n"
        "for line in sys.stdin: print('Tomaremos nota: señora', *line.replace('greets', 'saluda a').split())\n"
    )
    by = {"teacher": "command", "command": f"{sys.executable} {script}", "version": "1"}
    recipe = ComposeRecipe.model_validate(
        {"source": "dialogsum", "splits": ["validation"], "folder": folder, "targets": {"es": {"by": by}}}
    )
    assert compose(recipe, tmp_path / "out").kept == {"validation": 1}
    (record,) = read_own_records(tmp_path / "out" / RECORDS)
    assert record.references("summary")["es"] == "Tomaremos nota: señora #Person1# saluda a #Person2#."


def test_another_recipe_does_not_go_on_in_the_folder(tmp_path: Path) -> None:
    files = {"train": written(tmp_path / "train.jsonl", rows(3))}
    compose(recipe_of(tmp_path, files), tmp_path / "out")
    with pytest.raises(CaloraError, match="begun with another recipe"):
        compose(recipe_of(tmp_path, files, limit=2), tmp_path / "out")


def test_a_half_written_line_is_cut_off(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path, {"train": written(tmp_path / "train.jsonl", rows(8))})
    compose(recipe, tmp_path / "out")
    whole = list(entries(tmp_path / "out"))
    journal = tmp_path / "out" / JOURNAL
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(lines[:5]) + lines[5][:40])
    assert compose(recipe, tmp_path / "out").kept == {"train": 8}
    again = list(entries(tmp_path / "out"))
    assert [entry.id for entry in again] == [entry.id for entry in whole]
    assert again[:5] == whole[:5]


@pytest.mark.slow
def test_killed_again_and_again_it_loses_nothing_and_does_nothing_twice(tmp_path: Path) -> None:
    """SIGKILL while it works; what is there goes on, and the end is that of an unbroken run."""
    recipe = recipe_of(tmp_path, {"train": written(tmp_path / "train.jsonl", rows(60))}, pause=0.02)
    unbroken = compose(recipe, tmp_path / "unbroken")
    path = tmp_path / "recipe.yaml"
    path.write_text(recipe.model_dump_json(), encoding="utf-8")  # JSON is YAML
    assert read_compose_recipe(path) == recipe
    command = [
        sys.executable,
        "-c",
        "from calora.cli import main; main()",
        "compose-data",
        str(path),
        str(tmp_path / "out"),
    ]
    journal, before, kills = tmp_path / "out" / JOURNAL, -1, 0
    while kills < 20:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=os.environ)
        while process.poll() is None:
            done = journal.read_bytes().count(b"\n") if journal.exists() else 0
            if done > before + 8:
                process.send_signal(signal.SIGKILL)
                before, kills = done, kills + 1
                break
            time.sleep(0.01)
        if process.wait() == 0:
            break
    assert kills >= 3
    found = [entry.id for entry in entries(tmp_path / "out")]
    assert found == [f"train-row{n}" for n in range(60)]
    assert len(read_own_records(tmp_path / "out" / RECORDS)) == unbroken.kept["train"] == 60
