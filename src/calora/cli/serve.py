"""calora serve: a bundle behind an OpenAI-compatible HTTP API."""

from pathlib import Path
from typing import Annotated

import typer

from calora.cli.options import say


def command(
    bundle: Annotated[
        Path | None, typer.Argument(help="A bundle's folder; the one that comes with calora if left out.")
    ] = None,
    backbone: Annotated[
        str | None,
        typer.Option(
            "--backbone", "-b", help="Its GGUF file, where the bundle does not carry it; torch runs hub models."
        ),
    ] = None,
    host: Annotated[str, typer.Option(help="Where to listen; 0.0.0.0 lets other machines in.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes any that is free.")] = 8000,
    api_key: Annotated[
        str | None, typer.Option(envvar="CALORA_API_KEY", help="What clients must send; everyone may ask without.")
    ] = None,
    compare: Annotated[bool, typer.Option(help="Serve the plain merges as well, as NAME@merge.")] = False,
    context: Annotated[int, typer.Option(min=256, help="Tokens of prompt and answer together.")] = 2048,
    slots: Annotated[int, typer.Option(min=1, help="Requests computed at the same time.")] = 1,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Of computing; as many as this process has cores, if left out.")
    ] = None,
) -> None:
    """Serve a bundle over HTTP, each composition as a model; Ctrl-C stops when requests under way are done."""
    from calora.serving.device import Device
    from calora.serving.gateway.server import bind, is_open, serve
    from calora.serving.gateway.settings import Settings
    from calora.serving.ready_made import ready_made

    with bind(host, port) as place:
        if is_open(place) and not api_key:
            say(f"warning: {host} is open to other machines, and no --api-key is set: everyone who reaches it may ask")
        device = Device(
            bundle or ready_made(), backbone, compare=compare, context=context, slots=slots, threads=threads
        )
        for name, reason in device.left_out.items():
            say(f"warning: {name} is left out: {reason}")
        address = f"[{host}]" if ":" in host else host
        started = f"{', '.join(device.names)} on http://{address}:{place.getsockname()[1]}/v1; stop with Ctrl-C"
        serve(device, Settings(api_key=api_key or None), place, lambda: say(started))
