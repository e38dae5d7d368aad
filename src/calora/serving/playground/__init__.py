"""The playground: a page of the gateway where a composition is tried beside the other ways to answer.

It is plain HTML, CSS and JavaScript on the gateway's own API: no package more on the device, and nothing is fetched
from elsewhere.
"""

from functools import cache
from importlib.resources import files
from pathlib import PurePath

from fastapi import APIRouter, Request
from fastapi.responses import Response
from pydantic import BaseModel

from calora.corpus import load_everyday, make_examples
from calora.serving.device import Device
from calora.serving.menu import Way
from calora.sizes import mebibytes
from calora.tasks import TASKS, Composition

_TYPES = {".html": "text/html; charset=utf-8", ".css": "text/css", ".js": "text/javascript"}
# The page runs its own script and style alone, and talks to its own gateway alone.
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; img-src data:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",
}


class Choice(BaseModel):
    """A composition or task that can be chosen.

    Args:
        name: Of the model.
        ways: In which it can be answered.
        passes: Of multi-step.
        parameters: Learnt for it.
        mebibytes: Of these, in bfloat16.
    """

    name: str
    ways: list[Way]
    passes: int
    parameters: int
    mebibytes: float


class TaskChoice(BaseModel):
    """A task of the bundle."""

    name: str
    role: str
    label: str


class Example(BaseModel):
    """A dialogue to try."""

    title: str
    text: str


class Playground(BaseModel):
    """What the page shows."""

    backbone: str
    adapters: int
    tasks: list[TaskChoice]
    compositions: list[Choice]
    examples: list[Example]


routes = APIRouter()


@routes.get("/", include_in_schema=False)
async def page() -> Response:
    """The page."""
    return _file("page.html")


@routes.get("/playground.css", include_in_schema=False)
async def style() -> Response:
    """Its style."""
    return _file("playground.css")


@routes.get("/playground.js", include_in_schema=False)
async def script() -> Response:
    """Its script."""
    return _file("playground.js")


@routes.get("/v1/playground")
async def playground(request: Request) -> Playground:
    """What the page shows: the bundle's compositions, and dialogues to try."""
    device: Device = request.app.state.gateway.device
    menu = device.menu()
    choices = []
    for name in dict.fromkeys(name for name, _ in menu.offers):
        entry = menu.card.compositions.get(name)
        learnt = menu.parameters.get(name, 0)
        choices.append(
            Choice(
                name=name,
                ways=[way for other, way in menu.offers if other == name],
                passes=len(entry.parents) if entry else 1,
                parameters=learnt,
                mebibytes=mebibytes(learnt),
            )
        )
    tasks = [
        TaskChoice(name=task.name, role=task.role, label=task.label)
        for task in map(TASKS.get, menu.card.adapters)
        if task
    ]
    return Playground(
        backbone=menu.card.backbone.name,
        adapters=len(menu.card.adapters),
        tasks=tasks,
        compositions=choices,
        examples=_examples(),
    )


@cache
def _examples() -> list[Example]:
    """A held-out dialogue of each domain."""
    found: dict[str, Example] = {}
    for example in make_examples(load_everyday("test"), Composition.parse("summary"), seed=0):
        first = example.text.partition("\n")[0]
        found.setdefault(example.domain, Example(title=f"{example.domain}: {first[:60]}", text=example.text))
    return list(found.values())


def _file(name: str) -> Response:
    content = files("calora.serving.playground").joinpath(name).read_bytes()
    return Response(content, media_type=_TYPES[PurePath(name).suffix], headers=_HEADERS)
