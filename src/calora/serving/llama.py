"""A llama.cpp server inside this process, and requests to it that mean what they say.

llama.cpp loads adapter files only when it starts; a request sets their scales. Four of its habits would answer with
another composition's adapters than asked, so every request here goes around them:

- an empty `lora` list means "not given" and takes the scales of the start: each request lists every adapter, also at 0;
- an unknown id is ignored without a word: names are looked up here, and an unknown one is refused;
- its prompt cache in memory forgets under which adapters a prompt was read: it is switched off;
- a request without a list keeps the keys and values of whoever had the slot before: there is no such request here.
"""

import json
import secrets
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from calora.errors import CaloraError
from calora.processes import cores
from calora.serving.engine import EngineError

_TIMEOUT = 600.0  # seconds between two parts of an answer; a long prompt is read on one slow core


@dataclass(frozen=True)
class Request:
    """One pass of llama.cpp.

    Args:
        prompt: Text, special tokens written out as the model's vocabulary has them; or token ids.
        scales: Adapter to its scale; adapters that are not named are off.
        max_tokens: The most to generate.
        stop: Texts that end the answer.
        sampling: llama.cpp's own fields, such as `temperature`, `seed`, `n_probs` or `ignore_eos`.
    """

    prompt: str | Sequence[int]
    scales: Mapping[str, float]
    max_tokens: int
    stop: tuple[str, ...] = ()
    sampling: Mapping[str, Any] | None = None


class LlamaServer:
    """A model with some adapters, on a port of its own that only this process can use.

    Args:
        model: A GGUF file.
        adapters: Name to a LoRA file in GGUF.
        context: Tokens of prompt and answer together, of each slot.
        slots: Requests answered at the same time.
        threads: Of computing; as many as there are cores for this process if None.
        exact: Keys and values in float32, all of them kept, and no flash attention, for comparisons.

    Raises:
        CaloraError: llama.cpp cannot load the model or an adapter.
    """

    def __init__(
        self,
        model: Path,
        adapters: Mapping[str, Path] | None = None,
        *,
        context: int = 2048,
        slots: int = 1,
        threads: int | None = None,
        exact: bool = False,
    ) -> None:
        import httpx2
        import xllamacpp

        self.adapters = list(adapters or {})
        params: Any = xllamacpp.CommonParams()
        params.model.path = str(model)
        params.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(str(path), 0.0) for path in (adapters or {}).values()]
        params.port = 0
        params.ui = False
        params.verbosity = 0
        params.warmup = False
        params.n_parallel = slots
        params.n_ctx = context * slots
        params.kv_unified = False
        params.cache_ram_mib = 0
        params.cpuparams.n_threads = threads or cores()
        key = secrets.token_urlsafe(24)
        params.api_keys = [key]
        if exact:
            params.swa_full = True
            params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
            params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
        try:
            self._server: Any = xllamacpp.Server(params)
        except RuntimeError as error:
            files = ", ".join(map(str, [model, *(adapters or {}).values()]))
            raise CaloraError(
                f"llama.cpp cannot load one of {files}", "check each adapter with `calora verify FILE`"
            ) from error
        self.address = str(self._server.listening_address)
        self.headers = {"Authorization": f"Bearer {key}"}
        # A proxy of the environment is for other machines: it would be told the texts and the key, and not get here.
        self._client = httpx2.Client(base_url=self.address, headers=self.headers, timeout=_TIMEOUT, trust_env=False)

    def payload(self, request: Request, stream: bool = False) -> dict[str, Any]:
        """The JSON body of a request to `/completion`.

        Raises:
            CaloraError: It names an adapter that is not loaded.
        """
        unknown = sorted(set(request.scales) - set(self.adapters))
        if unknown:
            raise CaloraError(
                f"no adapter {', '.join(unknown)} is loaded", f"loaded: {', '.join(self.adapters) or 'none'}"
            )
        lora = [{"id": id, "scale": request.scales.get(name, 0.0)} for id, name in enumerate(self.adapters)]
        return {
            "temperature": 0.0,
            **(request.sampling or {}),
            "prompt": request.prompt if isinstance(request.prompt, str) else list(request.prompt),
            "n_predict": request.max_tokens,
            "stop": list(request.stop),
            "lora": lora,
            "stream": stream,
        }

    def complete(self, request: Request) -> dict[str, Any]:
        """Answer a request.

        Returns:
            llama.cpp's own answer: `content`, `tokens_predicted`, `timings` and more.

        Raises:
            EngineError: llama.cpp refuses it, as where prompt and answer exceed the context.
        """
        response = self._client.post("/completion", json=self.payload(request))
        if response.status_code != 200:
            raise EngineError(f"llama.cpp refused the request: {_reason(response.text)}")
        found: dict[str, Any] = response.json()
        return found

    def stream(self, request: Request) -> Generator[dict[str, Any]]:
        """Answer a request piece by piece; the last piece has `stop` true, and the timings.

        Raises:
            CaloraError: As `complete`.
        """
        with self._client.stream("POST", "/completion", json=self.payload(request, stream=True)) as response:
            if response.status_code != 200:
                raise EngineError(f"llama.cpp refused the request: {_reason(response.read().decode())}")
            for line in _lines(response.iter_bytes()):
                kind, _, said = line.partition(": ")
                if kind == "error" or (kind == "data" and said.startswith('{"error"')):
                    raise EngineError(f"llama.cpp failed: {_reason(said)}")
                if kind == "data":
                    yield json.loads(said)

    def tokens(self, text: str, special: bool = True) -> list[int]:
        """Token ids of a text; what looks like a special token in it is read as one, or stays text."""
        response = self._client.post("/tokenize", json={"content": text, "parse_special": special})
        return [int(token) for token in response.json()["tokens"]]

    def close(self) -> None:
        """Stop; requests that are under way are broken off, and the memory is given back."""
        self._client.close()
        self._server = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _lines(chunks: Iterable[bytes]) -> Generator[str]:
    """Lines that end in a line feed; an answer's JSON may hold other characters that Python takes for line ends."""
    held = b""
    for chunk in chunks:
        *lines, held = (held + chunk).split(b"\n")
        for line in lines:
            yield line.decode()


def _reason(text: str) -> str:
    """What an error body of llama.cpp says."""
    try:
        found = json.loads(text)
    except ValueError:
        return text.strip() or "no reason given"
    found = found.get("error", found) if isinstance(found, dict) else found
    return str(found.get("message", found)) if isinstance(found, dict) else str(found)
