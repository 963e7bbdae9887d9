"""The client over real HTTP: what it repeats, what it never repeats, and what it says when something is wrong."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar
from uuid import UUID, uuid4

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from adinsights_orchestration.ingestion.airbyte_api import AirbyteApi, api_factory
from adinsights_orchestration.ingestion.airbyte_auth import TokenShelf
from adinsights_orchestration.ingestion.airbyte_errors import (
    AirbyteDownError,
    AirbyteError,
    ForbiddenError,
    InvalidRequestError,
    MalformedReplyError,
    NoReplyError,
    NotAirbyteError,
    NotFoundError,
    RateLimitedError,
    ServerError,
    StateConflictError,
    SyncAlreadyRunningError,
    UnauthorizedError,
    from_reply,
)
from adinsights_orchestration.ingestion.airbyte_models import JobStatus, JobType
from adinsights_orchestration.local.airbyte.auth import Gate
from adinsights_orchestration.local.airbyte.model import ConnectionStatus
from adinsights_orchestration.local.serving import running
from adinsights_orchestration.settings import AirbyteSettings
from tests.conftest import HANG_SECONDS, free_port
from tests.ingestion.support import airbyte_settings, secret
from tests.local.airbyte_support import START, AirbyteServer, airbyte_server

T = TypeVar("T")
ANY = uuid4()
JOB = {"jobId": 1, "status": "running", "jobType": "sync", "startTime": "2026-11-23T03:00Z", "connectionId": str(ANY)}


@pytest.fixture
def airbyte() -> Iterator[AirbyteServer]:
    with airbyte_server() as server:
        yield server


def ask(settings: AirbyteSettings, work: Callable[[AirbyteApi], Awaitable[T]], patience: float = 5.0) -> T:
    """Runs calls on a client of their own."""

    async def run() -> T:
        async with AirbyteApi(settings, read_deadline_seconds=patience) as api:
            return await work(api)

    return asyncio.run(run())


@contextmanager
def scripted(*replies: Callable[[Request], Response]) -> Iterator[tuple[str, list[str]]]:
    """A server that gives these replies in turn, the last one for ever; yields its URL and what it was asked."""
    asked: list[str] = []

    async def answer(request: Request) -> Response:
        asked.append(f"{request.method} {request.url.path}")
        await request.body()
        return replies[min(len(asked), len(replies)) - 1](request)

    methods = ["GET", "POST", "PATCH", "DELETE"]
    with running(Starlette(routes=[Route("/{rest:path}", answer, methods=methods)])) as url:
        yield url, asked


def reply(status: int, body: Any, **headers: str) -> Callable[[Request], Response]:
    return lambda _: JSONResponse(body, status_code=status, headers=headers)


# ----------------------------------------------------------------------------------------------------- what is repeated


def test_a_read_survives_an_outage_shorter_than_its_patience() -> None:
    broken = reply(503, {"message": "no"})
    with scripted(broken, lambda _: HTMLResponse("<html>502</html>", 502), reply(200, JOB)) as (url, asked):
        job = ask(airbyte_settings(url), lambda api: api.job(1))
    assert job.status is JobStatus.RUNNING
    assert len(asked) == 3


def test_a_read_gives_up_after_its_patience_with_the_last_error() -> None:
    with scripted(reply(500, {"message": "boom"})) as (url, asked), pytest.raises(ServerError, match="boom"):
        ask(airbyte_settings(url), lambda api: api.job(1), patience=3.0)
    assert 2 <= len(asked) <= 8


def test_what_is_wrong_for_good_is_not_repeated() -> None:
    gone = reply(404, {"title": "resource-not-found", "detail": "gone"})
    with scripted(gone) as (url, asked), pytest.raises(NotFoundError):
        ask(airbyte_settings(url), lambda api: api.job(1))
    assert len(asked) == 1


@pytest.mark.parametrize(
    "answer",
    [
        reply(500, {"message": "boom"}),
        reply(429, {"message": "You are being rate limited."}),
        reply(401, {"message": "Unauthorized"}),
        lambda _: HTMLResponse("<html><title>502 Bad Gateway</title></html>", 502),
        reply(409, {"title": "try-again-later", "detail": "no"}),
    ],
)
def test_a_start_is_sent_once_whatever_the_answer(answer: Callable[[Request], Response]) -> None:
    settings = {"client_id": "app", "client_secret": secret("a-client-secret")}
    token = reply(200, {"access_token": "token-1", "expires_in": 900})
    with scripted(token, answer) as (url, asked), pytest.raises(AirbyteError):
        ask(airbyte_settings(url, **settings), lambda api: api.start(ANY, JobType.SYNC))
    assert [line for line in asked if line.endswith("/jobs")] == ["POST /api/public/v1/jobs"]


def test_a_timed_out_post_is_never_sent_twice(airbyte: AirbyteServer) -> None:
    airbyte.set("post_slow_ms", 6000)
    settings = airbyte_settings(airbyte.url, request_timeout_seconds=2.0)
    with pytest.raises(NoReplyError) as caught:
        ask(settings, lambda api: api.start(airbyte.connection.id, JobType.SYNC))
    assert not caught.value.nothing_happened
    assert len(list(airbyte.world.jobs)) == 1


def test_a_lost_reply_leaves_open_whether_the_sync_began(airbyte: AirbyteServer) -> None:
    airbyte.set("post_lost_reply_next", 1)
    with pytest.raises(NoReplyError) as caught:
        ask(airbyte_settings(airbyte.url), lambda api: api.start(airbyte.connection.id, JobType.SYNC))
    assert not caught.value.nothing_happened
    assert len(list(airbyte.world.jobs)) == 1


def test_a_refused_connection_is_certain_to_have_started_nothing() -> None:
    settings = airbyte_settings(f"http://127.0.0.1:{free_port()}")
    with pytest.raises(AirbyteDownError) as caught:
        ask(settings, lambda api: api.start(ANY, JobType.SYNC))
    assert caught.value.nothing_happened
    assert "ADINSIGHTS_AIRBYTE__PUBLIC_API_URL" in str(caught.value)


def test_a_reply_that_trickles_is_cut_off_at_the_deadline() -> None:
    async def trickle(_: Request) -> Response:
        await asyncio.sleep(2 * HANG_SECONDS)
        return JSONResponse(JOB)

    with running(Starlette(routes=[Route("/{rest:path}", trickle)])) as url:
        begun = time.monotonic()
        with pytest.raises(NoReplyError):
            ask(airbyte_settings(url, request_timeout_seconds=0.3), lambda api: api.job(1), patience=0.1)
    assert time.monotonic() - begun < HANG_SECONDS


def test_a_start_whose_token_cannot_be_had_certainly_never_left() -> None:
    settings = {"client_id": "app", "client_secret": secret("a-client-secret")}
    down = reply(502, {"message": "token service down"})
    with scripted(down) as (url, asked), pytest.raises(AirbyteDownError) as caught:
        ask(airbyte_settings(url, **settings), lambda api: api.start(ANY, JobType.SYNC), patience=0.3)
    assert caught.value.nothing_happened
    assert all(line.endswith("/applications/token") for line in asked)


# ------------------------------------------------------------------------------------------------------- authentication


def with_application(url: str, **overrides: Any) -> AirbyteSettings:
    return airbyte_settings(url, client_id="app", client_secret=secret("an-application-secret"), **overrides)


def test_an_application_fetches_one_token_for_many_requests() -> None:
    with airbyte_server(gate=Gate(client_id="app", client_secret="an-application-secret")) as server:
        make = api_factory(with_application(server.url))

        async def twice() -> int:
            sent = 0
            for _ in range(2):
                async with make() as api:
                    await asyncio.gather(*(api.workspaces() for _ in range(5)))
                    sent += api.requests
            return sent

        assert asyncio.run(twice()) == 11


def test_an_expired_token_is_replaced_once_and_the_read_goes_through(airbyte: AirbyteServer) -> None:
    settings = with_application(airbyte.url)

    async def read(api: AirbyteApi) -> tuple[UUID, ...]:
        await api.workspaces()
        airbyte.set("unauthorized_next", 1)
        return await api.workspaces()

    assert ask(settings, read) == (airbyte.workspace_id,)


def test_wrong_credentials_are_an_error_that_names_the_setting_and_no_secret() -> None:
    gate = Gate(client_id="app", client_secret="another-secret")
    with airbyte_server(gate=gate) as server, pytest.raises(AirbyteError) as caught:
        ask(with_application(server.url), lambda api: api.workspaces(), patience=0.3)
    assert "an-application-secret" not in str(caught.value) + repr(caught.value)


def test_a_401_on_every_request_ends_after_one_new_token() -> None:
    token = reply(200, {"access_token": "token-1", "expires_in": 900})
    refused = reply(401, {"title": "invalid-api-key", "detail": "expired"})
    with scripted(token, refused, token, refused) as (url, asked), pytest.raises(UnauthorizedError) as caught:
        ask(with_application(url), lambda api: api.job(1))
    assert len(asked) == 4
    assert "ADINSIGHTS_AIRBYTE__CLIENT_ID" in str(caught.value)


def test_basic_authentication_and_none_need_no_token() -> None:
    gate = Gate(username="airbyte", password="a-basic-password")
    with airbyte_server(gate=gate) as server:
        basic = airbyte_settings(server.url, username="airbyte", password=secret("a-basic-password"))
        assert ask(basic, lambda api: api.workspaces()) == (server.workspace_id,)
        with pytest.raises(UnauthorizedError):
            ask(airbyte_settings(server.url), lambda api: api.workspaces())


def test_a_token_is_replaced_before_it_expires() -> None:
    moment = [0.0]
    shelf = TokenShelf(lambda: moment[0])
    assert shelf.current() is None
    shelf.keep({"access_token": "abc", "expires_in": 180})
    moment[0] = 130
    assert shelf.current() == "abc"
    moment[0] = 140
    assert shelf.current() is None


def test_a_token_endpoint_that_answers_nonsense_is_named() -> None:
    with pytest.raises(MalformedReplyError, match="access_token"):
        TokenShelf(time.monotonic).keep({"token": "abc"})


def test_dropping_an_old_token_keeps_the_newer_one() -> None:
    shelf = TokenShelf(lambda: 0.0)
    shelf.keep({"access_token": "old"})
    shelf.keep({"access_token": "new"})
    shelf.drop("old")
    assert shelf.current() == "new"


# ------------------------------------------------------------------------------------------------------------ the words


def test_the_two_conflicts_are_told_apart_by_their_title(airbyte: AirbyteServer) -> None:
    settings = airbyte_settings(airbyte.url)
    ask(settings, lambda api: api.start(airbyte.connection.id, JobType.SYNC))
    with pytest.raises(SyncAlreadyRunningError, match=str(airbyte.connection.id)):
        ask(settings, lambda api: api.start(airbyte.connection.id, JobType.SYNC))
    other = airbyte.add_connection()
    airbyte.public("PATCH", f"/connections/{other.id}", json={"status": ConnectionStatus.INACTIVE.value})
    with pytest.raises(StateConflictError) as caught:
        ask(settings, lambda api: api.start(other.id, JobType.SYNC))
    assert caught.value.nothing_happened


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (400, b'{"message":"bad"}', InvalidRequestError),
        (422, b'{"title":"unprocessable-entity"}', InvalidRequestError),
        (401, b"", UnauthorizedError),
        (403, b'{"message":"no"}', ForbiddenError),
        (404, b'{"title":"resource-not-found"}', NotFoundError),
        (404, b'{"message":"gone","exceptionClassName":"x.IdNotFoundKnownException"}', NotFoundError),
        (404, b'{"message":"no Route matched with those values"}', NotAirbyteError),
        (409, b'{"message":"A sync is already running for: x"}', SyncAlreadyRunningError),
        (409, b'{"title":"try-again-later"}', SyncAlreadyRunningError),
        (409, b'{"title":"state-conflict","data":{"message":"A sync is already running"}}', StateConflictError),
        (429, b"slow down", RateLimitedError),
        (500, b'{"message":"boom"}', ServerError),
        (503, b"no healthy upstream", ServerError),
        (502, b"<html><title>502 Bad Gateway</title>", NotAirbyteError),
        (404, b"<html>not here</html>", NotAirbyteError),
        (302, b"", NotAirbyteError),
    ],
)
def test_every_reply_that_is_not_success_has_a_kind_of_its_own(status: int, body: bytes, kind: type) -> None:
    error = from_reply("Airbyte GET /jobs", status, {"content-type": "text/plain"}, body)
    assert type(error) is kind
    assert str(error).startswith("Airbyte GET /jobs: ")


def test_only_answers_that_refuse_are_certain_that_nothing_happened() -> None:
    def certain(status: int, body: bytes = b'{"message":"x"}') -> bool:
        return from_reply("POST /jobs", status, {}, body).nothing_happened

    assert all(certain(status) for status in (400, 401, 403, 404, 409, 422, 429))
    assert not any(certain(status) for status in (500, 502, 503, 504))
    assert not certain(200, b"<html>login</html>")
    assert not certain(502, b"<html>bad gateway</html>")
    assert certain(404, b"<html>no such page</html>")
    assert certain(302, b"")


def test_a_page_that_says_there_is_nothing_is_not_asked_again_and_one_that_says_wait_is() -> None:
    assert not from_reply("x", 404, {}, b"<html>no such page</html>").repeatable
    assert from_reply("x", 502, {}, b"<html>bad gateway</html>").repeatable


def test_a_rate_limit_that_says_when_to_come_back_is_heeded() -> None:
    error = from_reply("x", 429, {"retry-after": "17"}, b"{}")
    assert isinstance(error, RateLimitedError)
    assert error.retry_after_seconds == 17
    later = from_reply("x", 429, {"retry-after": "Wed, 21 Oct 2026 07:28:00 GMT"}, b"{}")
    assert isinstance(later, RateLimitedError)
    assert later.retry_after_seconds is None


def test_a_proxys_page_is_named_by_its_title_and_the_setting_to_check(airbyte: AirbyteServer) -> None:
    airbyte.set("html_error", True)
    with pytest.raises(NotAirbyteError) as caught:
        ask(airbyte_settings(airbyte.url), lambda api: api.workspaces(), patience=0.2)
    assert "502 Bad Gateway" in str(caught.value)
    assert "ADINSIGHTS_AIRBYTE__PUBLIC_API_URL" in str(caught.value)


@pytest.mark.parametrize(
    "answer",
    [
        lambda _: HTMLResponse("<html>please log in</html>"),
        lambda _: PlainTextResponse("ok"),
        lambda _: RedirectResponse("/login"),
        lambda _: JSONResponse({"rows": []}),
        lambda _: JSONResponse(["x"]),
    ],
)
def test_a_success_that_is_not_a_listing_is_not_taken_for_an_empty_one(answer: Callable[[Request], Response]) -> None:
    with scripted(answer) as (url, _), pytest.raises((NotAirbyteError, MalformedReplyError)):
        ask(airbyte_settings(url), lambda api: api.workspaces(), patience=0.2)


def broken_gzip(_: Request) -> Response:
    return Response(b'{"jobId": 1}', headers={"content-encoding": "gzip", "content-type": "application/json"})


def test_a_read_goes_on_after_a_page_whose_compression_a_proxy_broke() -> None:
    with scripted(broken_gzip, reply(200, JOB)) as (url, asked):
        assert ask(airbyte_settings(url), lambda api: api.job(1)).job_id == 1
    assert len(asked) == 2


def test_a_start_whose_answer_cannot_be_unpacked_is_sent_once_and_may_have_begun() -> None:
    with scripted(broken_gzip) as (url, asked), pytest.raises(NoReplyError, match="compression") as caught:
        ask(airbyte_settings(url), lambda api: api.start(ANY, JobType.SYNC))
    assert len(asked) == 1
    assert not caught.value.nothing_happened


CALLS: dict[str, Callable[[AirbyteApi], Awaitable[object]]] = {
    "connection": lambda api: api.connection(ANY),
    "workspaces": lambda api: api.workspaces(),
    "job": lambda api: api.job(1),
    "detailed_job": lambda api: api.detailed_job(1),
    "jobs": lambda api: api.connection_jobs(ANY),
    "start": lambda api: api.start(ANY, JobType.SYNC),
    "apply_catalog": lambda api: api.apply_catalog(ANY, {}, None),
}
OF_ANOTHER_SHAPE: dict[str, Any] = {
    "empty": lambda _: Response(b"", 200),
    "nothing in it": reply(200, {}),
    "no content": lambda _: Response(b"", 204),
    "list": reply(200, [{"connectionId": str(ANY)}]),
    "null": reply(200, None),
    "text": reply(200, "ok"),
    "rows that are none": reply(200, {"data": "x", "job": "x", "connectionId": "x", "jobType": "sync"}),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("shape", OF_ANOTHER_SHAPE)
def test_no_call_takes_a_reply_of_another_shape_for_anything_but_a_broken_reply(call: str, shape: str) -> None:
    with scripted(OF_ANOTHER_SHAPE[shape]) as (url, asked), pytest.raises((NotAirbyteError, MalformedReplyError)) as no:
        ask(airbyte_settings(url), CALLS[call], patience=0.2)
    assert not no.value.nothing_happened
    assert len(asked) == 1


@pytest.mark.parametrize("row", ["x", None, {"id": 1}, {"workspaceId": "no id"}])
def test_a_workspace_that_cannot_be_read_is_a_broken_reply(row: object) -> None:
    with scripted(reply(200, {"data": [row]})) as (url, _), pytest.raises(MalformedReplyError, match="a workspace"):
        ask(airbyte_settings(url), lambda api: api.workspaces())


@pytest.mark.parametrize("catalog", [[], {"sync": 1}, {"streams": "x"}, "x"])
def test_a_connection_whose_catalog_cannot_be_read_is_a_broken_reply(catalog: object) -> None:
    answer = {"connectionId": str(ANY), "syncCatalog": catalog or [1]}
    with scripted(reply(200, answer)) as (url, _), pytest.raises(MalformedReplyError, match="a connection"):
        ask(airbyte_settings(url), lambda api: api.connection(ANY))


@pytest.mark.parametrize("answer", [reply(200, ["abc"]), broken_gzip, lambda _: Response(b"")])
def test_a_token_endpoint_whose_reply_cannot_be_read_is_named(answer: Callable[[Request], Response]) -> None:
    with scripted(answer) as (url, _):
        settings = airbyte_settings(url, client_id="an-id", client_secret=secret("a-secret"))
        with pytest.raises(AirbyteError, match="applications/token"):
            ask(settings, lambda api: api.job(1), patience=0.2)


def test_attempts_of_another_shape_do_not_hide_the_other_jobs_of_their_page() -> None:
    job = {"id": 1, "configType": "sync", "configId": str(ANY), "status": "failed", "createdAt": 1_790_000_000}
    rows = [{"job": {**job, "id": 2}, "attempts": ["x"]}, {"job": job, "attempts": []}, "x"]
    with scripted(reply(200, {"jobs": rows})) as (url, _):
        page = ask(airbyte_settings(url), lambda api: api.changes(START, []))
    assert [job.job_id for job in page.jobs] == [1]


def test_a_job_that_cannot_be_read_does_not_hide_the_others_of_its_page() -> None:
    rows = [{"jobId": "?"}, JOB, {**JOB, "jobId": 2, "jobType": "something_new"}]
    with scripted(reply(200, {"data": rows})) as (url, _):
        page = ask(airbyte_settings(url), lambda api: api.public_changes(START, [], None))
    assert [job.job_id for job in page.jobs] == [1]


def test_the_answer_to_a_start_that_cannot_be_read_leaves_open_whether_it_began() -> None:
    with scripted(reply(200, {"hello": "world"})) as (url, _), pytest.raises(MalformedReplyError) as caught:
        ask(airbyte_settings(url), lambda api: api.start(ANY, JobType.SYNC))
    assert not caught.value.nothing_happened


# ------------------------------------------------------------------------------------------------------------ the calls


def test_no_more_requests_are_in_flight_than_the_settings_allow() -> None:
    flying, most = [0], [0]

    async def slow(_: Request) -> Response:
        flying[0] += 1
        most[0] = max(most[0], flying[0])
        await asyncio.sleep(0.02)
        flying[0] -= 1
        return JSONResponse(JOB)

    async def many(api: AirbyteApi) -> None:
        await asyncio.gather(*(api.job(number) for number in range(20)))

    with running(Starlette(routes=[Route("/{rest:path}", slow)])) as url:
        ask(airbyte_settings(url, max_concurrent_requests=3), many)
    assert most[0] == 3


def test_a_clear_falls_back_to_the_older_name(airbyte: AirbyteServer) -> None:
    refused = reply(422, {"title": "unprocessable-entity"})
    made = reply(200, {**JOB, "jobType": "reset"})
    with scripted(refused, made) as (url, asked):
        job = ask(airbyte_settings(url), lambda api: api.start(ANY, JobType.CLEAR))
    assert job.type is JobType.RESET
    assert len(asked) == 2


def test_an_older_server_that_refuses_new_words_is_asked_in_old_ones() -> None:
    bodies: list[dict[str, Any]] = []

    async def old(request: Request) -> Response:
        bodies.append(await request.json())
        known = {"sync", "reset_connection", "pending", "running", "incomplete"}
        if {*bodies[-1]["configTypes"], *bodies[-1].get("statuses", [])} - known:
            return JSONResponse({"message": "unknown"}, 422)
        return JSONResponse({"jobs": [], "totalJobCount": 0})

    async def twice(api: AirbyteApi) -> None:
        await api.changes(START, [ANY])
        await api.running_changes(START, [ANY])

    with running(Starlette(routes=[Route("/{rest:path}", old, methods=["POST"])])) as url:
        ask(airbyte_settings(url), twice)
    assert len(bodies) == 3


def test_the_running_job_is_found_whatever_its_type(airbyte: AirbyteServer) -> None:
    settings = airbyte_settings(airbyte.url)
    connection = airbyte.connection.id
    assert ask(settings, lambda api: api.running_job(connection)) is None
    refresh = ask(settings, lambda api: api.refresh(connection))
    assert refresh is not None
    found = ask(settings, lambda api: api.running_job(connection))
    assert found is not None
    assert (found.job_id, found.type) == (refresh.job_id, JobType.REFRESH)


def test_a_connections_jobs_are_listed_newest_first_with_refreshes(airbyte: AirbyteServer) -> None:
    settings = airbyte_settings(airbyte.url)
    connection = airbyte.connection.id
    for kind in ("sync", "clear", "sync"):
        airbyte.start(kind=kind)
        airbyte.clock.advance(60)
    ask(settings, lambda api: api.refresh(connection))
    jobs = ask(settings, lambda api: api.connection_jobs(connection))
    assert [job.job_id for job in jobs] == [4, 3, 2, 1]
    since = ask(settings, lambda api: api.connection_jobs(connection, since=START + timedelta(seconds=90)))
    assert [job.job_id for job in since] == [4, 3]


def test_whether_a_server_can_refresh_is_found_out_without_refreshing_anything(airbyte: AirbyteServer) -> None:
    assert ask(airbyte_settings(airbyte.url), lambda api: api.has_refresh())
    assert list(airbyte.world.jobs) == []
    with scripted(reply(404, {"message": "Page Not Found"})) as (url, _):
        assert not ask(airbyte_settings(url), lambda api: api.has_refresh())


def test_every_visible_workspace_is_found_page_by_page(airbyte: AirbyteServer) -> None:
    from tests.local.airbyte_support import add_workspace

    more = [add_workspace(airbyte.world, f"Agency {number}") for number in range(4)]
    found = ask(airbyte_settings(airbyte.url, page_size=2), lambda api: api.workspaces())
    assert set(found) == {airbyte.workspace_id, *more}
