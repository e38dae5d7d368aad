"""What goes back over the wire; streams are the same in parts."""

from typing import Literal

from pydantic import BaseModel

from calora.serving.engine import End


class Usage(BaseModel):
    """Tokens, over all passes of an answer."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class ChatMessage(BaseModel):
    """An answer in a chat."""

    role: Literal["assistant"]
    content: str
    refusal: None = None


class ChatChoice(BaseModel):
    """The one choice that there is."""

    index: Literal[0]
    message: ChatMessage
    logprobs: None = None
    finish_reason: End


class ChatCompletion(BaseModel):
    """Of `/v1/chat/completions`."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[ChatChoice]
    usage: Usage


class CompletionChoice(BaseModel):
    """The one choice that there is."""

    index: Literal[0]
    text: str
    logprobs: None = None
    finish_reason: End


class Completion(BaseModel):
    """Of `/v1/completions`."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: Usage


class Error(BaseModel):
    """What is wrong."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(BaseModel):
    """An error."""

    error: Error


class ModelCard(BaseModel):
    """A composition or a task."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: Literal["calora"] = "calora"


class ModelList(BaseModel):
    """All that can be asked for."""

    object: Literal["list"] = "list"
    data: list[ModelCard]


class Reloaded(BaseModel):
    """The bundle as it is served now.

    Args:
        models: What can be asked for.
        left_out: Composition to the reason why it cannot.
    """

    object: Literal["bundle"] = "bundle"
    models: list[str]
    left_out: dict[str, str]


class Health(BaseModel):
    """The gateway takes requests."""

    status: Literal["ok"] = "ok"
