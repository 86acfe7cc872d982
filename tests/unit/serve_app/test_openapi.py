"""The OpenAPI document says what the API does, and the pages need no other server."""

import re
from html.parser import HTMLParser

import pytest
from fastapi.routing import APIRoute
from pydantic import ValidationError

from serve_app import bodies

METHODS = {"get", "put", "post", "delete", "patch", "options", "head", "trace"}


@pytest.fixture
async def document(edge):
    return (await edge.http.get("/openapi.json")).json()


@pytest.fixture
def operations(document):
    return [
        (method, path, operation)
        for path, item in document["paths"].items()
        for method, operation in item.items()
        if method in METHODS
    ]


async def test_it_is_an_openapi_document(document):
    assert document["openapi"].startswith("3.1")
    assert document["info"]["title"] == "Greenroom"
    assert document["info"]["version"] == "1.2.3"
    assert document["info"]["description"]


async def test_every_route_is_in_it(edge, operations):
    described = {(method.upper(), path) for method, path, _ in operations}

    def routes(router):
        for route in router.routes:
            inner = getattr(route, "original_router", None) or getattr(route, "router", None)
            if inner is not None:
                yield from routes(inner)
            elif isinstance(route, APIRoute):
                yield route

    found = {
        (method, route.path_format) for route in routes(edge.app) if route.include_in_schema for method in route.methods
    }
    assert len(described) >= 13
    assert found <= described | {("HEAD", path) for _, path in described}
    assert {
        ("POST", "/api/v1/chat"),
        ("GET", "/api/v1/sessions"),
        ("POST", "/api/v1/sessions"),
        ("GET", "/api/v1/sessions/{session_id}"),
        ("DELETE", "/api/v1/sessions/{session_id}"),
        ("GET", "/api/v1/sessions/{session_id}/events"),
        ("GET", "/api/v1/turns/{turn_id}"),
        ("POST", "/api/v1/turns/{turn_id}/cancel"),
        ("GET", "/api/v1/turns/{turn_id}/events"),
        ("POST", "/api/v1/sessions/{session_id}/messages"),
        ("GET", "/api/v1/sessions/{session_id}/inbox"),
        ("PATCH", "/api/v1/sessions/{session_id}/inbox/{message_id}"),
        ("DELETE", "/api/v1/sessions/{session_id}/inbox/{message_id}"),
        ("POST", "/api/v1/sessions/{session_id}/pause"),
        ("POST", "/api/v1/sessions/{session_id}/resume"),
        ("POST", "/api/v1/sessions/{session_id}/interrupt"),
        ("POST", "/api/v1/sessions/{session_id}/fork"),
        ("GET", "/api/v1/approvals"),
        ("GET", "/api/v1/approvals/{approval_id}"),
        ("POST", "/api/v1/approvals/{approval_id}"),
        ("POST", "/api/v1/sessions/{session_id}/exec"),
        ("GET", "/api/v1/sessions/{session_id}/files"),
        ("GET", "/api/v1/sessions/{session_id}/files/{path}"),
        ("HEAD", "/api/v1/sessions/{session_id}/files/{path}"),
        ("PUT", "/api/v1/sessions/{session_id}/files/{path}"),
        ("DELETE", "/api/v1/sessions/{session_id}/files/{path}"),
        ("GET", "/api/v1/models"),
        ("GET", "/health"),
        ("GET", "/api/v1/costs"),
        ("POST", "/api/v1/estimate"),
        ("GET", "/livez"),
        ("GET", "/ready"),
        ("GET", "/metrics"),
    } == described


async def test_every_operation_has_a_name_a_summary_and_a_tag(operations):
    for method, path, operation in operations:
        assert operation["summary"], (method, path)
        assert operation["tags"], (method, path)
    ids = [operation["operationId"] for _, _, operation in operations]
    assert len(set(ids)) == len(ids)


async def test_every_reference_leads_somewhere(document):
    def references(node):
        if isinstance(node, dict):
            if "$ref" in node:
                yield node["$ref"]
            for value in node.values():
                yield from references(value)
        elif isinstance(node, list):
            for value in node:
                yield from references(value)

    for reference in set(references(document)):
        node = document
        for part in reference.removeprefix("#/").split("/"):
            assert part in node, reference
            node = node[part]


async def test_what_needs_a_key_says_so(document, operations):
    scheme = document["components"]["securitySchemes"]["HTTPBearer"]
    assert (scheme["type"], scheme["scheme"]) == ("http", "bearer")
    for method, path, operation in operations:
        guarded = path.startswith("/api/")
        assert bool(operation.get("security")) == guarded, (method, path)
        if guarded:
            assert "401" in operation["responses"], (method, path)
            assert "403" in operation["responses"], (method, path)


async def test_errors_are_described_as_the_problem_documents_they_are(operations):
    for method, path, operation in operations:
        for status, response in operation["responses"].items():
            if path.startswith("/api/") and status.startswith(("4", "5")):
                assert response["content"].keys() == {"application/problem+json"}, (method, path, status)


async def test_what_takes_a_body_says_how_it_may_be_wrong(operations):
    for method, path, operation in operations:
        if "requestBody" in operation:
            assert {"400", "413", "422"} <= operation["responses"].keys(), (method, path)


async def test_parameters_in_the_path_are_described(operations):
    for method, path, operation in operations:
        named = {p["name"] for p in operation.get("parameters", []) if p["in"] == "path"}
        assert named == set(re.findall(r"{(\w+)}", path)), (method, path)


async def test_every_post_may_carry_a_key(operations):
    for method, path, operation in operations:
        names = {p["name"].lower() for p in operation.get("parameters", []) if p["in"] == "header"}
        assert ("idempotency-key" in names) == (method == "post"), (method, path)
        if method == "post":
            assert "422" in operation["responses"], (method, path)


async def test_chat_has_examples_that_work(edge, document):
    properties = document["components"]["schemas"]["ChatRequest"]["properties"]
    example = {name: value["examples"][0] for name, value in properties.items() if "examples" in value}
    assert "message" in example

    try:
        bodies.ChatRequest.model_validate(example)
    except ValidationError as error:
        pytest.fail(str(error))

    stream = document["paths"]["/api/v1/chat"]["post"]["responses"]["200"]["content"]["text/event-stream"]
    assert "event: turn.completed" in stream["example"]


async def test_answers_are_as_described(edge, document):
    answer = await edge.say("Hi")
    for path, schema in (
        ("/api/v1/sessions", "SessionPage"),
        (f"/api/v1/sessions/{answer['session_id']}", "SessionOut"),
        (f"/api/v1/sessions/{answer['session_id']}/events", "EventPage"),
        (f"/api/v1/turns/{answer['turn_id']}", "TurnOut"),
        (f"/api/v1/turns/{answer['turn_id']}/events", "EventPage"),
        (f"/api/v1/sessions/{answer['session_id']}/inbox", "InboxList"),
        (f"/api/v1/sessions/{answer['session_id']}/files", "FileList"),
        ("/api/v1/approvals", "ApprovalPage"),
        ("/api/v1/models", "ModelList"),
        ("/health", "HealthOut"),
    ):
        body = (await edge.http.get(path)).json()
        described = document["components"]["schemas"][schema]["properties"].keys()
        assert body.keys() == described, path
    assert answer.keys() == document["components"]["schemas"]["ChatResponse"]["properties"].keys()
    forked = await edge.http.post(f"/api/v1/sessions/{answer['session_id']}/fork")
    assert forked.json().keys() == document["components"]["schemas"]["ForkOut"]["properties"].keys()
    ran = await edge.http.post(f"/api/v1/sessions/{answer['session_id']}/exec", json={"command": "ls"})
    assert ran.json().keys() == document["components"]["schemas"]["ExecOut"]["properties"].keys()
    problem = (await edge.http.get("/api/v1/turns/none")).json()
    assert problem.keys() >= document["components"]["schemas"]["Problem"]["properties"].keys()


async def test_models_are_listed_as_they_are(edge):
    assert (await edge.http.get("/api/v1/models")).json() == {
        "object": "list",
        "data": [
            {
                "id": "scripted",
                "name": "scripted",
                "context_length": 100_000,
                "prompt_usd": None,
                "completion_usd": None,
                "price_source": None,
            }
        ],
        "default": "scripted",
        "listed_at": None,
    }


# Pages ----------------------------------------------------------------------------------------------


class Addresses(HTMLParser):
    """Addresses that a page loads by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag, attrs):
        members = dict(attrs)
        if tag in {"script", "img", "iframe"} and members.get("src"):
            self.found.append(members["src"])
        if tag == "link" and members.get("href"):
            self.found.append(members["href"])


@pytest.mark.parametrize("page", ["/", "/costs", "/docs"])
async def test_a_page_loads_everything_from_here(edge, page):
    response = await edge.http.get(page)
    parser = Addresses()
    parser.feed(response.text)

    assert parser.found
    for address in parser.found:
        assert not re.match(r"(https?:)?//", address), address
        loaded = await edge.http.get(str(response.url.join(address)))
        assert loaded.status_code == 200, address
        assert loaded.headers["content-type"].split(";")[0] not in {"text/html", "application/problem+json"}, address
    assert not re.search(r"""(src|href)\s*=\s*["']https?://""", response.text)


async def test_the_docs_show_this_document(edge):
    text = (await edge.http.get("/docs")).text

    assert "/openapi.json" in text
    assert not re.search(r"https?://(?!test)", re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL))


@pytest.mark.parametrize(
    "path", ["/ui/../app.py", "/ui/%2e%2e/app.py", "/ui/..%2fapp.py", "/ui//etc/passwd", "/ui/", "/ui"]
)
async def test_only_the_files_of_the_page_are_served(edge, path):
    response = await edge.http.get(path, follow_redirects=True)

    assert response.status_code in {200, 404}
    assert "def create_api" not in response.text
    assert "root:" not in response.text


async def test_types_of_files_are_right(edge):
    for path, kind in (("/", "text/html"), ("/ui/app.js", "text/javascript"), ("/favicon.ico", "image/svg+xml")):
        assert (await edge.http.get(path)).headers["content-type"].startswith(kind)
