"""Which addresses are this machine's."""

import ipaddress


def is_loopback(host: str | None) -> bool:
    """Whether a host is this machine by name or address."""
    if host == "localhost":
        return True
    try:
        found = ipaddress.ip_address(host or "")
    except ValueError:
        return False
    # A socket of both families tells 127.0.0.1 as ::ffff:127.0.0.1, which Python 3.11 takes for another machine.
    return (getattr(found, "ipv4_mapped", None) or found).is_loopback
