"""Ids that a test can predict."""

from collections import Counter

from ..core.ids import Kind, NewId


def sequential_ids() -> NewId:
    """Ids counted by kind: `turn_1`, `turn_2`, `msg_1`, …"""
    made: Counter[Kind] = Counter()

    def new_id(kind: Kind) -> str:
        made[kind] += 1
        return f"{kind}_{made[kind]}"

    return new_id
