"""What a bundle of 9 adapters and 17 compositions costs on a device, and how fast llama.cpp answers from it.

    python benchmarks/device.py [--backbone smollm2-135m] [--threads 1] [--rounds 5] [--tokens 32]

Adapters and calibrations are random, of the shapes and sizes of trained ones: neither disk, memory nor time depends on
their values. Four tables, every time a ratio to a peer in turn with it in the same run:

    sizes    both starts: MiB on disk, MiB of memory that the loaded bundle adds to the bare backbone
    first    time to the first token of a composition that was not asked for before and of one just used, against
             llama.cpp alone with a ready-made LoRA, and PEFT's load_adapter and set_adapter
    decode   tokens a second of the composition as two adapters and a calibration, as one folded adapter, baked into the
             weights, and of the bare backbone
    passes   one pass of the composition against two, at equal generated tokens, for short and longer texts and answers
"""

import argparse
import gc
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from calora.adapter import Adapter, AdapterCard, Factors, adapter_sha256, read_adapter, write_adapter
from calora.backbone_files import backbone_sha256
from calora.calibration import (
    Calibration,
    CalibrationCard,
    Kind,
    fold,
    fresh_tensors,
    read_calibration,
    write_calibration,
)
from calora.corpus import load_everyday, make_examples
from calora.export import export_adapter
from calora.export.layout import Layout, read_layout
from calora.merging import Merge, Start
from calora.serving import Device, write_bundle
from calora.serving.bundle import check_composition
from calora.serving.engine import GREEDY, Engine
from calora.serving.llama import LlamaServer, Request
from calora.serving.llama_engine import LlamaEngine
from calora.serving.parts import parts_of
from calora.tasks import TASKS, Composition, Prompt

PRIMARY, TONES, LANGUAGES = (
    [task.name for task in TASKS.values() if task.role == role] for role in ("primary", "tone", "language")
)
COMPOSITIONS = [f"{first}+{second}" for first in PRIMARY for second in (*LANGUAGES, *TONES)]
COMPOSITIONS += ["summary+professional+es", "summary+casual+fr", "summary+humorous+de"]
KIND: Kind = "low-rank"
STRENGTH = 0.7
CONTEXT = 1024


def prompt_of(composition: str) -> Prompt:
    """A plain prompt; its exact words do not matter here."""
    return Prompt.for_composition(Composition.parse(composition), None)


def make_parts(layout: Layout, backbone: str, place: Path) -> dict[str, Path]:
    """Nine random adapters of rank 32."""
    random = np.random.default_rng(0)
    sha256 = backbone_sha256(backbone)
    folders = {}
    for name in TASKS:
        modules = {
            module: Factors(
                (random.normal(size=(32, inside)) / inside**0.5).astype(np.float32),
                (1e-3 * random.normal(size=(out, 32))).astype(np.float32),
            )
            for module, (out, inside) in layout.shapes.items()
        }
        card = AdapterCard(name=name, backbone=backbone, backbone_sha256=sha256, prompt=prompt_of(name))
        write_adapter(Adapter(modules, card), place / name, "float16")
        folders[name] = place / name
    return folders


def make_calibrations(
    layout: Layout, backbone: str, parents: Mapping[str, Path], start: Start, place: Path
) -> list[Path]:
    """Seventeen random calibrations."""
    shapes = Adapter(
        {
            name: Factors(np.zeros((1, i), np.float32), np.zeros((o, 1), np.float32))
            for name, (o, i) in layout.shapes.items()
        }
    )
    digests = {name: adapter_sha256(folder) for name, folder in parents.items()}
    folders = []
    for seed, composition in enumerate(COMPOSITIONS):
        names = composition.split("+")
        card = CalibrationCard(
            kind=KIND,
            rank=4,
            shared="kind",
            composition=composition,
            merge=Merge(start=start, strengths=(STRENGTH,) * len(names) if start == "product" else None),
            parents={name: digests[name] for name in names},
            backbone=backbone,
            backbone_sha256="",
            prompt=prompt_of(composition),
        )
        random = np.random.default_rng(seed)
        tensors = {
            name: (value + 1e-3 * random.normal(size=value.shape)).astype(np.float32)
            for name, value in fresh_tensors(card, shapes).items()
        }
        write_calibration(Calibration(card, tensors), place / composition)
        folders.append(place / composition)
    return folders


def resident() -> float:
    """MiB of memory that the process alone has: files that are mapped are not counted."""
    gc.collect()
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith(("Private_Dirty", "Private_Clean"))) / 1024


def megabytes(folder: Path) -> float:
    """MiB of a folder's files."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 2**20


def first_token(engine: Engine, prompt: Prompt, text: str, scales: Mapping[str, float]) -> float:
    """Seconds from request to the first piece of text."""
    begin = time.perf_counter()
    pieces = engine.generate(prompt, text, scales, 4, GREEDY)
    next(pieces)
    seconds = time.perf_counter() - begin
    pieces.close()
    return seconds


def forced(server: LlamaServer, prompt: list[int], scales: Mapping[str, float], tokens: int) -> dict[str, float]:
    """Timings of an answer of just so many tokens; nothing of the prompt is in a cache."""
    sampling = {"ignore_eos": True, "cache_prompt": False}
    answer = server.complete(Request(prompt, scales, tokens, sampling=sampling))
    timings = answer["timings"]
    return {
        "speed": float(timings["predicted_per_second"]),
        "seconds": float(timings["prompt_ms"] + timings["predicted_ms"]) / 1000,
    }


def in_turn(contestants: Mapping[str, Callable[[int], float]], rounds: int) -> dict[str, list[float]]:
    """Every contestant once a round, so that what slows the machine slows all."""
    found: dict[str, list[float]] = {name: [] for name in contestants}
    for turn in range(rounds):
        for name, run in contestants.items():
            found[name].append(run(turn))
    return found


def ratio(found: Mapping[str, list[float]], name: str, peer: str) -> str:
    """Median over rounds of one's share of its peer's figure."""
    return f"{statistics.median(a / b for a, b in zip(found[name], found[peer], strict=True)):.2f}"


def sizes(bundles: Mapping[Start, Path], cache: Path, options: argparse.Namespace) -> Table:
    """Disk and memory of both starts."""
    table = Table(
        title=f"9 adapters, {len(COMPOSITIONS)} compositions ({KIND}) on {options.backbone}",
        caption="calibrations: of the bundle; made: what the device makes of it; memory: over the bare backbone",
    )
    for head in (
        "start",
        "bundle MiB",
        "calibrations",
        "made MiB",
        "memory MiB",
        "opened s",
    ):
        table.add_column(head, justify="left" if head == "start" else "right")
    for start, folder in bundles.items():
        before_cache = megabytes(cache)
        before = resident()
        begin = time.perf_counter()
        with Device.open(folder, context=CONTEXT, threads=options.threads) as device:
            opened = time.perf_counter() - begin
            with_all = resident() - before
            model = device.bundle.model
        before = resident()
        bare = LlamaEngine(model, {}, context=CONTEXT, threads=options.threads)
        alone = resident() - before
        bare.close()
        table.add_row(
            start,
            f"{megabytes(folder):.1f}",
            f"{megabytes(folder / 'calibrations'):.2f}",
            f"{megabytes(cache) - before_cache:.1f}",
            f"{with_all - alone:.1f}",
            f"{opened:.1f}",
        )
    return table


def first_tokens(bundles: Mapping[Start, Path], folded: Path, options: argparse.Namespace) -> Table:
    """Time to the first token, and how many times that of llama.cpp with a ready-made LoRA it is."""
    import torch
    from peft import PeftModel

    from calora.backbone import Backbone

    texts = [example.text for example in make_examples(load_everyday("test"), Composition.parse("summary"), seed=0)]
    loaded = Backbone.load(options.backbone)
    peft = PeftModel.from_pretrained(loaded.model, str(folded.with_suffix("")), adapter_name="again").eval()
    room = {"context": CONTEXT, "threads": options.threads}
    devices = {start: Device.open(folder, **room) for start, folder in bundles.items()}
    ready = LlamaEngine(devices["product"].bundle.model, {"it": folded}, **room)
    prompt = prompt_of("summary+es")

    def text_of(turn: int, place: int) -> str:
        """The turn's text begun with another of its lines: as long for all, and in nobody's prompt cache."""
        lines = texts[turn].split("\n")
        return "\n".join(lines[place % len(lines) :] + lines[: place % len(lines)])

    def on_device(start: Start, composition: str, text: str) -> float:
        step = devices[start].steps(composition)[0]
        return first_token(devices[start]._loaded.engine, step.prompt, text, step.scales)

    def in_peft(turn: int, load: bool) -> float:
        ids = torch.tensor([loaded.tokenizer(prompt.before + text_of(turn, 0) + prompt.after).input_ids])
        begin = time.perf_counter()
        if load:
            peft.load_adapter(str(folded.with_suffix("")), adapter_name=f"new {turn}")
        peft.set_adapter(f"new {turn}" if load else "again")
        with torch.inference_mode():
            peft(input_ids=ids, logits_to_keep=1)
        seconds = time.perf_counter() - begin
        if load:
            peft.delete_adapter(f"new {turn}")
        return seconds

    contestants: dict[str, Callable[[int], float]] = {
        "llama.cpp, a ready-made LoRA": lambda turn: first_token(ready, prompt, text_of(turn, 0), {"it": 1.0})
    }
    for start in bundles:
        contestants[f"{start}: not used before"] = lambda turn, start=start: on_device(
            start, COMPOSITIONS[turn], text_of(turn, 0)
        )
        contestants[f"{start}: just used"] = lambda turn, start=start: on_device(
            start, COMPOSITIONS[turn], text_of(turn, 1)
        )
    contestants["PEFT: load_adapter, set_adapter"] = lambda turn: in_peft(turn, load=True)
    contestants["PEFT: set_adapter"] = lambda turn: in_peft(turn, load=False)
    found = in_turn(contestants, min(options.rounds, len(COMPOSITIONS)))
    for engine in (*devices.values(), ready):
        engine.close()
    table = Table(title=f"from request to first token, median of {options.rounds} rounds in turn")
    table.add_column("contestant")
    table.add_column("times llama.cpp", justify="right")
    for name in contestants:
        table.add_row(name, ratio(found, name, "llama.cpp, a ready-made LoRA"))
    return table


def decoding(bundles: Mapping[Start, Path], small: Path, baked: Path, options: argparse.Namespace) -> list[Table]:
    """Speed of decoding, as a share of the bare backbone's, and one pass against two."""
    with Device.open(small, context=CONTEXT, threads=options.threads) as device:
        smaller = parts_of(device.bundle, check_composition(device.bundle, "summary+es"))
    with Device.open(bundles["product"], context=CONTEXT, threads=options.threads) as device:
        model = device.bundle.model
        beside = parts_of(device.bundle, check_composition(device.bundle, "summary+es"))
    with Device.open(bundles["factors"], context=CONTEXT, threads=options.threads) as device:
        whole = parts_of(device.bundle, check_composition(device.bundle, "summary+es"))
    room = {"context": CONTEXT, "threads": options.threads}
    servers = {
        "bare backbone": (LlamaServer(model, **room), {}),
        "baked, float16": (LlamaServer(baked, **room), {}),
        "one folded adapter": (LlamaServer(model, whole.files, **room), whole.scales),
        "two adapters and a calibration": (LlamaServer(model, beside.files, **room), beside.scales),
        "the same in q8_0": (LlamaServer(model, smaller.files, **room), smaller.scales),
    }
    text = make_examples(load_everyday("test"), Composition.parse("summary"), seed=0)[0].text
    long = servers["bare backbone"][0].tokens(text)
    found = in_turn(
        {
            name: lambda turn, server=server, scales=scales: forced(server, long, scales, options.tokens)["speed"]
            for name, (server, scales) in servers.items()
        },
        options.rounds,
    )
    passes = one_or_two(servers, long, options)
    for server, _ in servers.values():
        server.close()
    table = Table(
        title=f"decoding {options.tokens} tokens behind {len(long)}, median of {options.rounds} rounds in turn"
    )
    table.add_column("form")
    table.add_column("share of bare", justify="right")
    for name in servers:
        table.add_row(name, ratio(found, name, "bare backbone"))
    return [table, passes]


def one_or_two(
    servers: Mapping[str, tuple[LlamaServer, Mapping[str, float]]], text: list[int], options: argparse.Namespace
) -> Table:
    """Share of the time of two passes that one takes; the second reads as many tokens as the first wrote."""
    forms = ("two adapters and a calibration", "the same in q8_0", "one folded adapter")
    table = Table(title=f"one pass, as a share of two in float16, median of {options.rounds} rounds in turn")
    for head in ("tokens read", "tokens a pass writes", *forms):
        table.add_column(head, justify="right")
    both = servers[forms[0]][0]

    def contestants(prompt: list[int], tokens: int) -> dict[str, Callable[[int], float]]:
        two = ((prompt, {"summary": 1.0}), (text[:tokens], {"es": 1.0}))
        return {
            form: lambda turn, form=form: forced(servers[form][0], prompt, servers[form][1], tokens)["seconds"]
            for form in forms
        } | {"two": lambda turn: sum(forced(both, read, scales, tokens)["seconds"] for read, scales in two)}

    for prompt in (text[: len(text) // 3], text):
        for tokens in (options.tokens, 3 * options.tokens):
            found = in_turn(contestants(prompt, tokens), options.rounds)
            table.add_row(str(len(prompt)), str(tokens), *(ratio(found, form, "two") for form in forms))
    return table


def main() -> None:
    """Make the bundles and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="smollm2-135m")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=32)
    options = parser.parse_args()
    console = Console()
    with tempfile.TemporaryDirectory() as temporary, redirected_cache(Path(temporary) / "cache") as cache:
        place = Path(temporary)
        layout = read_layout(options.backbone)
        parents = make_parts(layout, options.backbone, place / "adapters")
        bundles: dict[Start, Path] = {}
        for start in ("product", "factors"):
            folders = make_calibrations(layout, options.backbone, parents, start, place / start)
            bundles[start] = place / f"bundle-{start}"
            write_bundle(bundles[start], options.backbone, list(parents.values()), folders)
        console.print(sizes(bundles, cache, options))
        names = COMPOSITIONS[0].split("+")
        calibration = read_calibration(place / "factors" / COMPOSITIONS[0])
        composed = fold(calibration.card.merge([read_adapter(parents[name]) for name in names]), calibration)
        export_adapter(composed, "gguf", place / "composed.gguf", options.backbone)
        export_adapter(composed, "peft", place / "composed", options.backbone)
        export_adapter(composed, "merged-gguf", place / "baked.gguf", options.backbone, dtype="float16")
        small = place / "bundle-q8_0"
        folder = place / "product" / COMPOSITIONS[0]
        write_bundle(small, options.backbone, [parents[name] for name in names], [folder], dtype="q8_0")
        for table in decoding(bundles, small, place / "baked.gguf", options):
            console.print(table)
        console.print(first_tokens(bundles, place / "composed.gguf", options))


@contextmanager
def redirected_cache(folder: Path) -> Iterator[Path]:
    """Let what is made on the device lie in a folder of its own; the backbone stays where it is."""
    from calora.serving import parts

    folder.mkdir()
    plain = parts.cache_folder
    parts.cache_folder = lambda: folder
    try:
        yield folder
    finally:
        parts.cache_folder = plain


if __name__ == "__main__":
    main()
