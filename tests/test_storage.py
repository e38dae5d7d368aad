import errno
import json
import os
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread, get_ident
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict

from calora.errors import CaloraError
from calora.storage import (
    alone_in,
    fingerprint,
    made_once,
    read_card,
    read_tensors,
    sha256_of,
    slug,
    write_tensors,
    write_text,
    writing_folder,
)


class Card(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: str


@contextmanager
def files_at_most(size: int) -> Iterator[None]:
    """Let every write beyond this many bytes of a file fail, as on a full disk, also for root."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def fails(code: int) -> Any:
    def fail(*args: Any, **kwargs: Any) -> None:
        raise OSError(code, os.strerror(code))

    return fail


def test_a_folder_appears_whole_and_readable_for_all(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "folder"
    with writing_folder(target) as temporary:
        (temporary / "file").write_text("whole")
        assert not target.exists()
    assert (target / "file").read_text() == "whole"
    assert target.stat().st_mode & 0o777 == 0o755
    assert list(target.parent.iterdir()) == [target]


def test_a_folder_is_replaced_whole(tmp_path: Path) -> None:
    for number in (1, 2):
        with writing_folder(tmp_path / "folder") as temporary:
            (temporary / f"file{number}").touch()
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["file2"]
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


@pytest.mark.parametrize("before", [None, "old"])
@pytest.mark.parametrize("error", [ValueError("x"), KeyboardInterrupt(), OSError(errno.ENOSPC, "x"), CaloraError("x")])
def test_what_fails_inside_leaves_things_as_they_were(tmp_path: Path, error: BaseException, before: str | None) -> None:
    target = tmp_path / "folder"
    if before:
        target.mkdir()
        (target / "file").write_text(before)
    with pytest.raises(CaloraError if isinstance(error, OSError) else type(error)), writing_folder(target) as temporary:
        (temporary / "half").write_text("half")
        raise error
    assert [path.name for path in tmp_path.rglob("*")] == (["folder", "file"] if before else [])


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (errno.ENOSPC, "the disk is full"),
        (errno.EACCES, "no write permission"),
        (errno.EROFS, "the file system is read-only"),
    ],
)
def test_the_reason_and_the_place_are_named(tmp_path: Path, code: int, reason: str) -> None:
    with (
        pytest.raises(CaloraError, match=f"cannot write {tmp_path / 'folder'}: {reason}"),
        writing_folder(tmp_path / "folder"),
    ):
        fails(code)()


@pytest.mark.parametrize("name", ["mkdtemp", "mkstemp"])
def test_a_place_that_may_not_be_written_is_named(tmp_path: Path, monkeypatch: Any, name: str) -> None:
    monkeypatch.setattr(f"tempfile.{name}", fails(errno.EACCES))
    with pytest.raises(CaloraError, match=f"cannot write {tmp_path / 'x'}: no write permission"):
        if name == "mkstemp":
            write_text(tmp_path / "x", "text")
        else:
            with writing_folder(tmp_path / "x"):
                raise AssertionError("never begun")
    assert list(tmp_path.iterdir()) == []


def test_a_file_where_a_folder_should_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for path in (tmp_path / "file" / "x", tmp_path / "file" / "deeper" / "x"):
        with pytest.raises(CaloraError, match="a part of the path is a file"):
            write_text(path, "text")
        with pytest.raises(CaloraError, match="a part of the path is a file"), writing_folder(path):
            raise AssertionError("never begun")
    assert (tmp_path / "file").read_text() == "mine"


def test_a_replacement_that_fails_puts_the_old_folder_back(tmp_path: Path, monkeypatch: Any) -> None:
    target = tmp_path / "folder"
    target.mkdir()
    (target / "file").write_text("old")
    real = os.replace

    def replace(source: Any, destination: Any) -> None:
        if Path(destination) == target and not (Path(source) / "file").exists():
            fails(errno.ENOSPC)()
        real(source, destination)

    monkeypatch.setattr("os.replace", replace)
    with pytest.raises(CaloraError, match="the disk is full"), writing_folder(target) as temporary:
        (temporary / "new").touch()
    assert [path.name for path in tmp_path.rglob("*")] == ["folder", "file"]
    assert (target / "file").read_text() == "old"


def test_a_text_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: Any) -> None:
    file = tmp_path / "file"
    write_text(file, "Grüße")
    assert file.read_text(encoding="utf-8") == "Grüße"
    assert file.stat().st_mode & 0o777 == 0o644
    with pytest.raises(CaloraError, match=f"cannot write {file}"), files_at_most(100):
        write_text(file, "x" * 1000)
    monkeypatch.setattr("os.replace", fails(errno.ENOSPC))
    with pytest.raises(CaloraError, match=f"cannot write {file}: the disk is full"):
        write_text(file, "new")
    assert file.read_text(encoding="utf-8") == "Grüße"
    assert list(tmp_path.iterdir()) == [file]


def test_tensors_that_find_no_room_leave_nothing(tmp_path: Path) -> None:
    big = {"a": np.zeros(10_000, np.float32)}
    with pytest.raises(CaloraError, match="cannot write"), files_at_most(1000), writing_folder(tmp_path / "x") as place:
        write_tensors(place / "t.safetensors", big)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_tensors_come_back_as_float32_rounded_once(tmp_path: Path, dtype: str) -> None:
    values = {"a": np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32).T, "b": np.ones(2, np.float32)}
    write_tensors(tmp_path / "t", values, dtype)
    found = read_tensors(tmp_path / "t")
    kind = ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype
    for name, value in values.items():
        assert found[name].dtype == np.float32
        assert np.array_equal(found[name], value.astype(kind).astype(np.float32))
    assert (tmp_path / "t").stat().st_mode & 0o777 == 0o644


def test_a_value_that_the_stored_type_cannot_hold_is_refused_when_written_and_when_read(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    with pytest.raises(CaloraError, match="tensor big holds values that are not finite in float16"):
        write_tensors(tmp_path / "t", {"big": np.full(1, 1e6, np.float32)}, "float16")
    assert not (tmp_path / "t").exists()
    save_file({"big": np.full(1, np.inf, np.float16)}, tmp_path / "t")
    with pytest.raises(CaloraError, match="tensor big holds NaN or infinite values"):
        read_tensors(tmp_path / "t")


@pytest.mark.parametrize("content", [b"", b"\x08", b"x" * 100, b"\xff" * 8 + b"{}", b"\x02\0\0\0\0\0\0\0{}trailing"])
def test_what_is_no_safetensors_file_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "t").write_bytes(content)
    with pytest.raises(CaloraError, match=f"{tmp_path / 't'} is not a whole safetensors file"):
        read_tensors(tmp_path / "t")


def test_a_card_is_read_strictly(tmp_path: Path) -> None:
    file = tmp_path / "card.json"
    with pytest.raises(CaloraError, match=r"card.json is missing"):
        read_card(file, Card)
    for text, message in [
        (b"{", "card.json: the file: Invalid JSON"),
        (b"\xff\xfe", "card.json: "),
        (b"{}", "card.json: name: Field required"),
        (b'{"name": 1}', "card.json: name: "),
        (b'{"name": "a", "nmae": "b"}', "card.json: nmae: "),
    ]:
        file.write_bytes(text)
        with pytest.raises(CaloraError, match=message):
            read_card(file, Card)
    file.write_text('{"name": "a"}')
    assert read_card(file, Card) == Card(name="a")


scalars = st.none() | st.booleans() | st.integers() | st.text(max_size=3)
values = st.dictionaries(st.text(max_size=1), scalars | st.lists(scalars, max_size=2), max_size=2)


@given(values, values)
def test_fingerprints_are_equal_where_the_json_is(one: Any, other: Any) -> None:
    same = json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
    assert (fingerprint(one) == fingerprint(other)) == same


def test_digests_are_the_same_on_every_machine(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")
    assert sha256_of(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert fingerprint({"b": 1, "a": "é"}) == fingerprint({"a": "é", "b": 1}) == "aa58fba8483623be"


@pytest.mark.parametrize(
    ("name", "expected"), [("summary+es seed 0", "summary+es-seed-0"), ("linear (tuned)", "linear-tuned")]
)
def test_names_become_parts_of_file_names(name: str, expected: str) -> None:
    assert slug(name) == expected


def test_what_several_make_is_made_by_one_at_a_time(tmp_path: Path) -> None:
    target, made = tmp_path / "cache" / "folder", []

    def make() -> None:
        with made_once(target):
            if not target.exists():
                time.sleep(0.05)
                made.append(get_ident())
                target.mkdir()

    threads = [Thread(target=make) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1


def test_a_folder_is_worked_in_by_one_at_a_time(tmp_path: Path) -> None:
    folder = tmp_path / "work" / "here"
    with alone_in(folder):
        with pytest.raises(CaloraError, match=r"another process works in .*here"), alone_in(folder):
            pass
        with alone_in(tmp_path / "work" / "there"):
            pass
    with alone_in(folder):
        assert folder.is_dir()


@pytest.mark.parametrize("alone", [made_once, alone_in])
def test_a_place_that_may_not_be_written_is_told(tmp_path: Path, alone: Any) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CaloraError, match="file"), alone(tmp_path / "file" / "folder"):
        pass


@pytest.mark.parametrize("place", [".", ".."])
def test_a_folder_without_a_name_of_its_own_is_not_replaced(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    (tmp_path / "here/mine").touch()
    with pytest.raises(CaloraError, match="no name of its own"), writing_folder(Path(place)):
        raise AssertionError("nothing is begun")
    assert [path.name for path in tmp_path.rglob("*")] == ["here", "mine"]
