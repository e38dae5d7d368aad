"""One pass in llama.cpp, with calora's prompt and stop rule."""

import threading
import warnings
from collections.abc import Generator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from calora.errors import CaloraError
from calora.serving.engine import EngineError, Line, Piece, Sampling
from calora.serving.llama import LlamaServer, Request
from calora.tasks import Prompt


class LlamaEngine:
    """A model and all LoRA files of a bundle in one llama.cpp server.

    Args:
        model: A GGUF file.
        adapters: Name to a LoRA file.
        context: Tokens of prompt and answer together.
        slots: Passes at the same time.
        threads: Of computing; as many as this process has cores, if None.

    Raises:
        CaloraError: llama.cpp cannot load one of the files.
    """

    def __init__(
        self, model: Path, adapters: Mapping[str, Path], *, context: int, slots: int = 1, threads: int | None = None
    ) -> None:
        self.context = context
        self._server = LlamaServer(model, adapters, context=context, slots=slots, threads=threads)
        self._around: dict[str, list[int]] = {}
        self._lock = threading.Lock()

    def generate(
        self, prompt: Prompt, text: str, scales: Mapping[str, float], max_tokens: int, sampling: Sampling
    ) -> Generator[Piece]:
        """See `Engine`."""
        ids = self._ids(prompt, text, max_tokens)
        drawn: dict[str, Any] = {"temperature": sampling.temperature, "top_p": sampling.top_p}
        # Nothing else is drawn by: llama.cpp has filters that are on, and a GGUF file may ask for more of them.
        drawn |= {"samplers": ["top_p", "temperature"], "mirostat": 0}
        if sampling.seed is not None:
            drawn["seed"] = sampling.seed
        line, tokens = Line(), 0
        with closing(self._server.stream(Request(ids, scales, max_tokens, sampling=drawn))) as chunks:
            for chunk in chunks:
                tokens = int(chunk.get("tokens_predicted", tokens))
                answer = line.take(chunk["content"])
                if line.ended:
                    yield Piece(answer, tokens, len(ids), "stop")
                    return
                if chunk["stop"]:
                    yield Piece(answer, tokens, len(ids), "length" if chunk["stop_type"] == "limit" else "stop")
                    return
                if answer:
                    yield Piece(answer, tokens, len(ids))
        raise EngineError("llama.cpp broke the answer off", "the server was closed while it answered")

    def close(self) -> None:
        """See `Engine`."""
        self._server.close()

    def _ids(self, prompt: Prompt, text: str, max_tokens: int) -> list[int]:
        """As `encode_prompt`, with llama.cpp's tokenizer."""
        if not text.strip():
            raise CaloraError("the text is empty", "give a dialogue or a sentence")
        before, after = self._fixed(prompt.before), self._fixed(prompt.after)
        room = self.context - max_tokens - len(before) - len(after)
        if room < 1:
            raise CaloraError(
                f"the prompt takes {len(before) + len(after)} tokens and the answer {max_tokens}, "
                f"of {self.context} that there are",
                "ask for a shorter answer, or open the device with a longer context",
            )
        middle = self._server.tokens(text.strip(), special=False)
        if len(middle) > room:
            warnings.warn(f"the text has {len(middle)} tokens, {room} fit: its beginning is cut", stacklevel=2)
            middle = middle[-room:]
        return [*before, *middle, *after]

    def _fixed(self, text: str) -> list[int]:
        """Token ids of what stands around texts, asked for once."""
        if not text:
            return []
        with self._lock:
            if text not in self._around:
                self._around[text] = self._server.tokens(text)
            return self._around[text]
