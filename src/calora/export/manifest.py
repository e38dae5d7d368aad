"""Export: rank, writing, and the manifest that stands beside what was written."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict

import calora
from calora.adapter import Adapter, fit_for
from calora.backbone import warn_of_other_weights
from calora.backbone_files import backbone_sha256
from calora.errors import CaloraError
from calora.export.layout import Layout, read_layout
from calora.export.ranks import fit_rank
from calora.export.registry import exporters
from calora.storage import read_card, sha256_of, write_text
from calora.tasks import Prompt


class Manifest(BaseModel):
    """What an exported file is, kept beside it as NAME.manifest.json.

    Args:
        format: Of the exporter.
        runtimes: Who loads it.
        name: Of the adapter or composition.
        prompt: To ask it with.
        backbone: What it was exported for, as it was named.
        trained_on_sha256: Of the backbone that the adapter was trained on; None where it does not say.
        architecture: Of the backbone, as GGUF names it.
        parents: Name to SHA-256 of the adapters it was merged from.
        rank: In the file.
        rank_before: Before padding or truncation.
        truncation_error: Relative error of all updates in the Frobenius norm; 0 where nothing was cut.
        dtype: Asked for; a tensor that cannot have it is in float16.
        sha256: File to SHA-256 of what was written.
        mebibytes: Of all files together.
        calora_version: That wrote it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: str
    runtimes: str
    name: str
    prompt: Prompt | None = None
    backbone: str
    trained_on_sha256: str | None = None
    architecture: str
    parents: dict[str, str] = {}
    rank: int
    rank_before: int
    truncation_error: float = 0.0
    dtype: str
    sha256: dict[str, str]
    mebibytes: float
    calora_version: str


def export_adapter(
    adapter: Adapter,
    format: str,
    target: str | Path,
    backbone: str | Path | None = None,
    *,
    dtype: str | None = None,
    rank: int | None = None,
) -> Manifest:
    """Write an adapter in a runtime's format, and its manifest beside it.

    Args:
        adapter: Of a task, a merge, or a folded composition.
        format: A key of `exporters()`.
        target: The file or folder, replaced whole if it is there.
        backbone: An embedded name, a GGUF file, a Hugging Face folder or a hub id: what the runtime will load, with
            a warning where its weights are at hand and not those of the adapter's card. The adapter's own if None.
        dtype: Of the tensors; the format's usual one if None.
        rank: Zero-padded or truncated to it; the adapter's largest if None.

    Raises:
        CaloraError: Unknown format or dtype, an adapter that does not fit, or a place that cannot be written.
    """
    known = exporters()
    if format not in known:
        raise CaloraError(f"unknown format {format!r}", f"formats: {', '.join(known)}")
    exporter = known[format]
    dtype = dtype or exporter.dtypes[0]
    if dtype not in exporter.dtypes:
        raise CaloraError(f"{format} files have no {dtype}", f"expected {', '.join(exporter.dtypes)}")
    target = Path(target)
    if exporter.suffix and target.suffix != exporter.suffix:
        raise CaloraError(f"{target} does not end in {exporter.suffix}", f"a {format} export is one such file")
    name = backbone or (adapter.card.backbone if adapter.card else None)
    if name is None:
        raise CaloraError("the adapter does not say its backbone", "name it with --backbone")
    layout = read_layout(name)
    layout.check(adapter)
    if backbone is not None:
        _compare_weights(adapter, layout)
    fitted, error = fit_rank(adapter, rank)
    exporter.write(fit_for(dtype, [fitted])[0], layout, target, dtype)
    # A tokenizer with several chat templates has a folder of them.
    files = sorted(file for file in target.rglob("*") if file.is_file()) if target.is_dir() else [target]
    card = adapter.card
    manifest = Manifest(
        format=format,
        runtimes=exporter.runtimes,
        name=card.name if card else target.stem,
        prompt=card.prompt if card else None,
        backbone=str(name),
        trained_on_sha256=card.backbone_sha256 if card else None,
        architecture=layout.architecture,
        parents=card.parents if card else {},
        rank=fitted.rank,
        rank_before=adapter.rank,
        truncation_error=error,
        dtype=dtype,
        sha256={_name(file, target): sha256_of(file) for file in files},
        mebibytes=round(sum(file.stat().st_size for file in files) / 2**20, 4),
        calora_version=calora.__version__,
    )
    write_text(manifest_file(target), manifest.model_dump_json(indent=2) + "\n")
    return manifest


def _name(file: Path, target: Path) -> str:
    return file.relative_to(target).as_posix() if target.is_dir() else file.name


def _compare_weights(adapter: Adapter, layout: Layout) -> None:
    """Warn where the adapter was trained on other weights; weights that would have to be fetched are not asked for."""
    folder = layout.path.is_dir()
    if not folder or next(layout.path.glob("*.safetensors"), None):
        warn_of_other_weights(adapter.card, backbone_sha256(str(layout.path) if folder else layout.name))


def manifest_file(target: Path) -> Path:
    """Where the manifest of an export lies."""
    return Path(f"{target.resolve()}.manifest.json")


def read_manifest(target: Path) -> Manifest:
    """Read the manifest of an export.

    Raises:
        CaloraError: It is missing or damaged.
    """
    return read_card(manifest_file(target), Manifest)


def changed_files(target: Path, manifest: Manifest) -> list[str]:
    """Which files of an export are missing, or others than those that its manifest tells of."""
    places = {name: target / name if target.is_dir() else target for name in manifest.sha256}
    return [name for name, place in places.items() if not place.is_file() or sha256_of(place) != manifest.sha256[name]]
