import pytest

from calora.corpus import Record, load_everyday
from tests.chat_server import Server, said, server

__all__ = ["Server", "said", "server"]


@pytest.fixture(scope="session")
def records() -> list[Record]:
    """Six validation records of two domains: few, for every text that is embedded takes a tenth of a second."""
    return [
        record
        for domain in ("arts", "food")
        for record in [record for record in load_everyday("validation") if record.domain == domain][:3]
    ]
