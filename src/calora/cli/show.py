"""The console for what a person asked to see: standard output."""

from rich.console import Console

console = Console()
if not console.is_terminal:
    console = Console(width=120)
