import io

import pytest
from rich.console import Console
from rich.text import Text

from calora import console


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """A terminal of 60 columns in the place of standard error."""
    file = io.StringIO()
    monkeypatch.setattr(console, "error_console", lambda: Console(file=file, force_terminal=True, width=60))
    return file


def test_several_things_are_shown_below_each_other(screen: io.StringIO) -> None:
    with (
        console.shown(lambda: Text("the table")),
        console.counting("answering [/x]", 4) as advance,
    ):
        advance(3)
        both = console._all_shown()
        printed = io.StringIO()
        Console(file=printed, width=60).print(both)
        first, second = printed.getvalue().splitlines()[:2]
        assert first.strip() == "the table"
        assert second.startswith("answering [/x]") and "3/4" in second
    assert "the table" in screen.getvalue()
    assert console._shown == []


def test_a_block_that_dies_lets_go_of_the_screen(screen: io.StringIO) -> None:
    with pytest.raises(RuntimeError, match="dead"), console.shown(lambda: Text("outer")):
        with pytest.raises(ValueError, match="inner"), console.counting("inner", 1):
            raise ValueError("inner")
        assert len(console._shown) == 1
        raise RuntimeError("dead")
    assert console._shown == []
    with console.counting("again", 1) as advance:
        advance(1)
    assert "again" in screen.getvalue()


def test_where_there_is_no_terminal_nothing_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    with console.counting("answering", 2) as advance:
        advance(1)
    assert capsys.readouterr().err == ""
