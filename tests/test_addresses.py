import pytest

from calora.addresses import is_loopback


@pytest.mark.parametrize(
    ("host", "inside"),
    [
        *((host, True) for host in ("localhost", "127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1")),
        *(
            (host, False)
            for host in ("0.0.0.0", "::", "10.0.0.1", "::ffff:10.0.0.1", "localhost.evil.example", "", None)
        ),
    ],
)
def test_loopback(host: str | None, inside: bool) -> None:
    assert is_loopback(host) is inside
