"""Where an answer ends: at a stop string, and never in white space."""

from collections.abc import Generator, Sequence
from contextlib import closing

from calora.serving.engine import Piece


def ended(pieces: Generator[Piece], stops: Sequence[str]) -> Generator[Piece]:
    """An answer up to the first stop string, without space at its end: the same whole as in pieces.

    Args:
        pieces: Closed when a stop string has come, or when this is closed, even before its first piece.
        stops: None of them is empty.
    """
    made = _ended(pieces, stops)
    next(made)  # a generator that was not begun would close nothing
    return made


def _ended(pieces: Generator[Piece], stops: Sequence[str]) -> Generator[Piece]:
    held = ""
    with closing(pieces):
        yield Piece("", 0, 0)
        for piece in pieces:
            held += piece.text
            found = [place for stop in stops if (place := held.find(stop)) >= 0]
            end = "stop" if found else piece.end
            ready = len(held[: min(found)].rstrip()) if found else _settled(held, stops if piece.end is None else ())
            yield Piece(held[:ready], piece.tokens, piece.prompt_tokens, end)
            if found:
                return
            held = held[ready:]


def _settled(text: str, stops: Sequence[str]) -> int:
    """How many characters can be neither in a stop string that goes on nor in the space at the end."""
    longest = max(
        (size for stop in stops for size in range(1, min(len(stop), len(text) + 1)) if text.endswith(stop[:size])),
        default=0,
    )
    return len(text[: len(text) - longest].rstrip())
