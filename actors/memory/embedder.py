"""What Greenroom asks of an embedder. Apart from `base.py`, because sessions must not load NumPy."""

from typing import Literal, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

Vectors: TypeAlias = NDArray[np.float32]
"""Shape (texts, dimensions), each row of unit length."""


class Embedder(Protocol):
    """Texts to vectors. Queries and stored passages may be embedded differently (as E5 models ask)."""

    @property
    def name(self) -> str:
        """Stored beside the vectors: vectors of two embedders are never compared."""
        ...

    @property
    def dimensions(self) -> int: ...

    async def embed(self, texts: list[str], *, kind: Literal["query", "passage"]) -> Vectors: ...
