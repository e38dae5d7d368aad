from pathlib import Path

import pytest

from calora.corpus.compose_recipe import read_compose_recipe
from calora.errors import CaloraError


def test_what_a_recipe_lacks_is_said(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text("targets: {es: {by: {teacher: command, command: cat}}}\n")
    with pytest.raises(CaloraError, match="either `source` or `files`"):
        read_compose_recipe(path)
    path.write_text("source: dialogsum\ntargets: {es: {by: {teacher: magic}}}\n")
    with pytest.raises(CaloraError, match="magic"):
        read_compose_recipe(path)
    path.write_text("source: dialogsum\ndeal: {train: 0.5}\ntargets: {es: {by: {teacher: command, command: cat}}}\n")
    with pytest.raises(CaloraError, match=r"add up to 0.5"):
        read_compose_recipe(path)
