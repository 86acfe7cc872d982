"""A Python program in a fork of the agent: its beginning, and an end that does what an interpreter's end does."""

import atexit
import contextlib
import gc
import linecache
import os
import sys
import threading
import traceback
import types
from collections.abc import Callable
from typing import NoReturn

_NAME = "<python>"


def run(source: bytes) -> NoReturn:
    """Run `source` as `__main__` of this process, as if a fresh interpreter had been started for it.

    The interpreter's own end would take the agent's memory apart, page by page, in ten times the time. So
    threads are awaited, exit functions run, and what only the program held is finalized, which flushes its
    files; then the process is left.
    """
    known = set(sys.modules)
    code = _guarded(lambda: _execute(source))
    code = _guarded(threading._shutdown) or code  # type: ignore[attr-defined]  # noqa: SLF001  as multiprocessing does
    atexit._run_exitfuncs()  # type: ignore[attr-defined]  # noqa: SLF001  as multiprocessing does
    for name in [name for name in sys.modules if name not in known or name == "__main__"]:
        del sys.modules[name]
    gc.collect()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


def _execute(source: bytes) -> None:
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # it is a TextIOWrapper at start
    module = types.ModuleType("__main__")
    sys.modules["__main__"] = module
    sys.argv = [""]
    sys.path.insert(0, "")
    lines = source.decode("utf-8", "replace").splitlines(keepends=True)
    linecache.cache[_NAME] = (len(source), None, lines, _NAME)
    exec(compile(source, _NAME, "exec", dont_inherit=True), module.__dict__)  # noqa: S102  the purpose


def _guarded(part: Callable[[], None]) -> int:
    """The exit code of a program of which this is a part. No reference to what it raised is kept."""
    try:
        part()
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return (end.code or 0) & 0xFF
        sys.stderr.write(f"{end.code}\n")
        return 1
    except BaseException as error:  # noqa: BLE001  whatever the program raised is its own traceback
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
        _report(error)
        return 1
    return 0


def _report(error: BaseException) -> None:
    trace = error.__traceback__
    while trace and trace.tb_frame.f_code.co_filename == __file__:
        trace = trace.tb_next
    if sys.excepthook is sys.__excepthook__:
        # Unlike the built-in hook this one finds the source lines of a program that is in no file.
        traceback.print_exception(type(error), error, trace)
    else:
        sys.excepthook(type(error), error, trace)
