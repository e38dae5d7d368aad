import json
from pathlib import Path

import pytest

ARTS = Path(__file__).parents[2] / "src/calora/data/everyday/arts.jsonl"


@pytest.fixture(scope="session")
def summaries() -> list[dict[str, str]]:
    """The summaries of the shipped arts dialogues by language, with {A} and {B} where the names belong."""
    return [json.loads(line)["summary"] for line in ARTS.read_text(encoding="utf-8").splitlines()]
