"""Where requests go, with real replicas that fail, return, leave and lose their Redis."""

from __future__ import annotations

import json
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from redis import Redis

from pointsman.contracts.names import Header, StateFile
from support.gateway import FAST, SECRET, Engine, Gateway, events, wait_for

CHAT = "/v1/chat/completions"


def pool(**changes: Any) -> dict[str, Any]:
    """The fast pool with some fields changed; those of the simulated engine under `simulated`."""
    simulated = {**FAST["engine_args"]["simulated"], **changes.pop("simulated", {})}
    return {**FAST, "health_interval": 0.5, **changes, "engine_args": {"simulated": simulated}}


def question(text: str, *earlier: dict[str, str], **fields: Any) -> dict[str, Any]:
    messages = [*earlier, {"role": "user", "content": text}]
    return {"model": "smollm2:no_think", "messages": messages, **fields}


def order(engine: Engine, **what: Any) -> None:
    """Order faults of the engine that last."""
    headers = {Header.REPLICA_SECRET: SECRET}
    httpx.post(f"{engine.url}/simulated/faults", json=what, headers=headers).raise_for_status()


def counts(gateway: Gateway) -> list[int]:
    """How many requests each replica has got."""
    return [len(engine.received()) for engine in gateway.engines["fast"]]


def of_pool(gateway: Gateway) -> dict[str, Any]:
    state: dict[str, Any] = gateway.readyz()["pools"]["fast"]
    return state


def all_healthy(gateway: Gateway, count: int) -> None:
    wait_for(lambda: of_pool(gateway)["healthy"] == count, f"{count} replicas to be used", gateway.router)


def test_a_conversation_stays_where_its_prefix_is_cached(folder: Path) -> None:
    with Gateway(folder, pools=[pool()], copies={"fast": 3}) as gateway, gateway.client() as client:
        all_healthy(gateway, 3)
        for conversation in range(12):
            before = counts(gateway)
            turns: list[dict[str, str]] = []
            cached = 0
            for turn in range(3):
                asked = f"conversation {conversation}: " + "tell me more about railways and points " * 4
                answer = client.post(CHAT, json=question(asked, *turns)).raise_for_status().json()
                cached += answer["usage"]["prompt_tokens_details"]["cached_tokens"]
                turns += [
                    {"role": "user", "content": asked},
                    {"role": "assistant", "content": answer["choices"][0]["message"]["content"]},
                ]
                gained = [now - then for now, then in zip(counts(gateway), before, strict=True)]
                assert sorted(gained) == [0, 0, turn + 1]
            assert cached > 0
        assert all(counts(gateway))  # other conversations are elsewhere


def test_a_replica_that_fails_everything_rests_and_comes_back(folder: Path) -> None:
    quick = pool(simulated={"decode_speed": 4000, "answer_tokens": 2})
    with Gateway(folder, pools=[quick], copies={"fast": 2}) as gateway, gateway.client() as client:
        all_healthy(gateway, 2)
        sick, _ = gateway.engines["fast"]
        order(sick, rates={"die": 1.0})
        for number in range(40):
            assert client.post(CHAT, json=question(f"q{number}")).status_code == 200
            if (circuits := of_pool(gateway)["circuits"])["open"]:
                break
        assert circuits == {"closed": 1, "open": 1, "half_open": 0}
        got = len(sick.received())
        assert 3 <= got <= 6
        for number in range(20):
            assert client.post(CHAT, json=question(f"r{number}")).status_code == 200
            again = len(sick.received())
            if not of_pool(gateway)["circuits"]["open"]:  # the rest is over
                break
            assert again == got
        order(sick, rates={})
        wait_for(lambda: of_pool(gateway)["circuits"]["half_open"] == 1, "the rest to be over", gateway.router)
        wait_for(
            lambda: (
                client.post(CHAT, json=question(f"s{time.monotonic()}")).status_code == 200
                and of_pool(gateway)["circuits"]["closed"] == 2
            ),
            "a request to close the circuit",
            gateway.router,
        )
        assert len(sick.received()) > got
        wait_for(lambda: gateway.total("pointsman_resting_replicas", pool="fast") == 0, "the gauge to follow")


def test_one_slow_answer_rests_nobody(folder: Path) -> None:
    quick = pool(answer_timeout=2.0, first_byte_timeout=2.0)
    with Gateway(folder, pools=[quick]) as gateway, gateway.client() as client, ThreadPoolExecutor() as threads:
        engine = gateway.engines["fast"][0]
        engine.faults({"kind": "hang", "times": 1})
        slow = threads.submit(client.post, CHAT, json=question("slow"))
        wait_for(lambda: len(engine.received()) == 1, "the slow one to arrive")
        meanwhile = 0
        while not slow.done():
            assert client.post(CHAT, json=question("quick")).status_code == 200
            meanwhile += 1
        assert meanwhile >= 3  # none was held up by the slow one
        assert slow.result().status_code == 504
        assert client.post(CHAT, json=question("quick")).status_code == 200
        assert of_pool(gateway)["circuits"]["open"] == 0


@pytest.mark.parametrize("external", [False, True])
def test_health_checks_take_a_replica_out_and_bring_it_back(folder: Path, external: bool) -> None:
    with Gateway(folder, pools=[pool()], copies={"fast": 2}) as inner:
        all_healthy(inner, 2)
        if external:
            urls = [engine.url for engine in inner.engines["fast"]]
            outer_folder = folder / "outer"
            outer_folder.mkdir()
            theirs = {
                name: value for name, value in pool(urls=urls, engine="openai").items() if name != "engine_args"
            }
            with Gateway(outer_folder, pools=[theirs]) as outer:
                all_healthy(outer, 2)
                goes_and_comes(outer, inner.engines["fast"])
        else:
            goes_and_comes(inner, inner.engines["fast"])


def goes_and_comes(gateway: Gateway, engines: list[Engine]) -> None:
    sick, well = engines
    order(sick, healthy=False)
    wait_for(lambda: of_pool(gateway)["healthy"] == 1, "the sick one to be taken out")
    if gateway.engines:  # the registered ones know the secret of this gateway
        got = len(sick.received())
        with gateway.client() as client:
            for number in range(10):
                assert client.post(CHAT, json=question(f"q{number}")).status_code == 200
        assert len(sick.received()) == got
        assert len(well.received()) == 10
    order(sick, healthy=True)
    wait_for(lambda: of_pool(gateway)["healthy"] == 2, "it to be brought back")


def test_a_replica_that_stops_in_order_finishes_its_streams_and_gets_nothing_more(folder: Path) -> None:
    slow = pool(
        simulated={"decode_speed": 20, "answer_tokens": 80}
    )  # four seconds, of the five that an engine has to finish
    with Gateway(folder, pools=[slow], copies={"fast": 2}) as gateway:
        all_healthy(gateway, 2)
        begun = threading.Barrier(9)

        def stream(number: int) -> tuple[int, list[Any]]:
            with (
                gateway.client() as client,
                client.stream("POST", CHAT, json=question(f"s{number}", stream=True)) as answer,
            ):
                pieces = answer.iter_text()
                text = next(pieces)
                begun.wait(60)
                return answer.status_code, events(text + "".join(pieces))

        with ThreadPoolExecutor(9) as threads, gateway.client() as client:
            streams = [threads.submit(stream, number) for number in range(8)]
            begun.wait(60)
            staying, leaving = sorted(gateway.engines["fast"], key=lambda engine: engine.running())
            assert leaving.running() >= 4
            got = len(staying.received())
            leaving.process.popen.send_signal(signal.SIGTERM)
            wait_for(lambda: of_pool(gateway)["replicas"] == 1, "the router to see it leave")
            more = [threads.submit(client.post, CHAT, json=question(f"m{number}")) for number in range(8)]
            for future in streams:
                status, parts = future.result(90)
                assert (status, parts[-1]) == (200, "[DONE]")
                assert not [part for part in parts[:-1] if "error" in part]
            assert {future.result(90).status_code for future in more} == {200}
            assert len(staying.received()) == got + 8
        assert gateway.total("pointsman_upstream_retries_total") == 0


def test_a_router_that_starts_while_redis_is_away_finds_its_replicas(folder: Path) -> None:
    with Gateway(folder, pools=[pool()], copies={"fast": 2}) as gateway:
        all_healthy(gateway, 2)
        file = gateway.state / StateFile.LAST_KNOWN
        wait_for(lambda: len(json.loads(file.read_bytes())["replicas"]) == 2, "the list to be written")
        assert file.stat().st_mode & 0o777 == 0o600
        gateway.valkey.stop(signal.SIGKILL)
        gateway.engines["fast"][1].process.stop(signal.SIGKILL)
        gateway.router.stop(signal.SIGTERM)
        gateway.start_router()
        wait_for(lambda: gateway.startupz() == 200, "the router to start", gateway.router)
        with gateway.client() as client:
            for number in range(6):
                assert client.post(CHAT, json=question(f"q{number}")).status_code == 200
        all_healthy(gateway, 1)
        state = gateway.readyz()
        assert state["status"] == "degraded"
        assert "redis" in state["missing"]
        assert (state["pools"]["fast"]["replicas"], state["pools"]["fast"]["healthy"]) == (2, 1)
        gateway.start_valkey()
        wait_for(lambda: gateway.readyz()["status"] == "ready", "Redis to be seen again", gateway.router)
        wait_for(lambda: of_pool(gateway)["replicas"] == 1, "the dead one to be forgotten", gateway.router)


def test_a_redis_that_is_emptied_costs_no_request(folder: Path) -> None:
    with Gateway(folder, pools=[pool()], copies={"fast": 2}) as gateway, gateway.client() as client:
        all_healthy(gateway, 2)
        redis = Redis(unix_socket_path=f"{gateway.folder}/valkey.sock")
        for engine in gateway.engines["fast"]:
            engine.process.popen.send_signal(signal.SIGSTOP)  # so that nobody registers again for now
        redis.flushall()
        time.sleep(1.0)  # the router reads twice a second
        for engine in gateway.engines["fast"]:
            engine.process.popen.send_signal(signal.SIGCONT)
        began = time.monotonic()
        for number in range(20):
            assert client.post(CHAT, json=question(f"q{number}")).status_code == 200
        assert time.monotonic() - began < 40
        wait_for(lambda: of_pool(gateway)["healthy"] == 2, "both to be used again", gateway.router)
        wait_for(lambda: "lost its registration" in gateway.router.output(), "a word of it", gateway.router)


def test_a_redis_that_hangs_holds_up_neither_requests_nor_health_checks(folder: Path) -> None:
    with Gateway(folder, pools=[pool()], copies={"fast": 2}) as gateway, gateway.client() as client:
        all_healthy(gateway, 2)
        gateway.valkey.popen.send_signal(signal.SIGSTOP)
        times = []
        for number in range(100):
            began = time.monotonic()
            assert client.post(CHAT, json=question(f"q{number}", max_tokens=1)).status_code == 200
            times.append(time.monotonic() - began)
        assert sorted(times)[-2] < 1.5  # Redis itself is given up after 2 s
        wait_for(lambda: "redis" in gateway.readyz()["missing"], "the loss to be noticed")
        gateway.engines["fast"][0].process.stop(signal.SIGKILL)
        wait_for(lambda: of_pool(gateway)["healthy"] == 1, "the dead one to be taken out")
        gateway.valkey.popen.send_signal(signal.SIGCONT)
        wait_for(lambda: gateway.readyz()["status"] == "ready", "Redis to be seen again", gateway.router)


def test_those_that_wait_are_answered_in_the_order_in_which_they_came(folder: Path) -> None:
    narrow = pool(max_ongoing_requests=1, max_waiting=5, simulated={"decode_speed": 100, "answer_tokens": 800})
    with Gateway(folder, pools=[narrow]) as gateway, ThreadPoolExecutor(8) as threads, gateway.client() as client:
        engine = gateway.engines["fast"][0]
        asked = [threads.submit(client.post, CHAT, json=question("number 0"))]
        wait_for(lambda: len(engine.received()) == 1, "the long one to arrive")
        for number in range(1, 6):
            asked.append(threads.submit(client.post, CHAT, json=question(f"number {number}", max_tokens=5)))
            wait_for(lambda number=number: of_pool(gateway)["waiting"] == number, "it to wait")
        refused = client.post(CHAT, json=question("one too many"))
        assert not asked[0].done()  # it was refused at once
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "pool_unavailable")
        assert int(refused.headers["retry-after"]) > 0
        assert {future.result(90).status_code for future in asked} == {200}
        received = [item["body"]["messages"][0]["content"] for item in engine.received()]
        assert received == [f"number {number}" for number in range(6)]
