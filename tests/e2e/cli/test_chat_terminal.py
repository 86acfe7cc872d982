"""`greenroom chat` on a terminal: what is typed is answered, Ctrl-C cancels the turn, Ctrl-D leaves."""

import os
import pty
import re
import select
import time

import pytest

pytestmark = pytest.mark.timeout(240)
CONTROL = re.compile(r"\x1b(\[[0-9;?]*[a-zA-Z~]|\].*?\x07|[=>])|\r")


class Terminal:
    """A program on a terminal of its own."""

    def __init__(self, command: list[str], environment: dict[str, str]) -> None:
        self._pid, self._terminal = pty.fork()
        if self._pid == 0:
            os.execve(command[0], command, {**environment, "TERM": "xterm", "PROMPT_TOOLKIT_NO_CPR": "1"})
        self.seen = ""

    def type(self, text: str) -> None:
        os.write(self._terminal, text.encode())

    def read_until(self, text: str, *, timeout_s: float = 60) -> str:
        """What came until `text` did, without control sequences; the next call reads on from there."""
        deadline = time.monotonic() + timeout_s
        while text not in self.seen:
            readable, _, _ = select.select([self._terminal], [], [], max(0.0, deadline - time.monotonic()))
            assert readable, f"{text!r} did not come within {timeout_s} s: {self.seen!r}"
            self.seen = CONTROL.sub("", self.seen + os.read(self._terminal, 65536).decode(errors="replace"))
        before, _, self.seen = self.seen.partition(text)
        return before

    def exit_code(self, *, timeout_s: float = 30) -> int:
        deadline = time.monotonic() + timeout_s
        while (ended := os.waitpid(self._pid, os.WNOHANG))[0] == 0:
            assert time.monotonic() < deadline, "it does not end"
            if select.select([self._terminal], [], [], 0.05)[0]:
                try:
                    self.seen += os.read(self._terminal, 65536).decode(errors="replace")
                except OSError:
                    continue  # the other end is closed
        self._pid = 0
        return os.waitstatus_to_exitcode(ended[1])

    def close(self) -> None:
        if self._pid:
            os.kill(self._pid, 9)
            os.waitpid(self._pid, 0)
        os.close(self._terminal)


@pytest.fixture
def terminal(running):
    one = Terminal([str(running.home.command), "chat"], running.home.environment)
    yield one
    one.close()


def test_a_conversation(terminal):
    terminal.read_until("Ctrl-D leaves")
    terminal.type("compute 6*7 in python\r")
    terminal.read_until("▸ run_python")
    terminal.read_until("42")
    terminal.read_until("tokens")
    terminal.read_until(">")
    terminal.type("\x04")
    assert terminal.exit_code() == 0
    assert "greenroom chat --session sess_" in terminal.seen


def test_ctrl_c_cancels_the_turn_and_not_the_conversation(terminal):
    terminal.read_until("Ctrl-D leaves")
    terminal.type("run python: import time; time.sleep(100)\r")
    terminal.read_until("▸ run_python")
    terminal.type("\x03")
    terminal.read_until("cancelled ·", timeout_s=20)
    terminal.type("compute 6*7 in python\r")
    terminal.read_until("▸ run_python")
    terminal.read_until("42")
    terminal.read_until("tokens")
    terminal.read_until(">")
    terminal.type("\x04")
    assert terminal.exit_code() == 0
