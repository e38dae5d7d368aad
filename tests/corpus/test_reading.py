import json
from pathlib import Path

import pytest

from calora.corpus.reading import rows_of
from calora.errors import CaloraError


def test_cells_are_what_is_written(tmp_path: Path) -> None:
    table = tmp_path / "own.csv"
    table.write_text('\ufeffid,said\n007,"True, ""NA"",\nnull"\n7,1.50\n\n', encoding="utf-8")
    assert list(rows_of(table)) == [{"id": "007", "said": 'True, "NA",\nnull'}, {"id": "7", "said": "1.50"}]
    lines = tmp_path / "own.jsonl"
    lines.write_text('{"said": "2020-01-01"}\n\n{"said": "x", "n": 3}\n', encoding="utf-8")
    assert list(rows_of(lines)) == [{"said": "2020-01-01"}, {"said": "x", "n": 3}]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "id,said\n1,hello, there\n", "a.csv, line 2: 3 cells under 2 columns"),
        ("a.csv", "id,said\n1,hello\n2,\n3\n", "a.csv, line 4: 1 cells under 2 columns"),
        ("a.csv", 'id,said\n1,"hello\n', "a.csv, line 2: unexpected end of data"),
        ("a.csv", 'id,said\n1,ok\n2,"so"it\n', "a.csv, line 3: "),
        ("a.jsonl", '{"a": 1}\n{"a": "half \\ud83d"}\n', "a.jsonl, line 2: "),
        ("a.jsonl", '{"a": 1}\n{"a": \n', "a.jsonl, line 2: "),
        ("a.jsonl", '["a"]\n', "is no object"),
        ("a.json", '[{"a": 1}, 2]', "'2' is no object"),
    ],
)
def test_a_row_that_does_not_fit_is_named_by_its_line(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(CaloraError) as caught:
        list(rows_of(tmp_path / name))
    assert message in str(caught.value)


def test_a_long_cell_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text(f"id\tsaid\n1\t{'word ' * 100_000}\n", encoding="utf-8")
    (row,) = rows_of(tmp_path / "a.tsv")
    assert len(row["said"]) == 500_000
    assert json.dumps(row)
