"""What a gateway has done, as Prometheus reads it."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_BOUNDS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})


class Metrics:
    """Counters of one gateway; only its event loop counts."""

    def __init__(self) -> None:
        self._requests: Counter[tuple[str, int]] = Counter()
        self._tokens: Counter[tuple[str, str]] = Counter()
        self._seconds = [0] * (len(_BOUNDS) + 1)
        self._sum = 0.0

    def request(self, model: str, status: int, seconds: float) -> None:
        """Count a request that has ended.

        Args:
            model: One of the bundle's; empty where none was asked for.
            status: Of HTTP; what ended a stream, where it did not end well.
            seconds: From its first byte to the end of the response.
        """
        self._requests[model, status] += 1
        self._seconds[bisect_left(_BOUNDS, seconds)] += 1
        self._sum += seconds

    def tokens(self, model: str, prompt: int, completion: int) -> None:
        """Count the tokens of a request."""
        self._tokens[model, "prompt"] += prompt
        self._tokens[model, "completion"] += completion

    def text(self, gauges: Mapping[str, tuple[str, int]]) -> str:
        """All in Prometheus' text format.

        Args:
            gauges: Name to help and value.
        """
        requests = [
            (_labels(model=model, status=str(status)), count)
            for (model, status), count in sorted(self._requests.items())
        ]
        tokens = [(_labels(model=model, kind=kind), count) for (model, kind), count in sorted(self._tokens.items())]
        lines = [
            *_family("calora_requests_total", "counter", "Requests that have ended.", requests),
            *_family("calora_tokens_total", "counter", "Tokens read and generated.", tokens),
            *self._histogram("calora_request_seconds"),
        ]
        for name, (about, value) in gauges.items():
            lines += _family(name, "gauge", about, [("", value)])
        return "\n".join(lines) + "\n"

    def _histogram(self, name: str) -> list[str]:
        lines = [f"# HELP {name} Seconds to the end of a response.", f"# TYPE {name} histogram"]
        total = 0
        for bound, count in zip((*map(str, _BOUNDS), "+Inf"), self._seconds, strict=True):
            total += count
            lines.append(f"{name}_bucket{_labels(le=bound)} {total}")
        return [*lines, f"{name}_sum {self._sum}", f"{name}_count {total}"]


def _family(name: str, kind: str, about: str, samples: Iterable[tuple[str, float]]) -> list[str]:
    lines = [f"# HELP {name} {about}", f"# TYPE {name} {kind}"]
    return lines + [f"{name}{labels} {value}" for labels, value in samples]


def _labels(**values: str) -> str:
    inside = ",".join(f'{key}="{value.translate(_ESCAPES)}"' for key, value in values.items())
    return f"{{{inside}}}"
