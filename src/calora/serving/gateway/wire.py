"""What comes over the wire: requests as OpenAI's clients send them.

A field that would change the answer is honoured or refused by name; one that changes nothing is taken and not looked
at; any other is a slip of the pen, and refused.
"""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from calora.serving.device import MAX_TOKENS
from calora.serving.engine import Sampling

_SEEDS = 2**32 - 1  # llama.cpp takes 32 bits, and the highest of them as no seed


def _only(*values: Any) -> Any:
    """A field that may be given where it asks for nothing."""

    def check(value: Any) -> Any:
        if value is None or value in values:
            return value
        allowed = " or ".join(repr(one) for one in values) or "null"
        raise ValueError(f"is not supported; leave it out, or give {allowed}")

    return Annotated[Any, AfterValidator(check), WithJsonSchema({"enum": [None, *values]})]


def _parts(value: Any) -> Any:
    return [{"type": "text", "text": value}] if isinstance(value, str) else value


def _stops(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _role(value: Any) -> Any:
    if value in ("system", "developer"):
        raise ValueError("there are no system messages here; the model's name says what is done to the user's text")
    return value


class TextPart(BaseModel):
    """A part of a message."""

    model_config = ConfigDict(strict=True, extra="forbid")

    type: Literal["text"]
    text: str


_Content = Annotated[list[TextPart], BeforeValidator(_parts, json_schema_input_type=str | list[TextPart])]
_Stop = Annotated[str, Field(min_length=1)]
_StopList = Annotated[list[_Stop], Field(max_length=4)]


class Message(BaseModel):
    """A message; of all, only the content of the last user's is read, so other fields are not looked at."""

    model_config = ConfigDict(strict=True)

    role: Annotated[
        Literal["user", "assistant"], BeforeValidator(_role, json_schema_input_type=Literal["user", "assistant"])
    ]
    content: _Content | None = None


class StreamOptions(BaseModel):
    """How to stream."""

    model_config = ConfigDict(strict=True, extra="forbid")

    include_usage: bool | None = None
    include_obfuscation: _only(False) = None  # type: ignore[valid-type]


class _Request(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    model: str = Field(description="A composition or a task, as /v1/models lists them.")
    max_tokens: Annotated[int, Field(ge=1)] | None = Field(None, description=f"Of one pass; {MAX_TOKENS} if left out.")
    temperature: Annotated[float, Field(ge=0, le=2)] | None = Field(None, description="0 if left out: the likeliest.")
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    seed: int | None = None
    stop: Annotated[_StopList, BeforeValidator(_stops, json_schema_input_type=_Stop | _StopList)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None

    user: Any = None
    metadata: Any = None
    store: Any = None
    service_tier: Any = None
    safety_identifier: Any = None
    prompt_cache_key: Any = None
    prompt_cache_retention: Any = None

    n: _only(1) = None  # type: ignore[valid-type]
    logprobs: _only(False) = None  # type: ignore[valid-type]
    logit_bias: _only({}) = None  # type: ignore[valid-type]
    presence_penalty: _only(0) = None  # type: ignore[valid-type]
    frequency_penalty: _only(0) = None  # type: ignore[valid-type]

    @property
    def tokens(self) -> int:
        """The most to generate."""
        return self.max_tokens or MAX_TOKENS

    @property
    def sampling(self) -> Sampling:
        """How to choose tokens."""
        seed = None if self.seed is None else self.seed % _SEEDS
        return Sampling(self.temperature or 0.0, 1.0 if self.top_p is None else self.top_p, seed)

    @property
    def with_usage(self) -> bool:
        """Whether a stream ends with the tokens used."""
        return bool(self.stream_options and self.stream_options.include_usage)


class ChatRequest(_Request):
    """A request to `/v1/chat/completions`."""

    messages: list[Message] = Field(min_length=1, description="The last user message holds the text; others do not.")
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None

    top_logprobs: _only(0) = None  # type: ignore[valid-type]
    tools: _only([]) = None  # type: ignore[valid-type]
    tool_choice: _only("none", "auto") = None  # type: ignore[valid-type]
    parallel_tool_calls: Any = None
    functions: _only([]) = None  # type: ignore[valid-type]
    function_call: _only("none", "auto") = None  # type: ignore[valid-type]
    response_format: _only({"type": "text"}) = None  # type: ignore[valid-type]
    modalities: _only(["text"]) = None  # type: ignore[valid-type]
    audio: _only() = None  # type: ignore[valid-type]
    prediction: _only() = None  # type: ignore[valid-type]
    web_search_options: _only() = None  # type: ignore[valid-type]
    reasoning_effort: _only("none") = None  # type: ignore[valid-type]
    verbosity: _only() = None  # type: ignore[valid-type]

    @property
    def tokens(self) -> int:
        """The most to generate."""
        return self.max_completion_tokens or super().tokens

    @property
    def text(self) -> str:
        """The last user message."""
        for message in reversed(self.messages):
            if message.role == "user":
                return "\n".join(part.text for part in message.content or [])
        return ""


class CompletionRequest(_Request):
    """A request to `/v1/completions`."""

    prompt: str = Field(description="The text.")

    best_of: _only(1) = None  # type: ignore[valid-type]
    echo: _only(False) = None  # type: ignore[valid-type]
    suffix: _only("") = None  # type: ignore[valid-type]

    @property
    def text(self) -> str:
        """The prompt."""
        return self.prompt
