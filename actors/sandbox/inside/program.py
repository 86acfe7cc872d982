"""Python programs in a fork of the agent, one or several in turn, and an end that does what an interpreter's does."""

import atexit
import contextlib
import gc
import linecache
import os
import sys
import threading
import traceback
import types
from functools import partial

from .interpreter import ANSWER, REQUEST

TYPE_CHECKING = False
if TYPE_CHECKING:  # as in the agent
    from collections.abc import Callable
    from typing import Any, NoReturn

_NAME = "<python>"


def run(source: bytes) -> "NoReturn":
    """Run `source` as `__main__` of this process, as if a fresh interpreter had been started for it."""
    known = set(sys.modules)
    code, _ = _guarded(lambda: _execute(source, _begin(), _NAME))
    _leave(code, known)


def keep(requests_fd: int, answers_fd: int, source_fd: int) -> "NoReturn":
    """Run the programs that come, one after the other, as one `__main__`, until one of them exits."""
    own_pid = os.getpid()
    known = set(sys.modules)
    namespace = _begin()
    number = 0
    while True:
        number += 1
        call, size = _request(requests_fd)
        execute = partial(_execute, os.pread(source_fd, size, 0), namespace, f"<python {number}>")
        code, exits = _guarded(execute)
        del execute
        # What a program has forked comes here, too, and has no business with the agent.
        if exits or os.getpid() != own_pid:
            del namespace  # what only the program held is finalized at the end
            _leave(code, known)
        _flush()
        os.write(answers_fd, ANSWER.pack(call, code))


def _request(requests_fd: int) -> tuple[bytes, int]:
    while True:
        with contextlib.suppress(KeyboardInterrupt):  # another command sent it while this process stood still
            return REQUEST.unpack(os.read(requests_fd, REQUEST.size))


def _begin() -> "dict[str, Any]":
    """Make this process that of a program: the namespace of its `__main__`."""
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # it is a TextIOWrapper at start
    module = types.ModuleType("__main__")
    sys.modules["__main__"] = module
    sys.argv = [""]
    sys.path.insert(0, "")
    return module.__dict__


def _leave(code: int, known: set[str]) -> "NoReturn":
    """End as an interpreter does.

    The interpreter's own end would take the agent's memory apart, page by page, in ten times the time. So
    threads are awaited, exit functions run, and what only the program held is finalized, which flushes its
    files; then the process is left.
    """
    shutdown_code, _ = _guarded(threading._shutdown)  # type: ignore[attr-defined]  # noqa: SLF001  as multiprocessing does
    atexit._run_exitfuncs()  # type: ignore[attr-defined]  # noqa: SLF001  as multiprocessing does
    for name in [name for name in sys.modules if name not in known or name == "__main__"]:
        del sys.modules[name]
    gc.collect()
    _flush()
    os._exit(shutdown_code or code)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):  # whatever a program has put in their place
            stream.flush()


def _execute(source: bytes, namespace: "dict[str, Any]", name: str) -> None:
    lines = source.decode("utf-8", "replace").splitlines(keepends=True)
    linecache.cache[name] = (len(source), None, lines, name)
    exec(compile(source, name, "exec", dont_inherit=True), namespace)  # noqa: S102  the purpose


def _guarded(part: "Callable[[], None]") -> tuple[int, bool]:
    """The exit code of a program of which this is a part, and whether it exits. No reference to what it raised is
    kept."""
    try:
        part()
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return (end.code or 0) & 0xFF, True
        sys.stderr.write(f"{end.code}\n")
        return 1, True
    except BaseException as error:  # noqa: BLE001  whatever the program raised is its own traceback
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
        _report(error)
        return 1, False
    return 0, False


def _report(error: BaseException) -> None:
    trace = error.__traceback__
    while trace and trace.tb_frame.f_code.co_filename == __file__:
        trace = trace.tb_next
    if sys.excepthook is sys.__excepthook__:
        # Unlike the built-in hook this one finds the source lines of a program that is in no file.
        traceback.print_exception(type(error), error, trace)
    else:
        sys.excepthook(type(error), error, trace)
