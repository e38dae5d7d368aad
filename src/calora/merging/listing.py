"""The registry as people read it: a table for the terminal, a page for the documents.

`python -m calora.merging.listing` writes the methods into docs/merging.md of the folder that it is run in.
"""

from pathlib import Path
from typing import Any

from calora.merging.conventions import CONVENTIONS
from calora.merging.registry import MergeMethod, merge_methods


def print_methods() -> None:
    """Print every method with its names, parameters and source."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for head in ("method", "what it is", "parameters and their defaults", "PEFT's and mergekit's names"):
        table.add_column(head, no_wrap=head == "method", overflow="fold")
    for name, method in merge_methods().items():
        parameters = ", ".join(f"{key}={_shown(value)}" for key, value in method.defaults.items())
        also = [f"{preset}: {theirs}" for preset, theirs in _names(name)]
        table.add_row(name, method.title, parameters, "\n".join(also))
    Console().print(table)
    Console().print("What each parameter takes, sources and formulas: docs/merging.md")


def methods_page() -> str:
    """The methods as Markdown, for docs/merging.md."""
    return "\n".join(_section(name, method) for name, method in merge_methods().items())


def _section(name: str, method: MergeMethod) -> str:
    summary = (method.merge.__doc__ or "").strip().partition("\n\n")[0]
    aliases = f" Also called {', '.join(f'`{alias}`' for alias in method.aliases)}." if method.aliases else ""
    theirs = "".join(f" `{other}` of preset `{preset}`." for preset, other in _names(name))
    lines = [f"### {method.title}: `{name}`\n", f"{summary} [Source]({method.source}).{aliases}{theirs}\n"]
    fields = method.parameters.model_fields
    if fields:
        lines.append("| parameter | default | what it takes |\n| --- | --- | --- |")
        lines += [f"| `{key}` | `{_shown(field.default)}` | {field.description} |" for key, field in fields.items()]
        lines.append("")
    return "\n".join(lines)


def _names(name: str) -> list[tuple[str, str]]:
    """(preset, its name) of a method."""
    return [
        (preset, theirs)
        for preset, conventions in CONVENTIONS.items()
        for theirs, convention in conventions.items()
        if convention.method == name
    ]


def _shown(value: Any) -> str:
    return "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


if __name__ == "__main__":
    page = Path("docs/merging.md")
    before, begin, rest = page.read_text(encoding="utf-8").partition("<!-- methods -->\n")
    _, end, after = rest.partition("<!-- end -->")
    page.write_text(f"{before}{begin}{methods_page()}\n{end}{after}", encoding="utf-8")
