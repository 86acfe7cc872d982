"""The sandbox's end of its way out, as the agent runs it: from its own loop, beside everything else."""

import os
import selectors
import socket
import tempfile
import threading
from pathlib import Path

import pytest

from actors.sandbox.inside import agent, bridge
from actors.sandbox.inside.bridge import LINKS, Bridge


@pytest.fixture
def folder():
    with tempfile.TemporaryDirectory(dir="/tmp") as made:
        yield Path(made)


@pytest.fixture
def proxy(folder):
    """Stands for the host."""
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(folder / "proxy"))
        made.listen(LINKS * 2)
        made.settimeout(10)
        yield made


@pytest.fixture
def port():
    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]


@pytest.fixture
def selector():
    return selectors.PollSelector()


@pytest.fixture
def serving(folder, proxy, port, selector):
    """A bridge that runs. What its loop raised, it raises at the end."""
    made = Bridge(selector, path=str(folder / "proxy"), address=("127.0.0.1", port))
    made.open()
    woken, waker = os.pipe()
    selector.register(woken, selectors.EVENT_READ, lambda: False)
    failures = []

    def run():
        try:
            going = True
            while going:
                for key, _ in selector.select():
                    going = key.data() is not False and going
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    yield made
    os.write(waker, b"x")
    thread.join(timeout=10)
    for fd in (woken, waker, made._listener, *(fd for link in made._links for fd in link._pending)):
        os.close(fd)
    assert failures == []


@pytest.fixture
def dial(serving, port, proxy):
    """A new connection: the client's end, the host's end. All are closed when the test is over."""
    made = []

    def dialled():
        client = socket.create_connection(("127.0.0.1", port), timeout=10)
        host = proxy.accept()[0]
        host.settimeout(10)
        made.extend((client, host))
        return client, host

    yield dialled
    for end in made:
        end.close()


def everything(end: socket.socket) -> bytes:
    said = b""
    while data := end.recv(1 << 20):
        said += data
    return said


def test_both_sides_name_the_same_place():
    assert agent._WAY_OUT == bridge.FOLDER


def test_either_side_hears_the_other(dial):
    client, host = dial()
    client.sendall(b"asked")
    assert host.recv(100) == b"asked"
    host.sendall(b"answered")
    assert client.recv(100) == b"answered"


def test_a_side_that_has_said_its_last_still_hears(dial):
    client, host = dial()
    client.sendall(b"all")
    client.shutdown(socket.SHUT_WR)
    assert everything(host) == b"all"
    host.sendall(b"late")
    host.close()
    assert everything(client) == b"late"


def test_much_passes_unharmed_both_ways_at_once(dial):
    client, host = dial()
    data = os.urandom(4 << 20)
    heard = {}

    def hear(name, end):
        heard[name] = everything(end)

    def say(end):
        end.sendall(data)
        end.shutdown(socket.SHUT_WR)

    threads = [
        threading.Thread(target=hear, args=("client", client)),
        threading.Thread(target=hear, args=("host", host)),
    ]
    threads += [threading.Thread(target=say, args=(end,)) for end in (client, host)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert heard == {"client": data, "host": data}


def test_one_who_does_not_listen_holds_up_nobody_else(dial):
    deaf, flooding = dial()
    flooding.settimeout(0.5)
    with pytest.raises(TimeoutError):
        flooding.sendall(bytes(64 << 20))
    client, host = dial()
    client.sendall(b"asked")
    assert host.recv(100) == b"asked"
    deaf.close()


def test_an_answer_that_comes_before_the_question_ends_is_heard(dial):
    """A refusal: the host has hung up while the client is still sending."""
    client, host = dial()
    client.sendall(b"x" * 1000)
    host.recv(10)
    host.sendall(b"refused")
    host.close()
    assert client.recv(100) == b"refused"


@pytest.mark.parametrize("end", ["client", "host"])
async def test_when_one_side_is_gone_the_other_hears_it_and_nothing_is_left(dial, serving, eventually, end):
    client, host = dial()
    client.sendall(b"x")
    assert host.recv(1) == b"x"
    gone, other = (client, host) if end == "client" else (host, client)
    gone.close()
    assert everything(other) == b""
    other.close()
    await eventually(lambda: not serving._links)


def test_more_than_so_many_wait_and_then_have_their_turn(dial, serving, port, proxy):
    ends = [dial() for _ in range(LINKS)]
    with socket.create_connection(("127.0.0.1", port), timeout=10) as waiting:
        waiting.sendall(b"waited")
        proxy.settimeout(0.3)
        with pytest.raises(TimeoutError):
            proxy.accept()
        proxy.settimeout(10)
        for end in ends[0]:
            end.close()
        host = proxy.accept()[0]
        with host:
            assert host.recv(100) == b"waited"


def test_a_host_that_is_gone_is_an_end_to_the_client(serving, port, folder):
    (folder / "proxy").unlink()
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        assert client.recv(10) == b""
