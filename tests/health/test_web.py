"""Whatever a server does, a request of a probe ends within its deadline and is a value."""

from __future__ import annotations

import asyncio
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from adinsights_orchestration.health.web import Reply, Trouble, Web, host_of, json_of
from adinsights_orchestration.local.knobs import Knobs
from adinsights_orchestration.local.serving import running
from adinsights_orchestration.local.web_faults import WEB_KNOBS, FaultyWeb
from tests.conftest import HANG_SECONDS, free_port

DEADLINE_SECONDS = 1.0  # for what hangs; whatever is answered has time


def ask(url: str, seconds: float = HANG_SECONDS, **options: Any) -> Reply | Trouble:
    async def once() -> Reply | Trouble:
        async with Web(seconds) as web:
            return await web.ask(url, **options)

    return asyncio.run(once())


def state(answer: Reply | Trouble | dict[str, Any]) -> str:
    assert isinstance(answer, Trouble)
    return answer.state


async def _ok(_: Request) -> Response:
    return JSONResponse({"status": "ok"})


@contextmanager
def faulty(name: str, value: Any = True) -> Iterator[str]:
    knobs = Knobs()
    area = knobs.declare("web", WEB_KNOBS)
    area.set(name, value)
    app = Starlette(routes=[Route("/", _ok)], middleware=[Middleware(FaultyWeb, knobs=area)])
    with running(app) as url:
        yield url


@pytest.mark.parametrize(
    ("knob", "expected"),
    [
        ("hang", "timeout"),
        ("trickle", "timeout"),
        ("redirect_loop", "redirect_loop"),
        ("oversize", "oversize"),
    ],
)
def test_what_never_becomes_an_answer_is_a_state_within_the_deadline(knob: str, expected: str) -> None:
    with faulty(knob) as url:
        began = time.monotonic()
        assert state(ask(url, DEADLINE_SECONDS if expected == "timeout" else HANG_SECONDS)) == expected
        assert time.monotonic() - began < HANG_SECONDS


def test_a_slow_answer_is_too_late_only_beyond_the_deadline() -> None:
    with faulty("slow_ms", 200) as url:
        assert isinstance(ask(url), Reply)
    with faulty("slow_ms", 3000) as url:
        assert state(ask(url, DEADLINE_SECONDS)) == "timeout"


@pytest.mark.parametrize(
    ("knob", "expected", "status"),
    [("html_error", "html", 502), ("truncated_json", "truncated_json", 200), ("down", "http_503", 503)],
)
def test_an_answer_that_is_no_json_is_told_by_what_it_is(knob: str, expected: str, status: int) -> None:
    with faulty(knob) as url:
        reply = ask(url)
    assert isinstance(reply, Reply)
    trouble = json_of(reply)
    assert isinstance(trouble, Trouble)
    assert (trouble.state, trouble.status) == (expected, status)


def test_a_share_of_requests_can_be_answered_with_an_error() -> None:
    with faulty("error_percent", 25) as url:
        replies = [ask(url) for _ in range(8)]
    assert [reply.status for reply in replies].count(500) == 2


def test_every_knob_of_a_web_server_is_turned_by_some_test() -> None:
    text = Path(__file__).read_text()
    assert [knob.name for knob in WEB_KNOBS if f'"{knob.name}", ' not in text] == []


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://127.0.0.1:{port}/", "refused"),
        ("http://no-such-host.invalid/", "dns"),
        ("ftp://127.0.0.1/", "wrong_address"),
        ("http://[::1", "wrong_address"),
        ("http://127.0.0.1:99999999/", "wrong_address"),
    ],
)
def test_an_address_that_leads_nowhere_is_a_state(url: str, expected: str) -> None:
    assert state(ask(url.format(port=free_port()))) == expected


@contextmanager
def raw_server(answer: bytes, tls: ssl.SSLContext | None = None) -> Iterator[int]:
    """A server that reads once, sends some bytes and closes."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            try:
                with tls.wrap_socket(client, server_side=True) if tls else client as wire:
                    wire.recv(4096)
                    wire.sendall(answer)
            except OSError:
                continue

    threading.Thread(target=serve, daemon=True).start()
    yield listener.getsockname()[1]
    listener.close()


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"not HTTP at all\r\n\r\n",
        b'HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{"status": "ok"}',
        b'HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\n{"sta',
    ],
)
def test_an_answer_that_breaks_off_is_a_state(answer: bytes) -> None:
    with raw_server(answer) as port:
        assert state(ask(f"http://127.0.0.1:{port}/")) == "broken_off"


def test_a_server_that_speaks_no_tls_is_a_state() -> None:
    with raw_server(b"HTTP/1.1 400 Bad Request\r\n\r\n") as port:
        assert state(ask(f"https://127.0.0.1:{port}/")) == "tls"


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificate")
def test_a_certificate_that_nobody_vouches_for_is_a_state(tmp_path: Path) -> None:
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=elsewhere"]
    subprocess.run([*command, "-keyout", str(key), "-out", str(certificate)], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with raw_server(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", context) as port:
        assert state(ask(f"https://127.0.0.1:{port}/")) == "wrong_certificate"


def test_a_compressed_body_is_never_unpacked() -> None:
    async def bomb(_: Request) -> Response:
        import gzip

        packed = gzip.compress(b"[" * 20_000_000)
        return Response(packed, headers={"content-encoding": "gzip", "content-type": "application/json"})

    with running(Starlette(routes=[Route("/", bomb)])) as url:
        reply = ask(url)
    assert isinstance(reply, Reply)
    assert len(reply.body) < 100_000
    assert state(json_of(reply)) == "truncated_json"


def test_a_key_is_not_sent_on_to_where_a_redirect_leads() -> None:
    seen: list[str] = []

    async def elsewhere(request: Request) -> Response:
        seen.append(request.headers.get("x-api-key", ""))
        return JSONResponse({})

    async def away(_: Request) -> Response:
        return RedirectResponse("/elsewhere")

    with running(Starlette(routes=[Route("/", away), Route("/elsewhere", elsewhere)])) as url:
        assert state(ask(url, headers={"X-API-Key": "secret"}, follow=False)) == "redirected"
    assert seen == []


@pytest.mark.parametrize("body", [b"[1, 2]", b'"ok"', b"17", b"null"])
def test_json_that_is_no_object_is_no_diagnosis(body: bytes) -> None:
    assert state(json_of(Reply(200, "application/json", body, 1.0))) == "not_json"


def test_an_address_is_told_by_its_host_alone() -> None:
    assert host_of("https://user:secret@backend.example:8443/path?key=secret") == "backend.example:8443"
    assert host_of("http://[broken") == "an address that is none"
