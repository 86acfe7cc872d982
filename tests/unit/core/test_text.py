"""Text and JSON that can be stored, whatever came in."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from actors.core.text import MAX_JSON_DEPTH, depth_of, has_lone_surrogate, mended, mended_json

ANY_TEXT = st.text(st.characters())  # lone surrogates among them
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | ANY_TEXT | st.binary(max_size=3) | st.dates(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(ANY_TEXT | st.integers(), inner, max_size=3),
    max_leaves=10,
)


@given(ANY_TEXT)
def test_mended_text_can_be_encoded_and_is_else_unchanged(text: str) -> None:
    mended(text).encode()
    assert not has_lone_surrogate(mended(text))
    if not has_lone_surrogate(text):
        assert mended(text) == text


def test_halves_of_a_character_are_joined() -> None:
    assert mended("a\ud83d\ude00b") == "a😀b"
    assert mended("a\ud83db") == "a\ufffdb"


@given(ANYTHING)
def test_mended_data_is_json(value: Any) -> None:
    json.dumps(mended_json(value), ensure_ascii=False).encode()


def test_how_deep_data_is_nested() -> None:
    values = [7, "text", [], {}, [1, [2, {"a": 3}]], {"a": {}, "b": [1]}]
    assert [depth_of(value) for value in values] == [0, 0, 1, 1, 3, 2]


def test_nesting_has_an_end() -> None:
    deep: Any = "bottom"
    for _ in range(10_000):
        deep = [deep]
    assert depth_of(deep) == 10_000
    assert depth_of(mended_json(deep)) == MAX_JSON_DEPTH
