import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from calora.bench.store import BusyError, Made, Step, StepFailedError, Store
from calora.storage import write_text

Counted = Callable[..., Step[str]]


@pytest.fixture
def made() -> list[str]:
    """The names of the steps that were made, in order."""
    return []


@pytest.fixture
def step(made: list[str]) -> Counted:
    """A step whose artefact is a text: its parents' texts and its own word."""

    def build(name: str, *parents: Step[str], word: str = "word", fails: bool = False) -> Step[str]:
        def make(target: Path, work: Path, given: list[Made[Any]]) -> None:
            made.append(name)
            if fails:
                raise ValueError(f"no {name} today")
            assert all(one.path.exists() for one in given)
            write_text(target, " ".join([*(one.value for one in given), word]))

        return Step("text", name, {"word": word}, make, lambda path: path.read_text(), parents)

    return build


def test_a_step_is_made_once_and_found_again_by_another_store(tmp_path: Path, step: Counted, made: list[str]) -> None:
    first = step("first", word="one")
    second = step("second", first, word="two")
    store = Store(tmp_path)
    assert store.get(second) == store.get(second) == "one two"
    assert Store(tmp_path).get(step("second", step("first", word="one"), word="two")) == "one two"
    assert made == ["first", "second"]
    record = store.record(second)
    assert record is not None
    assert record["parents"] == [first.key]


def test_a_changed_setting_makes_that_step_and_what_hangs_on_it(tmp_path: Path, step: Counted, made: list[str]) -> None:
    store = Store(tmp_path)
    beside = step("beside", word="beside")
    store.get(step("last", step("first"), beside))
    made.clear()
    store.get(step("last", step("first", word="other"), beside))
    assert made == ["first", "last"]


def test_what_was_made_from_a_parent_that_was_made_anew_is_made_again(
    tmp_path: Path, step: Counted, made: list[str]
) -> None:
    first = step("first")
    second = step("second", first)
    third = step("third", second)
    store = Store(tmp_path)
    store.get(third)
    store.path(first).unlink()
    made.clear()
    assert Store(tmp_path).get(third) == "word word word" and made == [], "what is gone is not missed"
    write_text(store.path(first), "another")  # as another machine would train it
    assert Store(tmp_path).get(third) == "another word word"
    assert made == ["second", "third"]


def test_what_was_killed_before_it_told_its_parents_is_made_again(
    tmp_path: Path, step: Counted, made: list[str]
) -> None:
    first = step("first")
    second = step("second", first)
    Store(tmp_path).get(second)
    (tmp_path / "records" / f"{second.key}.json").unlink()
    write_text(Store(tmp_path).path(first), "another")
    made.clear()
    assert Store(tmp_path).get(second) == "another word"
    assert made == ["second"]


def test_what_was_begun_with_other_parents_is_not_gone_on_with(tmp_path: Path, step: Counted) -> None:
    first = step("first")

    def make(target: Path, work: Path, parents: list[Made[Any]]) -> None:
        checkpoint = work / "checkpoint"
        begun = checkpoint.read_text() if checkpoint.exists() else str(parents[0].value)
        write_text(checkpoint, begun)
        if begun == "word" and not target.with_name("twice").exists():
            write_text(target.with_name("twice"), "")
            raise KeyboardInterrupt
        write_text(target, begun)

    wanted = Step("text", "second", {}, make, lambda path: path.read_text(), (first,))
    with pytest.raises(KeyboardInterrupt):
        Store(tmp_path).get(wanted)
    write_text(Store(tmp_path).path(first), "another")
    assert Store(tmp_path).get(wanted) == "another"


def test_the_name_alone_decides_nothing(step: Counted) -> None:
    assert step("one").key == step("two").key
    assert step("one").key != step("one", word="other").key
    assert step("one", step("parent")).key != step("one").key


def test_what_needs_a_step_that_failed_fails_with_its_reason(tmp_path: Path, step: Counted, made: list[str]) -> None:
    store = Store(tmp_path)
    broken = step("broken", fails=True)
    for name in ("left", "right"):
        with pytest.raises(StepFailedError, match="text broken: no broken today") as caught:
            store.get(step(name, broken, word=name))
        assert caught.value.step is broken
    assert made == ["broken"], "it was tried again"
    assert store.get(step("fine", word="fine")) == "fine"


def test_a_step_that_was_cut_short_is_made_again(tmp_path: Path, made: list[str]) -> None:
    attempts = iter([True, False])

    def make(target: Path, work: Path, parents: list[Made[Any]]) -> None:
        work.mkdir(parents=True, exist_ok=True)
        (work / "checkpoint").touch()
        if next(attempts):
            raise KeyboardInterrupt
        made.append("whole")
        write_text(target, "whole")

    one = Step("text", "one", {}, make, lambda path: path.read_text())
    with pytest.raises(KeyboardInterrupt):
        Store(tmp_path).get(one)
    assert list((tmp_path / "work").rglob("checkpoint")), "checkpoints must outlive an interruption"
    assert Store(tmp_path).get(one) == "whole"
    assert not list((tmp_path / "work").rglob("checkpoint"))


def test_what_another_process_makes_is_left_to_it_until_it_dies(tmp_path: Path, step: Counted, made: list[str]) -> None:
    first = step("first")
    second = step("second", first)
    holder = (
        "import sys, time; from pathlib import Path; from calora.bench.store import Store\n"
        "with Store(Path(sys.argv[1])).alone(sys.argv[2]): print('held', flush=True); time.sleep(60)"
    )
    store = Store(tmp_path)
    with subprocess.Popen(
        [sys.executable, "-c", holder, str(tmp_path), first.key], stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None and other.stdout.readline() == "held\n"
        with pytest.raises(BusyError):
            store.get(second)
        assert made == [] and store.failed == {}
        other.send_signal(signal.SIGKILL)
    assert store.get(second) == "word word"


def test_what_another_process_made_meanwhile_is_not_made_again(
    tmp_path: Path, step: Counted, made: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted, plain = step("first"), Store.alone

    def late(self: Store, key: str) -> Any:
        monkeypatch.setattr(Store, "alone", plain)
        Store(tmp_path).get(wanted)
        return plain(self, key)

    monkeypatch.setattr(Store, "alone", late)
    assert Store(tmp_path).get(wanted) == "word"
    assert made == ["first"]


def test_what_another_process_makes_can_be_waited_for(
    tmp_path: Path, step: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = step("first")
    other = ExitStack()
    other.enter_context(Store(tmp_path).alone(wanted.key))
    monkeypatch.setattr("calora.bench.store.time.sleep", lambda seconds: other.close())
    assert Store(tmp_path).wait_for(wanted) == "word"


def test_lineage_names_parents_first(step: Counted) -> None:
    first, other = step("first", word="1"), step("other", word="2")
    last = step("last", first, other, word="3")
    assert [one.name for one in last.lineage()] == ["first", "other", "last"]
