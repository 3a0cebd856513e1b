"""Refusals of the simulated engine alone, beyond the ones it shares with SGLang."""

from __future__ import annotations

import pytest

from behaviour.engine import CHAT, COMPLETIONS, EngineUnderTest
from behaviour.engine_behaviour import assert_error


@pytest.mark.parametrize("path", [CHAT, COMPLETIONS])
@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", ""])
def test_a_body_that_is_not_said_to_be_json(plain: EngineUnderTest, path: str, kind: str) -> None:
    headers = {**plain.headers, "content-type": kind}
    response = plain.client.post(plain.base_url + path, content=b"{}", headers=headers)
    assert_error(response, status=400, type="Bad Request", word="application/json")


@pytest.mark.parametrize("path", [CHAT, COMPLETIONS])
@pytest.mark.parametrize("body", [b"[]", b"7", b"null", b'"text"'])
def test_json_that_is_no_object(plain: EngineUnderTest, path: str, body: bytes) -> None:
    headers = {**plain.headers, "content-type": "application/json"}
    response = plain.client.post(plain.base_url + path, content=body, headers=headers)
    assert_error(response, status=400, type="Bad Request", word="body")


@pytest.mark.parametrize("count", [0, -1])
def test_fewer_choices_than_one(plain: EngineUnderTest, count: int) -> None:
    assert_error(plain.post(CHAT, plain.chat_body("Hello", n=count)), status=400, type="Bad Request", word="n:")


def test_a_pattern_is_more_than_it_can_follow(plain: EngineUnderTest) -> None:
    schema = {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "string", "pattern": "^x$"}}}
    refused = plain.post(CHAT, plain.chat_body("Hello", response_format=schema))
    assert_error(refused, status=400, type="BadRequestError", word="simulated engine")


def test_other_paths_and_methods(plain: EngineUnderTest) -> None:
    assert plain.get("/v1/nothing").status_code == 404
    assert plain.get(CHAT).status_code == 405
    assert plain.post("/health", {}).status_code == 405
