"""Ports are tried as servers bind them: a listener makes one taken, also for those who would share it."""

import socket

import pytest

from cluster import ports


def test_a_listener_takes_a_port(taken_port):
    assert not ports.is_free("127.0.0.1", taken_port)
    assert ports.next_free("127.0.0.1", taken_port) > taken_port


def test_a_listener_that_would_share_takes_it_too():
    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        server.bind(("127.0.0.1", 0))
        server.listen()
        assert not ports.is_free("127.0.0.1", server.getsockname()[1])


def test_a_listener_on_every_address_takes_it():
    with socket.create_server(("0.0.0.0", 0)) as server:
        assert not ports.is_free("127.0.0.1", server.getsockname()[1])


def test_free_ports_are_free_and_all_different():
    found = ports.free_ports(10)
    assert len(set(found)) == 10
    assert all(ports.is_free("127.0.0.1", port) for port in found)


def test_an_address_of_another_machine_is_an_error():
    with pytest.raises(OSError, match="assign"):
        ports.is_free("192.0.2.77", 8000)
