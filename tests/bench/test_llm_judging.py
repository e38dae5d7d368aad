from pathlib import Path

import pytest

from calora.bench.llm_judging import judge_run_with_llm
from calora.judges import Endpoint
from calora.storage import write_text
from tests.bench.test_judging import COMPOSITION, RECIPE, write
from tests.judges.conftest import Server, said, server

__all__ = ["server"]  # the fixture


def test_verdicts_have_their_own_files_and_only_what_is_left_is_asked(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_text(tmp_path / "recipe.json", RECIPE.model_dump_json())
    cell = write(tmp_path, "multi-step", ["good", "bad", "odd", "good one", "bad one", "odd one"])
    before = cell.read_text()
    asked: list[str] = []

    def respond(prompt: str, number: int) -> tuple[int, str]:
        asked.append(prompt)
        answer = prompt.partition("<output>\n")[2].partition("\n")[0]
        return 200, said({"good": "Yes.", "bad": "No."}.get(answer.split()[0], "Perhaps."))

    server.respond = respond
    endpoint = Endpoint(url=server.url, model="tiny", concurrency=1, retries=0, max_requests=4)
    (first,) = judge_run_with_llm(tmp_path, endpoint)
    assert (first.composition, first.approach, first.model) == (str(COMPOSITION), "multi-step", "tiny")
    assert first.counts == {"yes": 2, "no": 1, "unparsable": 1, "unjudged": 2}
    assert first.yes_percent == 50
    assert len(asked) == 4

    (second,) = judge_run_with_llm(tmp_path, endpoint)
    assert second.counts == {"yes": 2, "no": 2, "unparsable": 2}
    assert len(asked) == 6
    told: list[str] = []
    assert judge_run_with_llm(tmp_path, endpoint, told.append) == [second]
    assert (told, len(asked)) == ([], 6)
    assert cell.read_text() == before
