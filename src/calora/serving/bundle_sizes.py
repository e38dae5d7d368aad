"""What a bundle takes on disk, and what each composition adds."""

from pathlib import Path

from rich import box
from rich.table import Table
from rich.text import Text

from calora.serving.bundle import Bundle
from calora.sizes import mebibytes


def sizes_table(bundle: Bundle) -> Table:
    """Backbone, adapters and compositions with their MiB, and the sum as compositions are added."""
    card = bundle.card
    title = f"{bundle.folder}: adapters {len(card.adapters)}, compositions {len(card.compositions)}"
    table = Table(
        title=Text(title, "table.title"),
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        caption="own: a LoRA of rank 32 trained for each composition instead, in bfloat16",
    )
    table.add_column("part")
    for head in ("MiB", "sum without backbone", "sum, own"):
        table.add_column(head, justify="right")
    table.add_row(Text(f"backbone {card.backbone.name}"), f"{_size(bundle.model):.2f}", "", "")
    total = 0.0
    for name in card.adapters:
        size = _size(bundle.adapter_file(name))
        total += size
        table.add_row(f"adapter {name}", f"{size:.2f}", f"{total:.2f}", f"{total:.2f}")
    expert = mebibytes(32 * sum(out + inside for out, inside in bundle.layout.shapes.values()))
    own = total
    for name, entry in card.compositions.items():
        size = _size(bundle.folder / entry.calibration)
        total, own = total + size, own + expert
        table.add_row(f"{name} ({entry.merge})", f"{size:.3f}", f"{total:.2f}", f"{own:.2f}")
    return table


def _size(path: Path) -> float:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file()) / 2**20
