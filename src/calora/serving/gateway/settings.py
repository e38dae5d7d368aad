"""How much a gateway takes, and from whom."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Settings:
    """Limits of a gateway.

    Args:
        api_key: That requests must bring; None lets everyone in.
        body: The most bytes of a request's body.
        text: The most characters of the text to be answered.
        queue: Requests that may wait for a slot of the device.
        open: Requests that may be under way at all, those with a slow body and the slowly read ones included.
        seconds: For a request, from the end of its headers until its answer has been computed.
        reading: Seconds a client has beyond that to read an answer that is there.
        stopping: Seconds that requests under way have when the gateway is stopped.
    """

    api_key: str | None = None
    body: int = 1 << 20
    text: int = 16_384
    queue: int = 16
    open: int = 128
    seconds: float = 120.0
    reading: float = 30.0
    stopping: float = 30.0
