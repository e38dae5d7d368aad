"""Files written whole or not at all, digests, and the JSON cards that stand beside tensors."""

import errno
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import ml_dtypes
import numpy as np
import yaml
from filelock import FileLock, Timeout
from numpy.typing import NDArray
from pydantic import BaseModel, ValidationError

from calora.errors import CaloraError, FolderError, MachineError

Card = TypeVar("Card", bound=BaseModel)
Array = NDArray[np.float32]


@contextmanager
def writing_folder(path: Path) -> Iterator[Path]:
    """Give a temporary folder that becomes `path` when the block ends well, and is removed when it does not.

    Raises:
        CaloraError: The path has no name of its own, such as `.` or `..`.
        MachineError: The disk is full, or the place may not be written.
    """
    check_named(path)
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
        temporary.chmod(0o755)
        yield temporary
        if path.exists():
            _replace_folder(temporary, path)
        else:
            os.replace(temporary, path)
    except OSError as error:
        raise _os_problem(error, path) from error
    finally:
        if temporary is not None and temporary.exists():
            shutil.rmtree(temporary, ignore_errors=True)


def check_named(path: Path) -> None:
    """Refuse a place such as `.` or `..`, which cannot be replaced by what is written.

    Raises:
        CaloraError: It is one.
    """
    if path.name in ("", ".."):
        raise CaloraError(f"cannot write {path}: it has no name of its own", "name the folder")


@contextmanager
def made_once(path: Path) -> Iterator[None]:
    """Let one process at a time make a file or folder that others make as well; look again whether it is there.

    Raises:
        MachineError: The place may not be written.
    """
    with _locked(path.with_name(f".{path.name}.lock"), timeout=-1):
        yield


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Be the only process that works in a folder, which is made if it is not there.

    Raises:
        CaloraError: Another one works in it.
        MachineError: The place may not be written.
    """
    with _locked(folder / ".lock", timeout=0):
        yield


@contextmanager
def _locked(file: Path, timeout: float) -> Iterator[None]:
    """Hold a lock, waiting for it so many seconds, or as long as it takes if that is below 0."""
    lock = FileLock(file, timeout=timeout)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout as error:
        raise FolderError(f"another process works in {file.parent}", "wait for it, or give another folder") from error
    except OSError as error:
        raise _os_problem(error, file.parent) from error
    try:
        yield
    finally:
        lock.release()


def _replace_folder(new: Path, path: Path) -> None:
    """Put `new` in the place of `path`, or leave `path` as it is."""
    old = Path(tempfile.mkdtemp(prefix=f".{path.name}-old-", dir=path.parent)) / path.name
    try:
        os.replace(path, old)
        os.replace(new, path)
    except OSError:
        if old.exists():
            os.replace(old, path)
        old.parent.rmdir()
        raise
    shutil.rmtree(old.parent, ignore_errors=True)


@contextmanager
def writing_file(path: Path) -> Iterator[Path]:
    """Give a temporary file that becomes `path` when the block ends well, and is removed when it does not.

    Raises:
        MachineError: The disk is full, or the place may not be written.
    """
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        yield temporary
        temporary.chmod(0o644)
        os.replace(temporary, path)
    except OSError as error:
        raise _os_problem(error, path) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all.

    Raises:
        MachineError: The disk is full, or the place may not be written.
    """
    with writing_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _os_problem(error: OSError, path: Path) -> MachineError:
    reason = {
        errno.ENOSPC: "the disk is full",
        errno.EACCES: "no write permission",
        errno.EPERM: "no write permission",
        errno.EROFS: "the file system is read-only",
        errno.ENOTDIR: "a part of the path is a file, not a folder",
        errno.EEXIST: "a part of the path is a file, not a folder",
    }.get(error.errno or 0, str(error))
    return MachineError(
        f"cannot write {path}: {reason}", "free some space or choose another place; nothing was left there"
    )


def numbered_lines(path: Path) -> list[tuple[int, str]]:
    """The lines of a JSON Lines file that are not blank, with their numbers from 1.

    Raises:
        CaloraError: The file cannot be read, or is not UTF-8.
    """
    try:
        # Editors of Windows begin a file with a mark; JSON may hold other line breaks, such as U+2028.
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise FolderError(f"{path} cannot be read: {error}", "expected a UTF-8 file of JSON lines") from error
    return [(number, line) for number, line in enumerate(lines, 1) if line.strip()]


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fingerprint(value: object) -> str:
    """A short digest of anything JSON can hold; equal values give equal digests on every machine."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def slug(name: str) -> str:
    """A name as a part of a file's name."""
    return re.sub(r"[^\w.+-]+", "-", name).strip("-")


def read_card(path: Path, model: type[Card]) -> Card:
    """Read a JSON file into a pydantic model.

    Raises:
        CaloraError: The file is missing, is not JSON, or has unknown, missing or wrong keys.
    """
    try:
        return model.model_validate_json(path.read_bytes())
    except FileNotFoundError as error:
        raise FolderError(f"{path} is missing", f"expected a {model.__name__} in JSON there") from error
    except OSError as error:
        raise FolderError(f"{path} cannot be read: {error}", f"expected a {model.__name__} in JSON there") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise FolderError(f"{path}: {where}: {first['msg']}", f"expected a {model.__name__} in JSON") from error


def read_recipe_file(path: Path, model: type[Card]) -> Card:
    """Read a YAML file that a person wrote into a pydantic model.

    Raises:
        CaloraError: The file is missing, is not YAML, or has unknown, missing or wrong keys.
    """
    examples = "see the examples in recipes/"
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise CaloraError(
            f"recipe {path} cannot be read: {error}", "give a YAML file, such as one of recipes/"
        ) from error
    except yaml.YAMLError as error:
        raise CaloraError(f"recipe {path} is not YAML: {error}", examples) from error
    try:
        return model.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise CaloraError(f"recipe {path}: {where}: {first['msg']}", examples) from error


def read_tensors(path: Path) -> dict[str, Array]:
    """Read a safetensors file, every tensor as float32.

    Raises:
        CaloraError: The file is missing, truncated or corrupt, or holds a value that is not finite.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        tensors = load_file(path)
    except FileNotFoundError as error:
        raise CaloraError(
            f"{path} is missing", "an adapter or calibration folder holds a JSON file and its tensors"
        ) from error
    except (SafetensorError, OSError, ValueError, AttributeError, KeyError) as error:  # it lacks types of 4 and 8 bits
        raise FolderError(f"{path} is not a whole safetensors file: {error}", "copy or make the file again") from error
    result = {name: tensor.astype(np.float32) for name, tensor in tensors.items()}
    for name, tensor in result.items():
        if not np.isfinite(tensor).all():
            raise CaloraError(f"{path}: tensor {name} holds NaN or infinite values", "train the artefact again")
    return result


def write_tensors(path: Path, tensors: Mapping[str, Array], dtype: str = "float32") -> None:
    """Write a safetensors file in `float32`, `float16` or `bfloat16`.

    Python writes the bytes: safetensors' own writer hides a full disk in an error of its own, and lets only the owner
    read the file.

    Raises:
        CaloraError: A tensor holds a value that is not finite in this type.
    """
    from safetensors.numpy import save

    kind = np.dtype(ml_dtypes.bfloat16) if dtype == "bfloat16" else np.dtype(dtype)
    with np.errstate(over="ignore"):
        stored = {name: np.ascontiguousarray(tensor.astype(kind)) for name, tensor in tensors.items()}
    for name, tensor in stored.items():
        if not np.isfinite(tensor).all():
            raise CaloraError(
                f"{path.name}: tensor {name} holds values that are not finite in {dtype}",
                "write it in float32; if that is refused as well, make the artefact again",
            )
    path.write_bytes(save(stored, {"format": "pt"}))
    path.chmod(0o644)
