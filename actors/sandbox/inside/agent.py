"""The agent: process 1 of a sandbox. Runs one command at a time and does file operations beside it.

It speaks frames over standard input, which is a socket, or a pipe with another one for the answers. Nothing
it says decides anything on the host: deadlines, memory and output are judged there.
"""

import contextlib
import gc
import importlib
import json
import os
import resource
import selectors
import signal
import sys

from . import commands, files, room
from .frames import FrameDecoder, FrameError, encode

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing and dataclasses would be a third of the time that a sandbox takes to start
    from typing import Any

    from . import archive
    from .interpreter import Interpreter

CHUNK_BYTES = 64 * 1024
_RECEIVE_BYTES = 256 * 1024
_PROGRAM = f"{__package__}.program"
_ARCHIVE = f"{__package__}.archive"
_BRIDGE = f"{__package__}.bridge"
_WAY_OUT = "/egress"
_OFTEN_USED = (
    "linecache", "traceback", _PROGRAM, "re", "math", "random", "datetime", "urllib.parse", "pathlib",
)  # fmt: skip
"""What programs need most, so that a fork has it already. Each takes a few milliseconds, after those before it."""


class Command:
    """The command that runs now. `variables` tells of the interpreter that lasts, where that is what runs it."""

    def __init__(self, id_: int, pid: int, output_fd: int, variables: str | None = None, program: bytes = b"") -> None:
        self.id = id_
        self.pid = pid
        self.output_fd = output_fd
        self.variables = variables
        self.program = program


class Agent:
    """Serves the host until it closes the connection."""

    # Nothing here owns a descriptor: in a fork its end would close a file of the program that runs there.

    def __init__(self, control_fd: int, answers_fd: int, starter: commands.Starter) -> None:
        self._control_fd = control_fd
        self._answers_fd = answers_fd
        self._starter = starter
        self._decoder = FrameDecoder()
        self._selector = selectors.PollSelector()
        self._command: Command | None = None
        self._interpreter: Interpreter | None = None
        self._upload: files.Upload | None = None
        self._archive: archive.Archive | None = None
        self._not_imported = list(reversed(_OFTEN_USED))

    def serve(self) -> None:
        """Returns when the host is gone. Raises `commands.Program` in a child that is to run Python."""
        woken, waker = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, _ignore)
        self._selector.register(self._control_fd, selectors.EVENT_READ, self._receive)
        self._selector.register(woken, selectors.EVENT_READ, lambda: self._bury(woken))
        if os.access(_WAY_OUT, os.F_OK):  # the host put it there before anything else ran
            importlib.import_module(_BRIDGE).Bridge(self._selector).open()
        # Where the kernel lets tools open what their user has open, nothing of this machine is among it from here on.
        os.dup2(0, 2)
        self._send({"ready": True})
        while True:
            warming_up = self._may_warm_up()
            events = self._selector.select(0 if warming_up else None)
            for key, _ in events:
                if key.data() is False:
                    return
            if warming_up and not events:
                self._warm_up()

    def _may_warm_up(self) -> bool:
        """Only while nobody waits: whoever takes this sandbox is not to pay for what may be of use."""
        return bool(self._not_imported) and self._command is None

    def _warm_up(self) -> None:
        """One step of it."""
        importlib.import_module(self._not_imported.pop())
        if not self._not_imported:
            # A fork that collects garbage then leaves the agent's memory alone instead of copying it.
            gc.freeze()

    def _send(self, header: "dict[str, Any]", payload: bytes = b"") -> None:
        data = memoryview(encode(header, payload))
        while data:
            data = data[os.write(self._answers_fd, data) :]

    def _receive(self) -> bool:
        data = os.read(self._control_fd, _RECEIVE_BYTES)
        for header, payload in self._decoder.feed(data):
            self._handle(header, payload)
        return bool(data)

    def _handle(self, header: "dict[str, Any]", payload: bytes) -> None:
        request = header["id"]
        match header["op"]:
            case "shell" | "python" | "keep":
                self._start(request, header["op"], payload)
            case "kill":
                if self._command and self._command.id == request:
                    self._finish({})
            case operation:
                try:
                    self._answer(request, operation, header, payload)
                except files.Refused as error:
                    self._send({"id": request, "error": str(error)[:1000]})
                except (OSError, ValueError) as error:
                    self._send({"id": request, "error": _reason(error, header["path"])[:1000]})

    def _answer(self, request: int, operation: str, header: "dict[str, Any]", payload: bytes) -> None:
        path = header["path"]
        if operation == "read":
            data, size = files.read(path, header["offset"], header["max"])
            self._send({"id": request, "size": size}, data)
        elif operation == "write":
            self._write(path, payload, first=header["first"], last=header["last"])
            self._send({"id": request})
        elif operation == "stat":
            where, kind, size = files.status(path)
            self._send({"id": request, "kind": kind, "size": size}, os.fsencode(where))
        elif operation == "list":
            entries, cut = files.listing(path, header["max"])
            self._send({"id": request, "cut": cut}, json.dumps(entries).encode())
        elif operation == "remove":
            files.remove(path, recursive=header["recursive"])
            self._send({"id": request})
        elif operation == "room":
            self._send({"id": request}, json.dumps(room.left()).encode())
        elif operation in ("pack", "unpack"):
            members, data = self._archive_of_workspace().answer(operation, header, payload)
            self._send({"id": request, **members}, data)
        else:
            raise ValueError(f"there is no operation {operation}")

    def _write(self, path: str, data: bytes, *, first: bool, last: bool) -> None:
        # The host sends one file at a time; a first part ends whatever was left unfinished.
        if first:
            self._drop_upload()
            self._upload = files.Upload(path)
        if self._upload is None:
            raise ValueError("a part of a file came without its beginning")
        try:
            self._upload.write(data)
            if last:
                self._upload.commit()
        except OSError:
            self._drop_upload()
            raise
        if last:
            self._drop_upload()

    def _archive_of_workspace(self) -> "archive.Archive":
        # Few sandboxes ever need it, and it takes longer to load than all the rest.
        found = self._archive = self._archive or importlib.import_module(_ARCHIVE).Archive()
        return found

    def _drop_upload(self) -> None:
        if self._upload:
            self._upload.close()
            self._upload = None

    def _start(self, request: int, kind: str, text: bytes) -> None:
        try:
            if kind == "keep":
                command = self._ask_interpreter(request, text)
            else:
                command = Command(request, *self._starter.start(kind, text))
        except (OSError, ValueError) as error:
            self._send({"id": request, "out": True}, f"the sandbox cannot start this: {error}\n".encode())
            gone = {"variables": "gone"} if kind == "keep" else {}
            self._send({"id": request, "exit": commands.CANNOT_START, **gone})
            return
        self._command = command
        self._selector.register(command.output_fd, selectors.EVENT_READ, lambda: self._forward(command.output_fd))

    def _ask_interpreter(self, request: int, text: bytes) -> Command:
        """Run a program in the interpreter that lasts; in a new one where there is none, or it takes nothing."""
        variables = "kept"
        if self._interpreter:
            try:
                self._interpreter.ask(text)
            except OSError:
                self._end_interpreter()
        if self._interpreter is None:
            variables = "new"
            self._interpreter = self._starter.start_interpreter()
            try:
                self._interpreter.ask(text)
            except OSError:
                self._end_interpreter()
                raise
        self._selector.register(self._interpreter.answers_fd, selectors.EVENT_READ, self._hear)
        return Command(request, self._interpreter.pid, self._interpreter.output_fd, variables, text)

    def _end_interpreter(self) -> None:
        commands.sweep()
        self._drop_interpreter()

    def _hear(self) -> None:
        """The interpreter that lasts says something: that its program has ended, or it is not to be used any more."""
        if not (self._interpreter and self._command and self._command.variables):
            return
        try:
            code = self._interpreter.answer()
        except BlockingIOError:
            return
        except (OSError, ValueError):
            if not self._begin_again():
                self._finish({})
        else:
            self._finish({}, code)

    def _begin_again(self) -> bool:
        """Give the program to a new interpreter, where the one that was asked was dying and had not begun with it.

        The command before may have killed it, and a process that is killed takes a while to be dead.
        """
        command, lasting = self._command, self._interpreter
        if not (command and lasting) or command.variables != "kept" or lasting.has_begun():
            return False
        self._hear_no_more(command)
        self._command = None
        self._end_interpreter()
        self._start(command.id, "keep", command.program)
        return True

    def _forward(self, output_fd: int) -> None:
        # A command may have ended, and its pipe been closed, earlier in the same round of events.
        if not self._command or self._command.output_fd != output_fd:
            return
        try:
            more = self._pass_on(self._command)
        except BlockingIOError:
            return
        if not more:
            self._selector.unregister(output_fd)

    def _pass_on(self, command: Command) -> bool:
        """Send a part of what the command has printed; whether there was any. Raises BlockingIOError."""
        data = os.read(command.output_fd, CHUNK_BYTES)
        if data:
            self._send({"id": command.id, "out": True}, data)
        return bool(data)

    def _drain(self, command: Command) -> None:
        try:
            while self._pass_on(command):
                pass
        except BlockingIOError:
            pass  # the pipe's other end is alive in a message that nobody will ever receive

    def _bury(self, woken: int) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(woken, 512)
        buried = commands.reap()
        if self._command and self._command.pid in buried:
            if not self._begin_again():
                self._finish(buried)
        else:
            self._forget(buried)

    def _finish(self, buried: "dict[int, int]", code: int | None = None) -> None:
        """End the command with all that it started, and report it. `buried` are the processes that have ended already.

        `code` is what the interpreter that lasts says of its program: then it lives on.
        """
        command = self._command
        if command is None:
            return
        lasting = self._interpreter
        spares = lasting and lasting.pid not in buried and (command.variables is None or code is not None)
        buried = {**buried, **commands.sweep(lasting.pid if lasting and spares else None)}
        self._command = None
        self._hear_no_more(command)
        self._drain(command)
        if command.variables is None:
            os.close(command.output_fd)
        self._forget(buried)
        if code is None:
            code = os.waitstatus_to_exitcode(buried.get(command.pid, 0))
        variables = {"variables": command.variables if self._interpreter else "gone"} if command.variables else {}
        self._send({"id": command.id, "exit": code, **variables})

    def _forget(self, buried: "dict[int, int]") -> None:
        """Let go of the interpreter that lasts, where it is among them."""
        if self._interpreter and self._interpreter.pid in buried:
            self._drop_interpreter()

    def _drop_interpreter(self) -> None:
        if self._interpreter:
            self._interpreter.close()
            self._interpreter = None

    def _hear_no_more(self, command: Command) -> None:
        """What the command prints, and the interpreter says, is not listened to from here on."""
        lasting = self._interpreter
        for fd in (command.output_fd, *((lasting.answers_fd,) if lasting else ())):
            if fd in self._selector.get_map():
                self._selector.unregister(fd)


def _reason(error: Exception, path: str) -> str:
    # The system's own name of the file would show where the workspace lies, and may be as long as it likes.
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return f"{path[:200]}: {text}"


def _ignore(_number: int, _frame: object) -> None:
    """With a handler, the end of a child wakes the selector."""


def main(answers_fd: int = 0) -> None:
    """Take over standard input as the connection, and `answers_fd` where answers go elsewhere, and serve.

    The one argument of the program is the number of processes allowed.
    """
    control_fd, answers_fd = os.dup(0), os.dup(answers_fd)
    nothing = os.open("/dev/null", os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(nothing, 1)
    os.close(nothing)
    starter = commands.Starter()
    commands.set_dumpable(value=False)
    # Set in here it counts this sandbox's processes only; set outside it would count all of the host user's.
    processes = int(sys.argv[1])
    resource.setrlimit(resource.RLIMIT_NPROC, (processes, processes))
    # Process 1 is deaf to every signal without a handler that comes from inside its namespace, SIGKILL included.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    sys.dont_write_bytecode = True
    os.chdir(files.WORKSPACE)
    program: commands.Program | None = None
    try:
        Agent(control_fd, answers_fd, starter).serve()
    except commands.Program as raised:
        # Without where it was raised, which would keep the agent's objects alive in the program.
        program = raised.with_traceback(None)
    except (FrameError, OSError):
        pass  # the host is gone, or is no host of ours
    if program is not None:
        getattr(importlib.import_module(_PROGRAM), program.run)(*program.arguments)
