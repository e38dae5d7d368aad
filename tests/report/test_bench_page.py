import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest

from calora.errors import CaloraError
from calora.report.bench_page import write_bench_page
from calora.report.reading import read_results

from .bench_runs import (
    COMPOSITIONS,
    DIALOGUES,
    HTML,
    SEEDS,
    add_judge,
    cell_path,
    choice_path,
    hits,
    predictions_path,
    write_bench_run,
)

VOID = {"meta", "link", "br", "img", "hr", "input"}


class Page(HTMLParser):
    """Holds the elements of a page, its text outside of scripts, and its data."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.data = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID and not (self.get_starttag_text() or "").endswith("/>"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script":
            self.data = self.data or data
        elif self.open and self.open[-1] != "style":
            self.text += data

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bench_run(tmp_path_factory.mktemp("runs") / "bench")


@pytest.fixture(scope="module")
def text(run: Path) -> str:
    path = write_bench_page(read_results(run))
    assert path == run / "report.html"
    return path.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(text: str) -> Page:
    return Page(text)


def test_the_page_is_well_formed_and_shows_what_the_run_holds(page: Page) -> None:
    assert page.open == []
    for expected in (
        "Benchmark bench",
        "seeds 0, 1",
        "9 test dialogues",
        "Learnable <Calibration>",
        "22,699",
        "88.9",
        "2 to 3",
        "With 5 single-task adapters",
        "summary+professional+es, seed 1",
        "es: Primary adapter, seed 1",
        "77.8",
        "start product, strength 0.8",
        "ab" * 32,
        "bfloat16",
        '"max_tokens": 96',
    ):
        assert expected in page.text, expected
    assert "Undefined" not in page.text and "None" not in page.text


def test_the_page_fetches_nothing(page: Page, text: str) -> None:
    for tag, attributes in page.elements:
        assert tag not in {"link", "img", "iframe", "object", "embed"}
        assert "src" not in attributes
        assert (attributes.get("style") or "--share").startswith("--share")
        assert (attributes.get("href") or "#").startswith("#")
    assert not re.search(r"@import|url\(", text)
    assert "default-src 'none'" in text


def test_links_and_labels_lead_somewhere(page: Page) -> None:
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    for _, attributes in page.elements:
        for key in ("for", "aria-labelledby"):
            assert attributes.get(key, ids[0]) in ids
        if "href" in attributes:
            assert str(attributes["href"])[1:] in ids
        if "scroll" in (attributes.get("class") or "").split():
            assert attributes["tabindex"] == "0" and attributes["role"] == "region" and attributes["aria-label"]


def test_answers_are_data_and_cannot_end_the_script(page: Page, text: str) -> None:
    assert HTML not in text and "<img" not in text
    assert len(re.findall("</script>", text)) == 2
    data = json.loads(page.data)
    assert any(HTML in answer[0] for answer in data["compositions"][0]["answers"]["multi-step"])


def test_the_browser_has_every_answer_of_every_row(page: Page, run: Path) -> None:
    data = json.loads(page.data)
    results = read_results(run)
    assert [row["label"] for row in data["rows"]] == ["multi-step", "linear (tuned)", "calibration", "constant"]
    assert [dialogue["id"] for dialogue in data["dialogues"]] == list(results.dialogues)
    assert [asked["name"] for asked in data["compositions"]] == list(COMPOSITIONS)
    for asked in data["compositions"]:
        examples = results.examples[asked["name"]]
        assert [data["texts"][place] for place in asked["texts"]] == [example.text for example in examples]
        assert asked["references"] == [example.target for example in examples]
        for label, answers in asked["answers"].items():
            lines = predictions_path(run, label, asked["name"], 0).read_text(encoding="utf-8").splitlines()
            assert [answer[0] for answer in answers] == [json.loads(line)["answer"] for line in lines]
            assert [100 * answer[3] for answer in answers] == hits(label, asked["name"], 0).tolist()
            assert {answer[5] for answer in answers} == {None}
    assert len(data["texts"]) == DIALOGUES
    assert "linear (tuned)" not in data["compositions"][2]["answers"]


def test_every_measure_has_a_view_and_the_one_asked_for_comes_first(run: Path, tmp_path: Path) -> None:
    judged = Path(shutil.copytree(run, tmp_path / "judged"))
    add_judge(judged, "summary+es")
    for path in (judged / "predictions").glob("*--linear-tuned*"):
        path.write_text(re.sub(r'"judge": 100.0', '"other": 1', path.read_text(encoding="utf-8")), encoding="utf-8")
    page = Page(write_bench_page(read_results(judged), "masked_rouge", "linear (tuned)").read_text(encoding="utf-8"))
    radios = [attributes for tag, attributes in page.elements if tag == "input"]
    assert [radio["id"] for radio in radios] == [
        f"measure-{name}" for name in ("masked_rouge", "retrieval", "rouge", "in_language", "judge")
    ]
    assert ["checked" in radio for radio in radios] == [True, False, False, False, False]
    assert page.text.count("minuslinear (tuned)") == 0
    assert page.text.count("minus\nlinear (tuned)") == 4  # the judge has nothing of that row
    assert "minus\nmulti-step" not in page.text


def test_rows_that_are_not_drawn_are_told_with_the_reason(run: Path, tmp_path: Path) -> None:
    few = Path(shutil.copytree(run, tmp_path / "few"))
    cell_path(few, "calibration", COMPOSITIONS[0], 0).unlink()
    page = Page(write_bench_page(read_results(few)).read_text(encoding="utf-8"))
    told = "Not drawn, since they have fewer compositions or cells: Linear merge, tuned, Learnable <Calibration>."
    assert told in page.text


def test_a_damaged_choice_is_named(run: Path, tmp_path: Path) -> None:
    broken = Path(shutil.copytree(run, tmp_path / "broken"))
    choice_path(broken).write_text("{}", encoding="utf-8")
    with pytest.raises(CaloraError, match="is no choice of a search"):
        write_bench_page(read_results(broken))


def test_heat_is_by_composition_and_by_domain(run: Path) -> None:
    from calora.report.bench_page import _view

    results = read_results(run)
    by_composition, by_domain = _view(results, "retrieval", None, asked=True).heats
    domains = [example.domain for example in next(iter(results.examples.values()))]
    assert by_composition.heads == list(results.compositions)
    assert by_domain.heads == sorted(set(domains))
    scores = [entry.scores["retrieval"] for (label, _), entry in results.entries.items() if label == "multi-step"]
    first = [domain == by_domain.heads[0] for domain in domains]
    expected = sum(float(found[:, first].mean()) for found in scores) / len(scores)
    assert dict(by_domain.rows)[results.titles["multi-step"]][0][0] == f"{expected:.1f}"


def test_domains_count_compositions_alike_whatever_their_seeds(run: Path, tmp_path: Path) -> None:
    from calora.report.bench_page import _view

    part = Path(shutil.copytree(run, tmp_path / "part"))
    cell_path(part, "multi-step", COMPOSITIONS[0], SEEDS[1]).unlink()
    results = read_results(part)
    view = _view(results, "retrieval", None, asked=True)
    sizes = [results.domains.count(domain) for domain in view.heats[1].heads]
    shown = dict(view.heats[1].rows)[results.titles["multi-step"]]
    mean = sum(float(place[0]) * size for place, size in zip(shown, sizes, strict=True) if place) / sum(sizes)
    row = next(row for row in view.table.rows if row.label == "multi-step")
    assert mean == pytest.approx(row.overall.mean, abs=0.1)
