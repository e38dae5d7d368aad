"""Where a backbone's files lie, and the digests that name them; nothing is loaded."""

import hashlib
from pathlib import Path

from calora.embedded import EMBEDDED
from calora.errors import CaloraError, MachineError
from calora.packing import packed_sha256, split_packing
from calora.storage import sha256_of

_PICKLED = "pytorch_model*.bin"  # transformers reads them as weights alone, and runs nothing
_BESIDE = ("*.json", "*.model", "*.txt", "*.jinja")  # configuration, tokenizer, chat template


def backbone_sha256(name_or_path: str) -> str:
    """The SHA-256 by which artefacts name a backbone, without loading it; arguments and errors as `Backbone.load`."""
    plain, packing = split_packing(name_or_path)
    path = Path(plain)
    if plain in EMBEDDED:
        sha256 = EMBEDDED[plain].sha256
    elif path.suffix == ".gguf":
        if not path.exists():
            raise CaloraError(f"{path} does not exist", "expected a GGUF file")
        sha256 = sha256_of(path)
    else:
        sha256 = folder_sha256(path if path.is_dir() else hub_folder(plain))
    return packed_sha256(sha256, packing)


def reading_sha256(name_or_path: str) -> str | None:
    """The SHA-256 of a folder's or a hub model's tokenizer, chat template and configuration; None for a GGUF file.

    `backbone_sha256` names the weights alone, but of a GGUF file, which holds all of it. Arguments and errors as
    `Backbone.load`.
    """
    plain = split_packing(name_or_path)[0]
    path = Path(plain)
    if plain in EMBEDDED or path.suffix == ".gguf":
        return None
    folder = path if path.is_dir() else hub_folder(plain)
    files = sorted({file for pattern in _BESIDE for file in folder.glob(pattern)})
    return hashlib.sha256("".join(f"{file.name} {sha256_of(file)}\n" for file in files).encode()).hexdigest()


def config_folder(name_or_path: str) -> Path:
    """A folder with a backbone's config.json, without its weights where they are on the hub.

    Args:
        name_or_path: A folder, or a hub id (`owner/name`, or `owner/name@revision`).

    Raises:
        CaloraError: There is no such folder, and huggingface_hub is not installed.
        MachineError: There is no such folder, and the hub does not give it.
    """
    path = Path(name_or_path)
    return path if path.exists() else _from_hub(name_or_path, ["config.json"])


def hub_folder(name: str) -> Path:
    """The folder of a hub model, fetched if it is not here; argument and errors as `config_folder`."""
    folder = _from_hub(name, [*_BESIDE, "*.safetensors"])
    if next(folder.glob("*.safetensors"), None) is None:  # an old repository, whose weights torch has pickled
        folder = _from_hub(name, [*_BESIDE, _PICKLED])
    return folder


def _from_hub(name: str, patterns: list[str]) -> Path:
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
    except ModuleNotFoundError as error:  # on a device
        raise CaloraError(
            f"backbone {name!r} is no embedded name, no file or folder", f"embedded names: {', '.join(EMBEDDED)}"
        ) from error
    owner, _, revision = name.partition("@")
    try:
        return Path(snapshot_download(owner, revision=revision or None, allow_patterns=patterns))
    except (HFValidationError, HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise MachineError(
            f"backbone {name!r} is no embedded name, no file or folder, and the hub does not give it: "
            f"{str(error).splitlines()[0]}",
            f"embedded names: {', '.join(EMBEDDED)}",
        ) from error


def folder_sha256(folder: Path) -> str:
    """The SHA-256 of a folder's weights, all files taken together.

    Raises:
        CaloraError: There are none.
    """
    files = sorted(folder.glob("*.safetensors")) or sorted(folder.glob(_PICKLED))
    if not files:
        raise CaloraError(f"{folder} holds no safetensors file", "expected config.json, *.safetensors and a tokenizer")
    if len(files) == 1:
        return sha256_of(files[0])
    return hashlib.sha256("".join(sha256_of(file) for file in files).encode()).hexdigest()
