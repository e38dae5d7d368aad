import hashlib
import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

from calora.corpus.everyday import load_everyday
from calora.corpus.examples import make_examples
from calora.corpus.opening import files_of, open_plain, open_source
from calora.corpus.reading import rows_of
from calora.corpus.records import SPLITS, Split, TextRecord
from calora.corpus.sources import find_source, sources
from calora.errors import CaloraError
from calora.tasks import Composition

SHARED = Path(os.environ.get("CALORA_DATASETS", Path(__file__).parents[3] / "shared/datasets"))
shared = pytest.mark.skipif(not SHARED.is_dir(), reason="no public data sets in CALORA_DATASETS")


def write_lines(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def test_the_everyday_corpus_is_a_source_that_needs_no_folder() -> None:
    source = find_source("everyday")
    read: dict[str, list[TextRecord]] = {split: list(open_source(source, split)) for split in SPLITS}
    assert {split: len(records) for split, records in read.items()} == {"train": 504, "validation": 60, "test": 108}
    told = make_examples(load_everyday("test"), Composition.parse("summary+es"), seed=0)
    assert [record.text for record in read["test"]] == [example.text for example in told]
    assert [record.targets["summary"]["es"] for record in read["test"]] == [example.target for example in told]
    assert [record.names for record in read["test"]] == [example.names for example in told]
    assert len(read["train"][0].targets["summary"]) == 11
    assert next(iter(files_of(source, "test", None))) == "calora/everyday/arts.jsonl"


# The authors' own files


@shared
@pytest.mark.parametrize(
    ("name", "split", "folder", "count", "checksum"),
    [
        ("dialogsum", "validation", "dialogsum", 500, "df17b47bc3fadb8a"),
        ("persona-chat", "validation", "synthetic-persona-chat", 26777, "71c837722cd785e4"),
        ("ntrex", "test", "ntrex", 1997, "8aa1c0c056fb1880"),
    ],
)
def test_the_samples_are_read_as_ever(name: str, split: Split, folder: str, count: int, checksum: str) -> None:
    digest, number = hashlib.sha256(), 0
    for record in open_source(find_source(name), split, SHARED / folder):
        digest.update((record.model_dump_json() + "\n").encode())
        number += 1
    assert (number, digest.hexdigest()[:16]) == (count, checksum)


@shared
def test_dialogsums_development_dialogues() -> None:
    records = list(open_source(find_source("dialogsum"), "validation", SHARED / "dialogsum"))
    assert len(records) == len({record.id for record in records}) == 500
    first, last = records[0], records[-1]
    assert first.id == "dev_0"
    assert first.text.startswith("#Person1#: Hello, how are you doing today?\n#Person2#: ")
    assert first.targets["summary"]["en"].startswith("#Person2# has trouble breathing.")
    assert first.names == ("#Person1#", "#Person2#")
    assert last.id == "dev_499"
    assert last.targets["summary"]["en"].endswith("#Person1# thinks that's a cool job.")


@shared
def test_persona_chats_turns_are_replies_to_what_came_before() -> None:
    records = list(open_source(find_source("persona-chat"), "validation", SHARED / "synthetic-persona-chat"))
    assert len({record.group for record in records}) == 1000
    first, second = records[:2]
    assert (first.text, first.targets["reply"]["en"]) == ("User 1: Hi!", "Hello!")
    assert second.text == "User 1: Hi!\nUser 2: Hello!"
    assert second.targets["reply"]["en"] == "What is your favorite thing to do?"
    for record in records:
        assert record.text.startswith("User ")
        assert "\n" not in record.targets["reply"]["en"]


@shared
def test_ntrexs_files_are_read_side_by_side() -> None:
    records = list(open_source(find_source("ntrex"), "test", SHARED / "ntrex"))
    assert len(records) == 1997
    assert records[0].text == "Welsh AMs worried about 'looking like muppets'"
    assert records[0].targets["sentence"]["de"].startswith("Mitglieder der Nationalversammlung")
    assert set(records[-1].targets["sentence"]) == {"en", "es", "fr", "de"}


# Made-up files of the published formats


def test_dialogsum_reads_the_hubs_columns_as_the_authors(tmp_path: Path) -> None:
    hub, own = tmp_path / "hub", tmp_path / "own"
    hub.mkdir()
    own.mkdir()
    (hub / "validation.csv").write_text(
        'id,dialogue,summary,topic\ndev_0,"#Person1#: NA\n#Person2#: No, ""really"".",#Person1# says NA.,none\n',
        encoding="utf-8",
    )
    write_lines(
        own / "dialogsum.dev.jsonl",
        {"fname": "dev_0", "dialogue": '#Person1#: NA\n#Person2#: No, "really".', "summary": "#Person1# says NA."},
    )
    source = find_source("dialogsum")
    assert list(open_source(source, "validation", hub)) == list(open_source(source, "validation", own))


class _Hub(BaseHTTPRequestHandler):
    """What the hub answers for one file of a repository of data sets."""

    files: ClassVar[dict[str, bytes]] = {}

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, body: bool) -> None:
        content = self.files.get(self.path)
        self.send_response(404 if content is None else 200)
        if content is None:
            self.send_header("X-Error-Code", "EntryNotFound")
        self.send_header("Content-Length", str(len(content or b"")))
        self.send_header("ETag", f'"{hashlib.sha256(content or b"").hexdigest()}"')
        self.send_header("X-Repo-Commit", "0" * 40)
        self.end_headers()
        if body and content:
            self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        pass


def from_the_hub(endpoint: str, home: Path, split: str) -> subprocess.CompletedProcess[str]:
    """Another process, since the hub's address is read when its library is imported."""
    program = (
        "import sys\nfrom calora.corpus.opening import open_source\nfrom calora.corpus.sources import find_source\n"
        f"for record in open_source(find_source('dialogsum'), {split!r}): print(record.model_dump_json())"
    )
    environment = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
    environment |= {"HF_ENDPOINT": endpoint, "HF_HOME": str(home), "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1"}
    return subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)


def test_the_hub_and_a_folder_give_the_same_records(tmp_path: Path) -> None:
    text = 'id,dialogue,summary,topic\ndev_0,"#Person1#: Hi.\n#Person2#: Ho.",#Person1# greets.,hello\n'
    (tmp_path / "validation.csv").write_text(text, encoding="utf-8")
    _Hub.files = {"/datasets/knkarthick/dialogsum/resolve/main/validation.csv": text.encode()}
    with ThreadingHTTPServer(("127.0.0.1", 0), _Hub) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        endpoint = f"http://127.0.0.1:{server.server_address[1]}"
        fetched = from_the_hub(endpoint, tmp_path / "home", "validation")
        missing = from_the_hub(endpoint, tmp_path / "home", "test")
        server.shutdown()
    own = open_source(find_source("dialogsum"), "validation", tmp_path)
    assert fetched.stdout.splitlines() == [record.model_dump_json() for record in own], fetched.stderr
    assert "could not fetch test.csv of knkarthick/dialogsum" in missing.stderr


def test_of_dialogsums_test_summaries_the_first_is_taken(tmp_path: Path) -> None:
    row = {
        "fname": "test_0",
        "dialogue": "#Person1#: Hi.",
        "summary1": "One.",
        "summary2": "Two.",
        "summary3": "Three.",
    }
    write_lines(tmp_path / "dialogsum.test.jsonl", row)
    (record,) = open_source(find_source("dialogsum"), "test", tmp_path)
    assert record.targets == {"summary": {"en": "One."}}


def test_the_hubs_three_rows_of_a_test_dialogue_are_one_record(tmp_path: Path) -> None:
    """The authors have three summaries beside each other, the hub three rows after each other."""
    texts = ("#Person1#: Hi.", "#Person1#: Bye.")
    lines = [
        f"test_{n}_{place},{text},Summary {n} {place}.,topic" for n, text in enumerate(texts) for place in (1, 2, 3)
    ]
    (tmp_path / "test.csv").write_text("\n".join(["id,dialogue,summary,topic", *lines]), encoding="utf-8")
    found = list(open_source(find_source("dialogsum"), "test", tmp_path))
    assert [(one.id, one.targets["summary"]["en"]) for one in found] == [
        ("test_0", "Summary 0 1."),
        ("test_1", "Summary 1 1."),
    ]


def test_samsums_empty_dialogue_is_passed_over(tmp_path: Path) -> None:
    rows = [
        {"id": "13818513", "summary": "Amanda baked.", "dialogue": "Amanda: I baked cookies.\r\nJerry: Sure!"},
        {"id": "13828807", "summary": "nothing", "dialogue": ""},
    ]
    (tmp_path / "train.json").write_text(json.dumps(rows), encoding="utf-8")
    (record,) = open_source(find_source("samsum"), "train", tmp_path)
    assert record.text == "Amanda: I baked cookies.\nJerry: Sure!"
    assert record.names == ("Amanda", "Jerry")


def test_ted_talks_leave_out_what_is_missing(tmp_path: Path) -> None:
    import datasets

    folder = tmp_path / "plain_text/validation"
    folder.mkdir(parents=True)
    rows = [
        {
            "translations": {"language": ["en", "es", "pt"], "translation": ["Hello .", "Hola .", "Olá ."]},
            "talk_name": "one",
        },
        {"translations": {"language": ["en", "pt"], "translation": ["Bye .", "Tchau ."]}, "talk_name": "one"},
        {"translations": {"language": ["es", "fr"], "translation": ["Hola .", "Salut ."]}, "talk_name": "two"},
    ]
    datasets.Dataset.from_list(rows).to_parquet(folder / "0000.parquet")
    (tmp_path / "all_talks_dev.tsv").write_text(
        "talk_name\ten\tes\tfr\none\tHello .\tHola .\t__NULL__\none\t__NULL__\tAdiós .\t__NULL__\n"
        'one\t"Hello .\t"Hola .\tSalut __NULL__\none\t  \tHola .\tSalut .\none\tBye .\t_ _ NULL _ _\t__NULL__\n',
        encoding="utf-8",
    )
    source = find_source("ted-talks")
    (hub,) = open_source(source, "validation", tmp_path)
    datasets.Dataset.from_list(rows[:1]).to_parquet(folder / "0001.parquet")
    assert len(list(open_source(source, "validation", tmp_path))) == 2  # of as many files as there are
    for part in folder.iterdir():
        part.unlink()
    own, quoted = open_source(source, "validation", tmp_path)
    assert quoted.targets == {"sentence": {"en": '"Hello .', "es": '"Hola .'}}
    assert hub.targets == own.targets == {"sentence": {"en": "Hello .", "es": "Hola ."}}
    assert hub.group == "one"


def test_a_persona_chat_line_without_a_speaker_goes_on(tmp_path: Path) -> None:
    turns = "User 1: Hi!\nhow are you?\nUser 2:\nUser 2: Fine."
    text = f'user 1 personas,user 2 personas,Best Generated Conversation\na,b,"{turns}"\n'
    (tmp_path / "Synthetic-Persona-Chat_test.csv").write_text(text, encoding="utf-8")
    (record,) = open_source(find_source("persona-chat"), "test", tmp_path)
    assert (record.text, record.targets["reply"]["en"]) == ("User 1: Hi! how are you?", "Fine.")


# One's own files


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "json", "parquet", "folder"])
def test_ones_own_file_of_any_kind_gives_the_same_records(tmp_path: Path, kind: str) -> None:
    import datasets

    rows = [
        {"number": 7, "said": "Ann: Hi, it's “NA”.\nBob: null", "short": "Ann greets.", "kurz": "Ann grüßt."},
        {"number": 8, "said": "Ann: Bye.", "short": "Ann leaves.", "kurz": ""},
    ]
    table, path = datasets.Dataset.from_list(rows), tmp_path / f"own.{kind}"
    if kind == "csv":
        table.to_csv(path)
    elif kind == "tsv":
        table.to_csv(path, sep="\t")
    elif kind == "parquet":
        table.to_parquet(path)
    elif kind == "folder":
        table.save_to_disk(path)
    else:
        table.to_json(path, lines=kind == "jsonl")
    columns = {"text": "said", "id": "number", "summary": "short", "summary.de": "kurz"}
    assert list(open_plain(path, columns, "train")) == [
        TextRecord(
            id="train-7",
            split="train",
            text="Ann: Hi, it's “NA”.\nBob: null",
            targets={"summary": {"en": "Ann greets.", "de": "Ann grüßt."}},
        ),
        TextRecord(id="train-8", split="train", text="Ann: Bye.", targets={"summary": {"en": "Ann leaves."}}),
    ]


def test_what_is_wrong_with_a_file_is_named(tmp_path: Path) -> None:
    columns = {"text": "said", "summary": "short"}
    path = write_lines(tmp_path / "own.jsonl", {"said": "Hi.", "sum": "A greeting."})
    with pytest.raises(CaloraError, match="there is no column 'short'") as caught:
        list(open_plain(path, columns, "train"))
    assert caught.value.hint == "columns: said, sum"
    with pytest.raises(CaloraError, match="do not make a record"):
        list(open_plain(path, {"text": "said"}, "train"))
    with pytest.raises(CaloraError, match="does not exist"):
        list(rows_of(tmp_path / "none.csv"))
    (tmp_path / "own.xls").write_text("x")
    with pytest.raises(CaloraError, match="of no known kind"):
        list(rows_of(tmp_path / "own.xls"))
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 nothing")
    with pytest.raises(CaloraError, match=r"broken\.parquet"):
        list(rows_of(tmp_path / "broken.parquet"))
    with pytest.raises(CaloraError, match="has no file of DialogSum") as caught:
        list(open_source(find_source("dialogsum"), "train", tmp_path))
    assert caught.value.hint == "expected train.csv or dialogsum.train.jsonl"
    with pytest.raises(CaloraError, match="ntrex has no train split"):
        list(open_source(find_source("ntrex"), "train", tmp_path))
    write_lines(tmp_path / "dialogsum.dev.jsonl", {"fname": "dev_0", "talk": "Hi."})
    with pytest.raises(CaloraError, match="there is no column 'dialogue'"):
        list(open_source(find_source("dialogsum"), "validation", tmp_path))
    with pytest.raises(CaloraError, match="unknown source 'dialogs'"):
        find_source("dialogs")


def test_parallel_files_must_be_parallel(tmp_path: Path) -> None:
    for name, lines in (("src.eng", "One.\nTwo.\n"), ("ref.spa", "Uno.\n"), ("ref.fra", "Un.\nDeux.\n")):
        (tmp_path / f"newstest2019-{name}.txt").write_text(lines, encoding="utf-8")
    (tmp_path / "newstest2019-ref.deu.txt").write_text("Eins.\nZwei.\n", encoding="utf-8")
    with pytest.raises(CaloraError, match=r"newstest2019-ref.spa.txt ends before"):
        list(open_source(find_source("ntrex"), "test", tmp_path))


def test_every_source_says_what_it_is() -> None:
    for name, source in sources().items():
        assert source.name == name
        assert source.licence and source.title and source.gives
        assert source.link.startswith("https://") or source.shipped
        assert source.hub or source.parallel or source.shipped
