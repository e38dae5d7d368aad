"""Where tables, bars and notices go, several at once: standard error, wide enough where it is no terminal."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

_shown: list[Callable[[], RenderableType]] = []


def error_console() -> Console:
    """A console on standard error, 120 columns wide where it is no terminal."""
    console = Console(stderr=True)
    return console if console.is_terminal else Console(stderr=True, width=120)


@contextmanager
def shown(renderable: Callable[[], RenderableType]) -> Iterator[None]:
    """Keep something in sight on standard error while the block lasts, below what is shown already.

    rich allows one live display a terminal; here a training's bar can stand below a benchmark's table. Where standard
    error is no terminal nothing is shown.

    Args:
        renderable: Gives what to show now.
    """
    console = error_console()
    if not console.is_terminal:
        yield
        return
    _shown.append(renderable)
    try:
        if len(_shown) > 1:
            yield
        else:
            with Live(get_renderable=_all_shown, console=console, refresh_per_second=4, transient=True):
                yield
    finally:
        _shown.remove(renderable)


@contextmanager
def counting(title: str, total: int) -> Iterator[Callable[[int], None]]:
    """A bar with the time left; gives the function that moves it on."""
    bar = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        auto_refresh=False,
    )
    task = bar.add_task(title, total=total)
    with shown(bar.get_renderable):
        yield lambda count: bar.advance(task, count)


def _all_shown() -> RenderableType:
    return Group(*(renderable() for renderable in _shown))
