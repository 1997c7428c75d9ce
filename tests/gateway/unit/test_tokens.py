"""Providers that want a token: asked for once, kept while it is good, and read by nobody."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from structlog.testing import capture_logs

from providers import services
from providers.call import UpstreamRequest, Verdict
from providers.secret_form import parts_of, written
from providers.snapshot import CredentialSpec, TargetSpec
from providers.transport import TransportFault
from tenants.keys import Mode
from tests.gateway.unit.rig import FOREVER, Client, Reply, Rig, data_provider, route, whole
from tests.loops import eventually, on_loop

SEARCH = "music.search"
PATH = "/api/v1/music/search?q=x"
ONE = written({"client_id": "client-one", "client_secret": "hush-one"})
TWO = written({"client_id": "client-two", "client_secret": "hush-two"})
SONGS = {"tracks": {"items": [], "total": 0}}
EXPIRED = {"error": {"status": 401, "message": "The access token expired: tok-2"}}


@pytest.fixture(autouse=True)
def drained(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    written_down: list[Any] = []
    monkeypatch.setattr(services, "drain_credential", lambda **told: written_down.append(told))
    return written_down


def named(secret: str) -> CredentialSpec:
    return CredentialSpec("crd_" + parts_of(secret)["client_id"], secret)


class Spotify:
    """Its token endpoint and its API. `tokens` and `answers` script them, call by call."""

    def __init__(self, rig: Rig, *secrets: str) -> None:
        spec = replace(
            data_provider("spotify"), secrets={None: tuple(map(named, secrets or (ONE,)))}
        )
        rig.serve(route(TargetSpec(spec), operation=SEARCH, name=SEARCH))
        rig.upstreams.script = self.script
        self.asked: list[UpstreamRequest] = []
        self.tokens: list[Callable[[], Any]] = []
        self.answers: list[Callable[[], Any]] = []
        self.bearers: list[str] = []

    def script(self, request: UpstreamRequest) -> Any:
        if request.url.endswith("/api/token"):
            self.asked.append(request)
            number = len(self.asked)
            given = lambda: whole({"access_token": f"tok-{number}", "expires_in": 1000})  # noqa: E731
            return (self.tokens.pop(0) if self.tokens else given)()
        self.bearers.append(request.headers["authorization"])
        return self.answers.pop(0)() if self.answers else whole(SONGS)

    @property
    def clients(self) -> list[str]:
        pairs = [request.headers["authorization"].partition(" ")[2] for request in self.asked]
        return [base64.b64decode(pair).decode().partition(":")[0] for pair in pairs]


async def search(rig: Rig) -> Client:
    return await rig.ask(PATH)


@on_loop
async def test_a_token_is_asked_for_once_and_kept_for_nine_tenths_of_its_life(rig: Rig) -> None:
    spotify = Spotify(rig)
    for _ in range(3):
        assert (await search(rig)).status == 200
    assert spotify.asked[0].url == "https://accounts.spotify.com/api/token"
    assert spotify.bearers == ["Bearer tok-1"] * 3
    rig.clock.advance(899)
    await search(rig)
    assert len(spotify.asked) == 1
    rig.clock.advance(2)
    await search(rig)
    assert spotify.bearers[-1] == "Bearer tok-2"


@on_loop
async def test_calls_at_the_same_time_wait_for_one_token(rig: Rig) -> None:
    spotify = Spotify(rig)
    answers = await asyncio.gather(*(search(rig) for _ in range(20)))
    assert {answer.status for answer in answers} == {200}
    assert len(spotify.asked) == 1


@on_loop
async def test_a_caller_that_leaves_takes_the_token_from_nobody(rig: Rig) -> None:
    spotify = Spotify(rig)
    first, second = asyncio.create_task(search(rig)), asyncio.create_task(search(rig))
    await eventually(lambda: spotify.asked)
    first.cancel()
    assert (await second).status == 200
    assert len(spotify.asked) == 1


@on_loop
async def test_each_credential_has_its_own(rig: Rig) -> None:
    spotify = Spotify(rig, ONE, TWO)
    for _ in range(4):
        await search(rig)
    assert spotify.clients == ["client-one", "client-two"]
    assert spotify.bearers == ["Bearer tok-1", "Bearer tok-2"] * 2


@on_loop
async def test_a_new_secret_of_the_same_credential_gets_a_new_token(rig: Rig) -> None:
    spotify = Spotify(rig)
    await search(rig)
    again = Spotify(rig, TWO)
    await search(rig)
    assert (spotify.clients, again.clients) == (["client-one"], ["client-two"])


@on_loop
async def test_a_token_that_is_taken_back_is_replaced_within_the_call(rig: Rig) -> None:
    spotify = Spotify(rig)
    await search(rig)
    spotify.answers = [lambda: whole(EXPIRED, 401)]
    client = await search(rig)
    assert client.status == 200
    assert spotify.bearers == ["Bearer tok-1", "Bearer tok-1", "Bearer tok-2"]
    assert [each["outcome"] for each in client.json["meta"]["attempts"]] == ["ok"]
    assert all(reply.closed for reply in rig.upstreams.replies)


@on_loop
async def test_a_second_refusal_drains_the_credential_and_tells_no_token(
    rig: Rig, drained: list[Any]
) -> None:
    spotify = Spotify(rig, ONE, TWO)
    spotify.answers = [lambda: whole(EXPIRED, 401)] * 2
    with capture_logs() as lines:
        client = await search(rig)
    assert client.status == 200
    assert spotify.clients == ["client-one", "client-one", "client-two"]
    assert [a.verdict for a in rig.final.attempts] == ["auth", "ok"]
    await eventually(lambda: drained)
    assert drained[0]["reason"] == "401: The access token expired: [redacted]"
    assert "hush" not in str(lines)
    assert "tok-2" not in str(lines)


@pytest.mark.parametrize(
    ("reply", "verdict"),
    [
        (lambda: whole({"error": "invalid_client"}, 400), Verdict.AUTH),
        (lambda: whole({"error": "invalid_client", "x": "hush-one"}, 401), Verdict.AUTH),
        (lambda: whole({"error": "slow_down"}, 429), Verdict.RATE_LIMITED),
    ],
)
@on_loop
async def test_a_client_that_is_refused_makes_way_for_the_next_credential(
    rig: Rig, drained: list[Any], reply: Callable[[], Reply], verdict: Verdict
) -> None:
    spotify = Spotify(rig, ONE, TWO)
    spotify.tokens = [reply]
    client = await search(rig)
    assert client.status == 200
    assert spotify.clients == ["client-one", "client-two"]
    assert [a.verdict for a in rig.final.attempts] == [verdict, "ok"]
    await search(rig)
    assert spotify.bearers == ["Bearer tok-2"] * 2
    if verdict is Verdict.AUTH:
        await eventually(lambda: drained)
        assert "hush" not in drained[0]["reason"]
    assert len(drained) == (verdict is Verdict.AUTH)


@pytest.mark.parametrize(
    "reply",
    [
        lambda: whole({}, 503),
        lambda: TransportFault(Verdict.UNREACHABLE, "refused"),
        lambda: TransportFault(Verdict.TIMEOUT, "slow"),
        lambda: Reply([TransportFault(Verdict.UNREACHABLE, "broken off")]),
    ],
)
@on_loop
async def test_a_token_endpoint_that_is_down_is_the_providers_fault(
    rig: Rig, drained: list[Any], reply: Callable[[], Any]
) -> None:
    spotify = Spotify(rig)
    spotify.tokens = [reply]
    client = await search(rig)
    assert [each["outcome"] for each in client.error["attempts"]] == ["upstream_unavailable"]
    assert (client.status, spotify.bearers, drained) == (503, [], [])
    assert (await search(rig)).status == 200


@on_loop
async def test_a_token_endpoint_that_hangs_is_given_up(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.tokens.LONGEST", 0.02)
    spotify = Spotify(rig)
    spotify.tokens = [lambda: Reply([FOREVER])]
    client = await search(rig)
    assert [each["outcome"] for each in client.error["attempts"]] == ["upstream_unavailable"]
    assert rig.upstreams.replies[0].closed
    assert (await search(rig)).status == 200


@on_loop
async def test_a_call_waits_for_a_token_no_longer_than_its_deadline(rig: Rig) -> None:
    spotify = Spotify(rig)
    spotify.tokens = [lambda: Reply([FOREVER])]
    client = await rig.ask(PATH, headers={"x-patchbay-deadline-ms": "30"})
    assert (client.status, client.error["code"]) == (504, "deadline_exceeded")


@on_loop
async def test_in_test_mode_the_sandbox_gives_it_out(rig: Rig) -> None:
    spotify = Spotify(rig)
    client = await rig.ask(PATH, key=rig.callers.add(mode=Mode.TEST))
    assert client.status == 200
    assert [request.url for request in spotify.asked] == ["http://sandbox.test/spotify/api/token"]
    assert spotify.clients == ["sandbox-secret"]
