from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from calora.backbone import Backbone
from calora.bench.case import Workplace
from calora.bench.grid import Grid
from calora.bench.store import Store
from tests.bench.helpers import small


@pytest.fixture
def grid(llama: Backbone, tmp_path: Path) -> Callable[..., Grid]:
    """A grid of a small recipe in a folder of its own; the backbone is not loaded again."""

    def build(run: str = "run", store: str = "store", **changes: Any) -> Grid:
        recipe = small(llama, **changes)
        return Grid(recipe, tmp_path / run, Store(tmp_path / store), place=Workplace(recipe, lambda name: llama))

    return build


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is trained from here on."""
    names: list[str] = []
    plain = Store._make

    def make(self: Store, step: Any, parents: Any) -> None:
        names.append(f"{step.kind} {step.name}")
        plain(self, step, parents)

    monkeypatch.setattr(Store, "_make", make)
    return names
