"""One pass in torch, for a backbone that llama.cpp cannot load: slower, one request at a time, and greedy."""

import threading
from collections.abc import Callable, Generator, Mapping
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from calora.adapter import Adapter
from calora.attach import attached
from calora.encoding import encode_prompt
from calora.errors import CaloraError
from calora.generation import generate_ids
from calora.merging import linear_product
from calora.serving.engine import Line, Piece, Sampling
from calora.tasks import Prompt

if TYPE_CHECKING:
    from calora.backbone import Backbone


class _GoneError(Exception):
    """Whoever asked does not want the answer any more."""


class TorchEngine:
    """A backbone in torch with the adapters of a bundle.

    Args:
        backbone: The model.
        adapters: Name to what reads the adapter; each is read when it is first asked for.
        context: Tokens of prompt and answer together, within what the model can.
    """

    def __init__(self, backbone: "Backbone", adapters: Mapping[str, Callable[[], Adapter]], *, context: int) -> None:
        self._backbone, self._read = backbone, adapters
        self._context = min(context, backbone.context)
        self._adapters: dict[str, Adapter] = {}
        self._computing = threading.Lock()

    def generate(
        self, prompt: Prompt, text: str, scales: Mapping[str, float], max_tokens: int, sampling: Sampling
    ) -> Generator[Piece]:
        """See `Engine`."""
        if sampling.temperature > 0:
            raise CaloraError("the torch engine only takes the likeliest token", "ask with temperature 0")
        ids = encode_prompt(self._backbone.tokenizer, prompt, text, self._context - max_tokens)
        return self._decoded(ids, scales, max_tokens)

    def close(self) -> None:
        """See `Engine`."""
        self._adapters.clear()

    def _active(self, scales: Mapping[str, float]) -> Adapter | None:
        """The sum of the updates that are on."""
        on = {name: scale for name, scale in scales.items() if scale}
        for name in on.keys() - self._adapters.keys():
            self._adapters[name] = self._read[name]()
        return linear_product([self._adapters[name] for name in on], list(on.values())) if on else None

    def _decoded(self, ids: list[int], scales: Mapping[str, float], max_tokens: int) -> Generator[Piece]:
        """Pieces as they are decoded in a thread of their own, one answer after the other, whoever reads them when."""
        tokenizer: Any = self._backbone.tokenizer
        told: SimpleQueue[int | BaseException | None] = SimpleQueue()
        gone = threading.Event()

        class Streamer:
            """Passes each new token on; transformers calls it with the prompt first."""

            begun = False

            def put(self, value: Any) -> None:
                if gone.is_set():
                    raise _GoneError
                if self.begun:
                    told.put(int(value.flatten()[-1]))
                self.begun = True

            def end(self) -> None:
                pass

        def work() -> None:
            try:
                with self._computing, attached(self._backbone, self._active(scales)):
                    generate_ids(self._backbone, [ids], max_tokens, streamer=Streamer())
                told.put(None)
            except _GoneError:
                pass
            except BaseException as error:
                told.put(error)

        worker = threading.Thread(target=work)
        worker.start()
        new: list[int] = []
        line, given, end = Line(), "", int(tokenizer.eos_token_id)
        try:
            while (token := told.get()) is not None and token != end:
                if isinstance(token, BaseException):
                    raise token
                new.append(token)
                whole = tokenizer.decode(new, skip_special_tokens=True)
                if whole.endswith("\N{REPLACEMENT CHARACTER}"):  # a character of which more is to come
                    continue
                answer = line.take(whole[len(given) :])
                given = whole
                if line.ended:
                    yield Piece(answer, len(new), len(ids), "stop")
                    return
                if answer:
                    yield Piece(answer, len(new), len(ids))
            count = len(new) + (token is not None)
            yield Piece("", count, len(ids), "stop" if token is not None else "length")
        finally:
            gone.set()
            worker.join()
