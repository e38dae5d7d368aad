"""Everything that goes wrong, in OpenAI's form."""

import logging
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException

from calora.errors import CaloraError
from calora.serving.engine import EngineError

logger = logging.getLogger(__name__)
GONE = 499  # the client has gone: nginx's number, seen in the metrics only


class Refusal(HTTPException):
    """A request that gets no answer.

    Args:
        status: Of HTTP.
        message: What is wrong, what was expected and how to mend it.
        code: A word for programs.
        param: The field of the request that is wrong.
        headers: Of the response.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(status, message, headers)
        self.code = code
        self.param = param

    @property
    def body(self) -> dict[str, Any]:
        """The error as JSON."""
        kind = "server_error" if self.status_code >= 500 else "invalid_request_error"
        if self.status_code == 429:
            kind = "rate_limit_error"
        return {"error": {"message": self.detail, "type": kind, "param": self.param, "code": self.code}}

    @property
    def response(self) -> JSONResponse:
        """The error as a response."""
        return JSONResponse(self.body, self.status_code, self.headers)


def refusal_of(error: BaseException) -> Refusal:
    """What to tell a client of an error while its text was answered."""
    if isinstance(error, Refusal):
        return error
    if isinstance(error, TimeoutError):
        return Refusal(504, "the answer took too long; try again, or ask for a shorter one", code="timeout")
    if isinstance(error, CaloraError) and not isinstance(error, EngineError):
        return Refusal(400, message_of(error))
    logger.error("a request failed", exc_info=error)
    return Refusal(500, "the device failed to answer; its log says why", code="device_failed")


def message_of(error: CaloraError) -> str:
    """A message and its hint in one line."""
    return f"{error}; {error.hint}" if error.hint else str(error)


def add_handlers(app: FastAPI) -> None:
    """Answer every error of an app in OpenAI's form."""

    async def http(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        return (error if isinstance(error, Refusal) else _plain(request, error)).response

    async def invalid(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        return _invalid(error.errors()[0]).response

    async def failed(request: Request, error: Exception) -> JSONResponse:
        return Refusal(500, "the gateway failed; its log says why", code="gateway_failed").response

    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(Exception, failed)


def _plain(request: Request, error: HTTPException) -> Refusal:
    """The router's own errors, and those of a body that cannot be read."""
    where = f"{request.method} {request.url.path}"
    messages = {
        404: f"there is no {request.url.path}; see /v1/models and /v1/chat/completions",
        405: f"{where} is not possible; {request.url.path} takes {Headers(error.headers).get('allow')}",
    }
    return Refusal(error.status_code, messages.get(error.status_code, str(error.detail)), headers=error.headers)


def _invalid(error: Mapping[str, Any]) -> Refusal:
    """The first error of a request that does not fit its model."""
    place = [str(part) for part in error["loc"] if part not in ("body", "path", "query")]
    kind, where = error["type"], ".".join(place)
    if kind == "json_invalid":
        return Refusal(400, f"the body is not JSON: {error['ctx']['error']} at character {place[0]}")
    if not where:
        return Refusal(400, "the body is no JSON object; send one, with Content-Type: application/json")
    if kind == "missing":
        return Refusal(400, f"{where} is missing", param=where, code="missing_required_parameter")
    if kind == "extra_forbidden":
        return Refusal(400, f"{where} is unknown here; check its spelling", param=where, code="unknown_parameter")
    message = error["msg"].removeprefix("Value error, ")
    return Refusal(400, f"{where}: {message[:1].lower()}{message[1:]}", param=where, code="invalid_value")
