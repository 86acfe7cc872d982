"""Every error crosses process borders whole and has its place in HTTP."""

import pickle

import pytest

import serve_app.problems
from actors.core import errors
from actors.core.errors import GreenroomError


def _family(root: type[GreenroomError]) -> list[type[GreenroomError]]:
    return [root, *(one for child in root.__subclasses__() for one in _family(child))]


FAMILY = _family(GreenroomError)


@pytest.mark.parametrize("kind", FAMILY)
def test_an_error_survives_pickling(kind: type[GreenroomError]) -> None:
    error = kind("it went wrong", session_id="sess_1", limit=3)
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is kind
    assert (again.message, again.details, str(again)) == (
        "it went wrong",
        {"session_id": "sess_1", "limit": 3},
        str(error),
    )
    assert (again.code, again.retryable) == (kind.code, kind.retryable)


@pytest.mark.parametrize("kind", FAMILY)
def test_an_error_has_a_status(kind: type[GreenroomError]) -> None:
    assert kind.code in serve_app.problems.STATUS, f"{kind.__name__} ({kind.code}) has no row in serve_app/problems.py"


@pytest.mark.parametrize("kind", FAMILY)
def test_an_error_says_something_by_itself(kind: type[GreenroomError]) -> None:
    message = kind().message
    assert message == (kind.__doc__ or "").strip().splitlines()[0]
    assert message.endswith((".", "`"))


@pytest.mark.parametrize("kind", FAMILY)
def test_what_may_be_tried_again_is_answered_as_such(kind: type[GreenroomError]) -> None:
    if kind.retryable:
        assert serve_app.problems.STATUS[kind.code] in {409, 429, 502, 503}


def test_a_code_means_one_thing() -> None:
    """Only a class and those that it stands for share one: `InvalidInput` is `InputError` under its own name."""
    for kind in FAMILY:
        sharing = [other for other in FAMILY if other.code == kind.code]
        assert all(issubclass(one, other) or issubclass(other, one) for one in sharing for other in sharing)


def test_all_errors_are_declared_in_one_file() -> None:
    assert {kind.__module__ for kind in FAMILY} == {errors.__name__}


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    missing = [kind.__name__ for kind in FAMILY if kind.__name__ not in (errors.__doc__ or "")]
    assert missing == []
