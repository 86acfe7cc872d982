"""The calls of costs and estimates, as `calls.py` has those of the rest."""

from typing import Literal, TypedDict

from .calls import Call, Json, read


class CostOptions(TypedDict, total=False):
    """Times are RFC 3339 or days; `since` and `until` are `from` and `to` of the API."""

    period: Literal["daily", "weekly", "monthly"]
    group_by: Literal["user", "model", "tool", "session"]
    since: str
    until: str
    everyone: bool
    limit: int
    recommendations: bool


class EstimateOptions(TypedDict, total=False):
    session_id: str
    model: str
    system: str
    max_completion_tokens: int


def costs(options: CostOptions) -> Call:
    names = {"since": "from", "until": "to"}
    params = {names.get(name, name): _text(value) for name, value in options.items()}
    return read("/api/v1/costs", **params)


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def estimate(message: str, options: EstimateOptions) -> Call:
    body: Json = {"message": message, **options}
    return Call("POST", "/api/v1/estimate", body, repeatable=True)
