"""Table names and rows: no two embedders share a table, and what cannot be stored is said at once."""

from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import pytest

from actors.core.errors import InvalidInput
from actors.memory.base import Memory
from actors.memory.lance_rows import check_storable, from_row, table_name, to_rows


@dataclass
class Named:
    name: str
    dimensions: int = 8


def test_embedders_have_tables_of_their_own():
    embedders = [Named("e5"), Named("e5", 16), Named("E5"), Named("a/b"), Named("a_b"), Named("a b"), Named("ä")]
    assert len({table_name(embedder) for embedder in embedders}) == len(embedders)


@pytest.mark.parametrize("name", ["e5-small.q4", "vendor/model:v1", "../../etc", "ünïcode 模型"])
def test_a_table_name_is_one_that_a_folder_may_have(name):
    assert set(table_name(Named(name))) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_")


def test_a_table_name_is_stable():
    assert table_name(Named("multilingual-e5-small-q4", 384)) == "memories-multilingual-e5-small-q4-384"


def test_rows_and_back():
    memory = Memory("mem_1", "user_1", "likes\0tea ü", "sess_1", "turn_1", datetime(2026, 5, 4, 3, 2, 1, 987654, UTC))
    [row] = to_rows([memory], np.ones((1, 4), np.float32)).to_pylist()
    found = from_row({**row, "_distance": -1e-7})
    assert found.memory == memory
    assert found.score == 1.0


def test_half_a_surrogate_pair_is_refused_by_name():
    memory = Memory("mem_1", "user_1", "bad \ud800", "sess_1", "turn_1", datetime(2026, 1, 1, tzinfo=UTC))
    with pytest.raises(InvalidInput, match="The memory's text holds half a surrogate pair"):
        check_storable(memory)
