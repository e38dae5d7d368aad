"""The gateway as OpenAI's own client sees it, over a device of a tiny model."""

from collections.abc import Iterator
from typing import Any

import httpx2
import openai
import pytest

from calora.serving import Device
from calora.serving.engine import Sampling
from tests.serving.gateways import TEXT, chat, client_of, http_of, serving

COMPOSITIONS = ("summary+es", "reply+es", "reply+casual", "summary+casual")
MESSAGES: list[Any] = [{"role": "user", "content": TEXT}]
ENDPOINTS = ("/v1/chat/completions", "/v1/completions")


@pytest.fixture(scope="module")
def address(open_device: Device) -> Iterator[str]:
    with serving(open_device) as (address, _):
        yield address


@pytest.fixture(scope="module")
def client(address: str) -> Iterator[openai.OpenAI]:
    with client_of(address) as client:
        yield client


@pytest.fixture(scope="module")
def http(address: str) -> Iterator[httpx2.Client]:
    with http_of(address) as http:
        yield http


def test_every_composition_task_and_way_is_a_model(client: openai.OpenAI) -> None:
    listed = {model.id for model in client.models.list()}
    tasks = {"summary", "reply", "es", "casual"}
    ways = {f"{name}@{way}" for name in COMPOSITIONS for way in ("merge", "multi-step", "backbone")}
    assert listed == {*COMPOSITIONS, *tasks, *ways, *(f"{task}@backbone" for task in tasks)}
    assert client.models.retrieve("summary+es@merge").owned_by == "calora"


@pytest.mark.parametrize("way", ["calibrated", "merge", "multi-step", "backbone"])
@pytest.mark.parametrize("name", COMPOSITIONS)
def test_a_chat_is_what_the_device_answers(client: openai.OpenAI, open_device: Device, name: str, way: Any) -> None:
    model = name if way == "calibrated" else f"{name}@{way}"
    answer = client.chat.completions.create(model=model, messages=MESSAGES, max_tokens=12)
    expected = open_device.run(name, TEXT, way, max_tokens=12)
    choice = answer.choices[0]
    assert choice.message.content == expected.text
    assert choice.finish_reason == ("length" if expected.truncated else "stop")
    assert answer.model == model
    assert answer.usage is not None
    assert answer.usage.prompt_tokens == expected.prompt_tokens
    assert answer.usage.completion_tokens == expected.tokens
    assert answer.usage.total_tokens == expected.prompt_tokens + expected.tokens


@pytest.mark.parametrize("name", COMPOSITIONS)
def test_a_stream_is_the_same_answer(client: openai.OpenAI, open_device: Device, name: str) -> None:
    stream = client.chat.completions.create(
        model=name, messages=MESSAGES, max_tokens=12, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    expected = open_device.run(name, TEXT, max_tokens=12)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == expected.text
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-2].choices[0].finish_reason == ("length" if expected.truncated else "stop")
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == expected.tokens
    assert len({chunk.id for chunk in chunks}) == 1


def test_completions_take_the_prompt_as_the_text(client: openai.OpenAI, open_device: Device) -> None:
    expected = open_device.run("es", TEXT, max_tokens=12).text
    assert client.completions.create(model="es", prompt=TEXT, max_tokens=12).choices[0].text == expected
    stream = client.completions.create(model="es", prompt=TEXT, max_tokens=12, stream=True)
    assert "".join(chunk.choices[0].text for chunk in stream) == expected


def test_a_stream_is_server_sent_events_to_done(http: httpx2.Client) -> None:
    response = http.post(ENDPOINTS[0], json=chat(TEXT, stream=True, max_tokens=4))
    assert response.headers["content-type"].startswith("text/event-stream")
    lines = [line for line in response.text.split("\n\n") if line]
    assert all(line.startswith("data: ") for line in lines)
    assert lines[-1] == "data: [DONE]"
    assert "usage" not in response.text


def test_the_text_is_the_last_user_message_in_whatever_parts(client: openai.OpenAI, open_device: Device) -> None:
    first, second = TEXT.split("\n")
    messages: list[Any] = [
        {"role": "user", "content": "Something else."},
        {"role": "assistant", "content": "An answer.", "tool_calls": None},
        {"role": "user", "content": [{"type": "text", "text": first}, {"type": "text", "text": second}]},
    ]
    answer = client.chat.completions.create(model="summary", messages=messages, max_completion_tokens=12)
    assert answer.choices[0].message.content == open_device.run("summary", TEXT, max_tokens=12).text


def test_sampling_is_the_devices(client: openai.OpenAI, open_device: Device) -> None:
    def answer(seed: int) -> str | None:
        found = client.chat.completions.create(
            model="summary+es", messages=MESSAGES, max_tokens=12, temperature=1.5, top_p=0.9, seed=seed
        )
        return found.choices[0].message.content

    answers = [answer(seed) for seed in range(4)]
    expected = [
        open_device.run("summary+es", TEXT, max_tokens=12, sampling=Sampling(1.5, 0.9, seed)).text for seed in range(4)
    ]
    assert answers == expected
    assert len(set(answers)) > 1


def test_an_answer_ends_at_a_stop_string(client: openai.OpenAI, open_device: Device) -> None:
    whole = open_device.run("summary", TEXT, max_tokens=24).text
    stop = whole[5:8]
    for stops in (stop, [stop, "never to be found"]):
        answer = client.chat.completions.create(model="summary", messages=MESSAGES, max_tokens=24, stop=stops)
        assert answer.choices[0].message.content == whole[: whole.find(stop)].rstrip()
        assert answer.choices[0].finish_reason == "stop"


def test_fields_that_change_nothing_are_taken(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model="summary", messages=MESSAGES, max_tokens=2, user="me", metadata={"a": "b"}, store=False, n=1, tools=[]
    )
    assert answer.usage is not None


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"n": 2}, "n"),
        ({"logprobs": True}, "logprobs"),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"presence_penalty": 0.5}, "presence_penalty"),
        ({"temperature": 3}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": "many"}, "max_tokens"),
        ({"max_token": 3}, "max_token"),
        ({"stop": [""]}, "stop.0"),
        ({"stop": ["a", "b", "c", "d", "e"]}, "stop"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "user", "content": "  "}]}, "messages"),
        ({"messages": [{"role": "assistant", "content": "Hello."}]}, "messages"),
        ({"messages": [{"role": "system", "content": "Be brief."}]}, "messages.0.role"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages.0.content.0.type"),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_name(client: openai.OpenAI, fields: dict[str, Any], param: str) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(**chat(TEXT), extra_body=fields)
    assert refused.value.param == param
    assert refused.value.type == "invalid_request_error"


def test_an_answer_without_room_is_refused(client: openai.OpenAI) -> None:
    for stream in (False, True):
        with pytest.raises(openai.BadRequestError, match="of 256 that there are"):
            client.chat.completions.create(model="summary", messages=MESSAGES, max_tokens=5000, stream=stream)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "poem",
        "summary+",
        "es+summary",
        "summary@nothing",
        "summary@merge",
        "summary+es@",
        "summary+es@calibrated",
        "../../etc/passwd",
        "..",
        "/etc/passwd",
        "summary/../es",
        "%2e%2e%2f",
        "summary\x00",
        "SUMMARY",
        "{}",
        "ñ" * 5000,
    ],
)
def test_unknown_models_and_paths_are_no_models(client: openai.OpenAI, name: str) -> None:
    with pytest.raises(openai.NotFoundError) as refused:
        client.chat.completions.create(model=name, messages=MESSAGES)
    assert refused.value.code == "model_not_found"
    assert refused.value.param == "model"


@pytest.mark.parametrize("path", ["..%2f..%2fetc%2fpasswd", "%2e%2e", "a/b", "summary%00", "%ff", "summary+es@"])
def test_so_they_are_in_paths(http: httpx2.Client, path: str) -> None:
    response = http.get(f"/v1/models/{path}")
    assert response.status_code == 404
    assert set(response.json()["error"]) == {"message", "type", "param", "code"}


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"{", b"null", b"[]", b'"text"', b"\xff\xfe", b"{}", b'{"model": NaN}', b"[" * 5000, b"9" * 5000),
        b'{"model": "\\ud800"}',
        b'{"model": "es", "prompt": "\\ud800", "messages": [{"role": "user", "content": "\\udfff"}]}',
    ],
)
@pytest.mark.parametrize("path", ENDPOINTS)
def test_a_malformed_body_is_a_bad_request(http: httpx2.Client, path: str, body: bytes) -> None:
    response = http.post(path, content=body, headers={"Content-Type": "application/json"})
    assert response.status_code == 400
    assert response.json()["error"]["type"] == "invalid_request_error"


def test_half_a_character_is_refused_by_name(http: httpx2.Client) -> None:
    def ask(path: str, body: bytes) -> httpx2.Response:
        return http.post(path, content=body, headers={"Content-Type": "application/json"})

    chat = ask(ENDPOINTS[0], b'{"model": "es", "messages": [{"role": "user", "content": "hi \\ud83d"}]}')
    assert (chat.status_code, chat.json()["error"]["param"]) == (400, "messages")
    completion = ask(ENDPOINTS[1], b'{"model": "es", "prompt": "hi \\ud83d"}')
    assert (completion.status_code, completion.json()["error"]["param"]) == (400, "prompt")
    assert "half a character at 3" in completion.json()["error"]["message"]
    stop = ask(ENDPOINTS[1], b'{"model": "es", "prompt": "hi", "stop": "\\ud83d"}')
    assert (stop.status_code, stop.json()["error"]["param"]) == (400, "stop.0")


def test_a_body_that_is_not_said_to_be_json_is_refused(http: httpx2.Client) -> None:
    response = http.post(ENDPOINTS[0], content=b'{"model": "es"}', headers={"Content-Type": "text/plain"})
    assert response.status_code == 400
    assert "application/json" in response.json()["error"]["message"]


def test_unknown_paths_and_methods_are_errors_of_the_same_form(http: httpx2.Client) -> None:
    found = {method: http.request(method, ENDPOINTS[0]) for method in ("GET", "PUT", "DELETE", "PATCH")}
    found["nowhere"] = http.get("/v1/nowhere")
    assert {name: one.status_code for name, one in found.items()} == {
        **dict.fromkeys(("GET", "PUT", "DELETE", "PATCH"), 405),
        "nowhere": 404,
    }
    for one in found.values():
        assert set(one.json()["error"]) == {"message", "type", "param", "code"}
    assert found["GET"].headers["allow"] == "POST"
    assert found["GET"].json()["error"]["message"].endswith(f"{ENDPOINTS[0]} takes POST")


def test_health(http: httpx2.Client) -> None:
    assert http.get("/healthz").json() == {"status": "ok"}
