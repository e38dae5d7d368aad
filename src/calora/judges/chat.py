"""A chat server that speaks OpenAI's protocol: a prompt in, an answer out, with a cache, retries and a budget."""

import asyncio
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field

from calora.addresses import is_loopback
from calora.errors import CaloraError
from calora.storage import fingerprint, read_card, write_text

if TYPE_CHECKING:
    from httpx2 import AsyncClient, Response


class Endpoint(BaseModel):
    """Where a model answers, and how much may be asked of it.

    Args:
        url: Up to the part before `/chat/completions`, such as `http://127.0.0.1:8080/v1`.
        model: Its name there.
        key_variable: The environment variable that holds the key, for servers that want one.
        concurrency: Requests at a time.
        timeout: Seconds to wait for the server to connect, and between two parts of its answer.
        retries: Further tries after a status of 429 or 5xx, a timeout or a broken connection.
        backoff: Seconds before the first of them; each later pause is twice as long.
        max_requests: The budget, in requests sent, retries among them; None for no end.
        max_tokens: Of an answer.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: str = Field(pattern=r"^https?://\S+$")
    model: str
    key_variable: str = "CALORA_JUDGE_KEY"
    concurrency: int = Field(default=4, ge=1)
    timeout: float = Field(default=60.0, gt=0)
    retries: int = Field(default=5, ge=0)
    backoff: float = Field(default=1.0, ge=0)
    max_requests: int | None = Field(default=None, ge=0)
    max_tokens: int = Field(default=16, ge=1)

    @property
    def address(self) -> str:
        """Where requests go."""
        return f"{self.url.rstrip('/')}/chat/completions"


@dataclass(frozen=True)
class Said:
    """What became of one prompt.

    Attributes:
        text: The model's answer, if there is one.
        cut: Whether the answer ended for want of tokens; False where it comes from the cache.
        outcome: `answered`; `malformed` (the server sent something that holds no answer); `failed` (every try did);
            `over budget` (it was not asked, or not again).
    """

    text: str | None
    outcome: Literal["answered", "malformed", "failed", "over budget"]
    cut: bool = False


async def ask_all(prompts: Sequence[str], endpoint: Endpoint, cache: Path | None = None) -> list[Said]:
    """Put prompts to a model at temperature 0, each different one once.

    Args:
        prompts: One user message each.
        endpoint: Whom to ask.
        cache: A folder for answers, one JSON file a request, named by its digest; what is there is not asked again.
            The key is not written.

    Returns:
        One entry a prompt, in their order.

    Raises:
        CaloraError: Nothing listens at the address, or the server refuses requests (a key, a model or an address that
            is wrong, say). Answers that came before are in the cache.
    """
    from httpx2 import AsyncClient

    key = os.environ.get(endpoint.key_variable, "").strip()
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    different = list(dict.fromkeys(prompts))
    # A proxy of the environment cannot reach this machine, and is not told what is asked on it.
    proxied = not is_loopback(urlsplit(endpoint.url).hostname)
    async with AsyncClient(headers=headers, timeout=endpoint.timeout, trust_env=proxied) as client:
        session = _Session(client, endpoint, cache)
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(session.ask(prompt)) for prompt in different]
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from None
    said = {prompt: task.result() for prompt, task in zip(different, tasks, strict=True)}
    return [said[prompt] for prompt in prompts]


class _Cached(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    request: dict[str, Any]
    answer: str


@dataclass
class _Session:
    client: "AsyncClient"
    endpoint: Endpoint
    cache: Path | None
    sent: int = 0
    gate: asyncio.Semaphore = field(init=False)

    def __post_init__(self) -> None:
        self.gate = asyncio.Semaphore(self.endpoint.concurrency)

    async def ask(self, prompt: str) -> Said:
        request = {
            "model": self.endpoint.model,
            "messages": [{"role": "user", "content": prompt}],
            "temperature": 0,
            "max_tokens": self.endpoint.max_tokens,
        }
        file = self.cache / f"{fingerprint([self.endpoint.address, request])}.json" if self.cache else None
        if file and file.is_file():
            return Said(read_card(file, _Cached).answer, "answered")
        async with self.gate:
            said = await self._try(request)
        if file and said.text is not None:
            write_text(file, _Cached(request=request, answer=said.text).model_dump_json(indent=1) + "\n")
        return said

    async def _try(self, request: dict[str, Any]) -> Said:
        from httpx2 import ConnectError, RequestError

        problem: Exception | None = None
        for attempt in range(self.endpoint.retries + 1):
            if attempt:
                await asyncio.sleep(self.endpoint.backoff * 2 ** (attempt - 1))
            if self.endpoint.max_requests is not None and self.sent >= self.endpoint.max_requests:
                return Said(None, "over budget")
            self.sent += 1
            try:
                response = await self.client.post(self.endpoint.address, json=request)
            except RequestError as error:
                problem = error
                continue
            problem = None
            if response.status_code == 200:
                return _read(response)
            if response.status_code != 429 and response.status_code < 500:
                raise self._refused(response)
        if isinstance(problem, ConnectError):
            raise CaloraError(
                f"nothing can be reached at {self.endpoint.address}: {problem}", "start the server, or mend the url"
            ) from problem
        return Said(None, "failed")

    def _refused(self, response: "Response") -> CaloraError:
        hint = {
            401: f"put the key into the environment variable {self.endpoint.key_variable}",
            403: f"the key in {self.endpoint.key_variable} may not do this",
            404: f"is the url right up to /chat/completions, and is there a model {self.endpoint.model!r}?",
        }.get(response.status_code, "see the server's message")
        return CaloraError(
            f"{self.endpoint.address} refused a request with status {response.status_code}: {response.text[:300]}", hint
        )


def _read(response: "Response") -> Said:
    try:
        choice = response.json()["choices"][0]
        text, cut = choice["message"]["content"], choice.get("finish_reason") == "length"
    except (ValueError, LookupError, TypeError, AttributeError):
        text, cut = None, False
    return Said(text, "answered", cut) if isinstance(text, str) else Said(None, "malformed")
