"""The command line: one command a file, each a thin call of the library."""

import errno
import os
import sys
import traceback
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import typer

from calora.cli import (
    bench,
    bundle,
    calibrate,
    compare,
    compose_data,
    demo,
    evaluate,
    export,
    inspect,
    judge,
    merge,
    report,
    run,
    serve,
    sizes,
    train,
    verify,
)
from calora.cli.missing import how_to_install
from calora.cli.options import say
from calora.errors import CaloraError

if TYPE_CHECKING:
    from rich.console import Console

# What is wrong with a place on a disk, and no fault of ours.
_FILES = frozenset(
    (
        errno.EACCES,
        errno.EDQUOT,
        errno.EISDIR,
        errno.ENAMETOOLONG,
        errno.ENOENT,
        errno.ENOSPC,
        errno.ENOTDIR,
        errno.EPERM,
        errno.EROFS,
    )
)
_STOPPED = 130  # what typer makes of Ctrl-C
_HOME = Path(__file__).parents[1]

app = typer.Typer(
    name="calora",
    help="Two tasks, one pass: calibrated merges of LoRA adapters for small language models.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for command in (
    demo,
    train,
    merge,
    inspect,
    calibrate,
    run,
    evaluate,
    export,
    verify,
    bundle,
    serve,
    bench,
    judge,
    report,
    compare,
    sizes,
):
    app.command(name=command.__name__.rpartition(".")[2])(command.command)
app.command(name="compose-data")(compose_data.command)
app.command(name="sources")(compose_data.list_sources)


def main() -> None:
    """Run the command line; exits with 2 for what the user can mend, with 1 for our own failure."""
    from rich.console import Console

    console = Console(stderr=True, soft_wrap=True, highlight=False)
    try:
        with warnings.catch_warnings():
            _tell_warnings()
            app()
    except CaloraError as error:
        console.print(f"[bold red]error:[/] {_plain(str(error))}")
        if error.hint:
            console.print(f"[bold]hint:[/] {_plain(error.hint)}")
        sys.exit(2)
    except ModuleNotFoundError as error:
        console.print(f"[bold red]error:[/] this command needs the package {error.name}")
        console.print(f"[bold]hint:[/] {_plain(how_to_install(error.name or ''))}")
        sys.exit(2)
    except OSError as error:
        if error.errno not in _FILES:
            _ours(console, error)
        where = f"{error.filename}: " if error.filename else ""
        console.print(f"[bold red]error:[/] {_plain(f'{where}{error.strerror}')}")
        console.print("[bold]hint:[/] look at the place, its permissions and the space on its disk, then try again")
        sys.exit(2)
    except SystemExit as ended:
        if ended.code == _STOPPED:
            console.print("stopped; start the same command again to go on")
        raise
    except Exception as error:
        _ours(console, error)


def _tell_warnings() -> None:
    """Tell calora's own warnings in a line, each time; those of other packages stay as Python has them."""
    shown = warnings.showwarning

    def tell(message: Any, category: Any, filename: str, lineno: int, file: Any = None, line: Any = None) -> None:
        if category is UserWarning and Path(filename).is_relative_to(_HOME):
            say(f"warning: {message}")
        else:
            shown(message, category, filename, lineno, file, line)

    warnings.showwarning = tell
    # But in training, which cuts the same texts in every epoch.
    warnings.filterwarnings("always", category=UserWarning, module=r"calora(?!\.training\b)", append=True)


def _ours(console: "Console", error: Exception) -> NoReturn:
    if os.environ.get("CALORA_DEBUG"):
        traceback.print_exc()
    console.print(f"[bold red]calora failed:[/] {type(error).__name__}: {_plain(str(error))}")
    console.print("[bold]hint:[/] this is our fault; set CALORA_DEBUG=1 to see where, and please report it")
    sys.exit(1)


def _plain(text: str) -> str:
    from rich.markup import escape

    return escape(text)
