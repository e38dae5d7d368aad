"""Requests that nobody thought of: schemathesis over the gateway's own OpenAPI page.

For longer: GATEWAY_EXAMPLES=500 pytest tests/serving/test_gateway_schema.py
"""

import os
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis.specs.openapi.checks import positive_data_acceptance

from calora.serving import Device
from calora.serving.gateway import Settings
from tests.serving.gateways import PATIENCE, TEXT, serving

EXAMPLES = int(os.environ.get("GATEWAY_EXAMPLES", "15"))
POSTS = {"/v1/chat/completions": {"messages": [{"role": "user", "content": TEXT}]}, "/v1/completions": {"prompt": TEXT}}
GETS = ("/healthz", "/metrics", "/v1/models", "/v1/playground", "/v1/models/{model}")
# A text of few characters can have more tokens than the tiny context: its beginning is cut, and that is said.
pytestmark = pytest.mark.filterwarnings("ignore:the text has")


@pytest.fixture(scope="module")
def api(open_device: Device) -> Iterator[Any]:
    with serving(open_device, Settings(seconds=PATIENCE)) as (address, _):
        yield schemathesis.openapi.from_url(f"{address}/openapi.json")


def hold(api: Any, path: str, method: str, mode: schemathesis.GenerationMode) -> None:
    """Ask often, for a model of the bundle half of the time; every answer has to be one that the page allows."""

    @settings(max_examples=EXAMPLES, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(api[path][method].as_strategy(mode), st.booleans())
    def holds(case: schemathesis.Case, known: bool) -> None:
        if known and isinstance(case.body, dict) and isinstance(case.body.get("model"), str):
            case.body["model"] = "summary+es"
            if isinstance(case.body.get("messages"), list) and mode == schemathesis.GenerationMode.POSITIVE:
                case.body["messages"].append({"role": "user", "content": TEXT})
        # No schema can say that a text is not only space, or that an answer is no longer than the context.
        case.call_and_validate(excluded_checks=[positive_data_acceptance], timeout=PATIENCE)

    holds()


def test_the_page_tells_all_routes(api: Any) -> None:
    assert set(api) == {*POSTS, *GETS, "/v1/bundle/reload"}


@pytest.mark.parametrize("mode", list(schemathesis.GenerationMode))
@pytest.mark.parametrize("path", POSTS)
def test_whatever_is_asked_is_answered(api: Any, path: str, mode: schemathesis.GenerationMode) -> None:
    hold(api, path, "POST", mode)


@pytest.mark.parametrize("path", POSTS)
def test_a_stream_is_as_the_page_says(api: Any, path: str) -> None:
    body = {"model": "summary+es", "max_tokens": 4, "stream": True} | POSTS[path]
    api[path]["POST"].Case(body=body, media_type="application/json").call_and_validate(timeout=PATIENCE)


@pytest.mark.parametrize("path", GETS)
def test_whatever_is_looked_up_is_answered(api: Any, path: str) -> None:
    hold(api, path, "GET", schemathesis.GenerationMode.POSITIVE)
