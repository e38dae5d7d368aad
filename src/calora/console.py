"""Where bars and notices go: standard error, wide enough where it is no terminal."""

from rich.console import Console


def error_console() -> Console:
    """A console on standard error, 120 columns wide where it is no terminal."""
    console = Console(stderr=True)
    return console if console.is_terminal else Console(stderr=True, width=120)
