"""The runtime of a device: ask a bundle for a composition by name, get the answer in one pass.

llama.cpp loads LoRA files only when it starts. Every file of a bundle is therefore loaded at start, and a request
says which are on: switching between compositions costs nothing. In memory a composition with the `product` start adds
a LoRA of rank 1 or 4 (its shared parameters at every layer), with `factors` one of rank 33 or 36. When the bundle
changes, a second server is started beside the first, new requests go to it, and the first one is stopped when its
last request is done, so that none is lost; for that moment the adapters are in memory twice (the backbone's file is
mapped, and shared). Restarting in place would refuse requests for seconds; a process for each composition would
multiply the memory by their number.
"""

import threading
import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from calora.errors import CaloraError
from calora.export.gguf import read_gguf_adapter
from calora.serving.bundle import Bundle, check_adapter, check_composition, open_bundle
from calora.serving.engine import GREEDY, Engine, Piece, Sampling
from calora.serving.llama_engine import LlamaEngine
from calora.serving.menu import Menu, Reply, Step, Way
from calora.serving.parts import is_beside, parts_of

MAX_TOKENS = 96


@dataclass
class _Loaded:
    """A bundle in memory, and how many requests are using it.

    Args:
        bundle: The bundle.
        engine: With all files of the bundle.
        steps: (name, way) to the passes of the answer.
        left_out: Composition to the reason why it is not there.
        parameters: Composition to the number of parameters that were learnt for it.
        users: Requests under way.
        retired: Whether another has taken its place.
    """

    bundle: Bundle
    engine: Engine
    steps: dict[tuple[str, Way], tuple[Step, ...]]
    left_out: dict[str, str]
    parameters: dict[str, int]
    users: int = 0
    retired: bool = False


class Device:
    """A bundle that answers.

    Args:
        folder: The bundle.
        backbone: As for `open_bundle`: a GGUF file is run by llama.cpp, a Hugging Face folder or hub model by torch.
        compare: Load what plain merges of the `factors` start need as well; those of `product` need nothing.
        context: Tokens of prompt and answer together, within what the backbone was trained for.
        slots: Requests at the same time.
        threads: Of computing; as many as this process has cores, if None.

    Raises:
        CaloraError: The bundle is damaged or llama.cpp cannot load it. A composition whose calibration is damaged or
            stale is left out instead, and told by `left_out`.
    """

    def __init__(
        self,
        folder: str | Path,
        backbone: str | Path | None = None,
        *,
        compare: bool = False,
        context: int = 2048,
        slots: int = 1,
        threads: int | None = None,
    ) -> None:
        self._folder, self._backbone, self._compare = Path(folder), backbone, compare
        self.context, self.slots, self.threads = context, slots, threads
        self._lock = threading.Lock()
        self._reloading = threading.Lock()
        self._closed = False
        self._loaded = self._load()

    @classmethod
    def open(cls, folder: str | Path, backbone: str | Path | None = None, **options: Any) -> Self:
        """Open a bundle; arguments and errors as the class has them."""
        return cls(folder, backbone, **options)

    @property
    def bundle(self) -> Bundle:
        """The bundle as it was loaded last."""
        return self._loaded.bundle

    @property
    def names(self) -> list[str]:
        """What can be asked for: compositions, then single tasks."""
        return list(dict.fromkeys(name for name, _ in self._loaded.steps))

    @property
    def offers(self) -> list[tuple[str, Way]]:
        """Every name with every way in which it can be answered."""
        return list(self._loaded.steps)

    @property
    def left_out(self) -> dict[str, str]:
        """Composition to the reason why it cannot be asked for."""
        return dict(self._loaded.left_out)

    def menu(self) -> "Menu":
        """What is loaded now, all of one moment."""
        loaded = self._loaded
        return Menu(loaded.bundle.card, list(loaded.steps), dict(loaded.parameters))

    def steps(self, name: str, way: Way = "calibrated") -> tuple[Step, ...]:
        """The passes of an answer.

        Raises:
            CaloraError: There is no such composition or task, or no such way to answer it.
        """
        return self._steps(self._loaded, name, way)

    def stream(
        self,
        name: str,
        text: str,
        way: Way = "calibrated",
        *,
        max_tokens: int = MAX_TOKENS,
        sampling: Sampling = GREEDY,
    ) -> Generator[Piece]:
        """Answer piece by piece; earlier passes are run first. Closing the iterator stops the computing.

        Args:
            name: A composition, or a single task.
            text: What to do it to.
            way: One calibrated pass, one of the plain merge, a pass a task, or the bare backbone.
            max_tokens: The most tokens of one pass.
            sampling: How tokens are chosen.

        Yields:
            Pieces, whose counts are over all passes so far; those of earlier passes have no text.

        Raises:
            CaloraError: Unknown name or way, or an empty text.
        """
        pieces = self._pieces(name, text, way, max_tokens, sampling)
        next(pieces)  # from here on the bundle is in use, whatever is loaded before the first piece is asked for
        return pieces

    def _pieces(self, name: str, text: str, way: Way, max_tokens: int, sampling: Sampling) -> Generator[Piece]:
        with self._in_use() as loaded:
            steps = self._steps(loaded, name, way)
            yield Piece("", 0, 0)
            read = written = 0
            for step in steps[:-1]:
                pieces = []
                with closing(loaded.engine.generate(step.prompt, text, step.scales, max_tokens, sampling)) as earlier:
                    for piece in earlier:
                        pieces.append(piece)
                        yield Piece("", written + piece.tokens, read + piece.prompt_tokens)
                text = "".join(piece.text for piece in pieces).strip()
                read, written = read + pieces[-1].prompt_tokens, written + pieces[-1].tokens
                if not text:
                    yield Piece("", written, read, "stop")
                    return
            last = loaded.engine.generate(steps[-1].prompt, text, steps[-1].scales, max_tokens, sampling)
            with closing(last):
                for piece in last:
                    yield Piece(piece.text, written + piece.tokens, read + piece.prompt_tokens, piece.end)

    def run(
        self,
        name: str,
        text: str,
        way: Way = "calibrated",
        *,
        max_tokens: int = MAX_TOKENS,
        sampling: Sampling = GREEDY,
    ) -> Reply:
        """Answer; arguments and errors as `stream`."""
        begin = time.perf_counter()
        passes = len(self.steps(name, way))
        pieces = list(self.stream(name, text, way, max_tokens=max_tokens, sampling=sampling))
        return Reply(
            text="".join(piece.text for piece in pieces).strip(),
            passes=passes,
            tokens=pieces[-1].tokens,
            prompt_tokens=pieces[-1].prompt_tokens,
            truncated=pieces[-1].end == "length",
            seconds=time.perf_counter() - begin,
        )

    def reload(self) -> None:
        """Take up a changed bundle; requests that are under way are answered by the old one.

        Raises:
            CaloraError: The changed bundle cannot be loaded; the old one stays in use.
        """
        with self._reloading:
            if self._closed:
                raise CaloraError("the device is closed", "open it again")
            new = self._load()
            with self._lock:
                old, self._loaded = self._loaded, new
                old.retired = True
                idle = old.users == 0
            if idle:
                old.engine.close()

    def close(self) -> None:
        """Stop."""
        with self._reloading:
            self._closed = True
            self._loaded.engine.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @contextmanager
    def _in_use(self) -> Iterator[_Loaded]:
        with self._lock:
            loaded = self._loaded
            loaded.users += 1
        try:
            yield loaded
        finally:
            with self._lock:
                loaded.users -= 1
                last = loaded.retired and loaded.users == 0
            if last:
                loaded.engine.close()

    def _load(self) -> _Loaded:
        bundle = open_bundle(self._folder, self._backbone)
        for name in bundle.card.adapters:
            check_adapter(bundle, name)
        files = {name: bundle.adapter_file(name) for name in bundle.card.adapters}
        alone = {name: Step(entry.prompt, {name: 1.0}) for name, entry in bundle.card.adapters.items()}
        steps: dict[tuple[str, Way], tuple[Step, ...]] = {}
        left_out: dict[str, str] = {}
        parameters: dict[str, int] = {}
        for name, entry in bundle.card.compositions.items():
            try:
                calibration = check_composition(bundle, name)
                parameters[name] = calibration.parameters
                parts = parts_of(bundle, calibration)
                # The plain merge of adapters that are switched on by scales costs nothing more.
                wanted = self._compare or is_beside(calibration)
                plain = parts_of(bundle, calibration, calibrated=False) if wanted else None
            except CaloraError as error:
                left_out[name] = str(error)
                continue
            files |= parts.files
            steps[name, "calibrated"] = (Step(entry.prompt, parts.scales),)
            if plain is not None:
                files |= plain.files
                steps[name, "merge"] = (Step(entry.prompt, plain.scales),)
            steps[name, "multi-step"] = tuple(alone[parent] for parent in entry.parents)
            steps[name, "backbone"] = (Step(entry.prompt, {}),)
        for name, step in alone.items():
            steps[name, "calibrated"] = (step,)
            steps[name, "backbone"] = (Step(step.prompt, {}),)
        return _Loaded(bundle, self._engine(bundle, files), steps, left_out, parameters)

    def _engine(self, bundle: Bundle, files: Mapping[str, Path]) -> Engine:
        if bundle.model.is_dir():
            from calora.backbone import Backbone
            from calora.serving.torch_engine import TorchEngine

            read = {name: partial(read_gguf_adapter, file, bundle.layout) for name, file in files.items()}
            return TorchEngine(Backbone.load(str(bundle.model)), read, context=self.context)
        context = min(self.context, bundle.layout.context or self.context)  # llama.cpp refuses what is longer
        return LlamaEngine(bundle.model, files, context=context, slots=self.slots, threads=self.threads)

    @staticmethod
    def _steps(loaded: _Loaded, name: str, way: Way) -> tuple[Step, ...]:
        found = loaded.steps.get((name, way))
        if found is not None:
            return found
        if name in loaded.left_out:
            raise CaloraError(f"{name} is left out: {loaded.left_out[name]}", "add its calibration to the bundle again")
        names = list(dict.fromkeys(name for name, _ in loaded.steps))
        if name not in names:
            raise CaloraError(f"the bundle has no {name!r}", f"it has {', '.join(names)}")
        ways = [known for other, known in loaded.steps if other == name]
        raise CaloraError(f"{name} cannot be answered by {way!r}", f"ways: {', '.join(ways)}")
