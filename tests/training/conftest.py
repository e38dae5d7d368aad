from typing import Any

import pytest


@pytest.fixture
def train_rows(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return rows[:10]
