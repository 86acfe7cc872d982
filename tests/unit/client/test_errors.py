"""Problem documents become the errors of the tree, by code and by nothing else."""

import subprocess
import sys

import httpx
import pytest

from actors.core import errors
from serve_app import calls


def every_error(cls=errors.GreenroomError):
    yield cls
    for below in cls.__subclasses__():
        if below.__module__ == errors.__name__:
            yield from every_error(below)


@pytest.mark.parametrize("code", sorted({cls.code for cls in every_error()}))
def test_every_code_of_the_tree_has_its_class(driver, wire, code):
    driver.serve(wire.problem(418, code, "the reason", request_id="req_1", turn_id="turn_1"))

    with pytest.raises(errors.GreenroomError) as caught:
        driver.call("models")

    assert type(caught.value).code == code
    assert caught.value.message == "the reason"
    assert caught.value.details == {"status": 418, "request_id": "req_1", "turn_id": "turn_1"}


def test_the_most_special_class_of_a_code_is_taken():
    assert type(calls.error_from(422, b'{"detail": "d", "code": "invalid_input"}')) is errors.InvalidInput


def test_an_unknown_code_is_an_error_all_the_same(driver, wire):
    driver.serve(wire.problem(400, "os.system", "no"))
    with pytest.raises(errors.GreenroomError) as caught:
        driver.call("models")
    assert type(caught.value) is errors.GreenroomError


@pytest.mark.parametrize(
    ("status", "content", "kind"),
    [
        (500, b"Internal Server Error", errors.UnavailableError),
        (502, b"", errors.UnavailableError),
        (404, b"<html>", errors.GreenroomError),
        (503, b'["not an object"]', errors.UnavailableError),
        (503, b'{"detail": "no code"}', errors.UnavailableError),
    ],
)
def test_an_answer_without_a_problem_document(driver, status, content, kind):
    driver.serve(httpx.Response(status, content=content))
    with pytest.raises(kind, match=str(status)):
        driver.call("models")


def test_a_member_named_message_does_not_collide(driver, wire):
    driver.serve(wire.problem(400, "invalid_input", "the detail", message="another"))
    with pytest.raises(errors.InvalidInput, match="the detail"):
        driver.call("models")


def test_no_server_names_the_fix(driver):
    driver.serve(httpx.ConnectError("connection refused"))
    with pytest.raises(errors.UnavailableError, match="greenroom up"):
        driver.call("models")


def test_importing_the_client_loads_neither_ray_nor_the_server():
    program = (
        "import sys, serve_app.client; "
        "print(sorted({m.partition('.')[0] for m in sys.modules} & {'ray', 'fastapi', 'sqlalchemy', 'lancedb'}))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"
