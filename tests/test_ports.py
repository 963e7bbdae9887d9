"""A port that a test takes for a server of its own, or for nobody, is nobody else's meanwhile."""

from __future__ import annotations

import socket

from tests.conftest import free_port, lowest_port_of_the_system


def test_no_server_and_no_connection_that_lets_the_system_choose_gets_a_port_of_ours() -> None:
    ours = {free_port() for _ in range(50)}
    assert max(ours) < lowest_port_of_the_system()
    with socket.create_server(("127.0.0.1", 0)) as chosen, socket.create_connection(chosen.getsockname()) as client:
        assert min(chosen.getsockname()[1], client.getsockname()[1]) >= lowest_port_of_the_system()


def test_one_of_ours_is_free_and_nobody_answers_there() -> None:
    port = free_port()
    with socket.socket() as client:
        assert client.connect_ex(("127.0.0.1", port)) != 0
    socket.create_server(("127.0.0.1", port)).close()


def test_it_is_hardly_ever_the_same_twice() -> None:
    assert len({free_port() for _ in range(50)}) > 40
