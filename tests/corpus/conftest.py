from tests.chat_server import server

__all__ = ["server"]
