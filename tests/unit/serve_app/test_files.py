"""Files of a workspace over HTTP: what is written can be read, and no path leads elsewhere or loses anything."""

import asyncio

import pytest

from actors.core.errors import SandboxUnavailable
from actors.testing.sandboxes import FakeSandboxes
from serve_app.routes import files

MIB = 1024 * 1024


@pytest.fixture
def sandboxes():
    return FakeSandboxes()


@pytest.fixture
async def edge(make_edge, sandboxes):
    made = await make_edge(sandboxes=sandboxes, policy_max_file_mb=10)
    assert (await made.http.post("/api/v1/sessions", json={"id": "s"})).status_code == 201
    return made


@pytest.fixture
def at():
    """The address of a path that is written as it shall be sent."""
    return lambda path: f"/api/v1/sessions/s/files/{path}"


# Writing and reading --------------------------------------------------------------------------------


async def test_what_is_put_is_got(edge, at):
    data = bytes(range(256))
    new = await edge.http.put(at("a/b.bin"), content=data)
    again = await edge.http.put(at("a/b.bin"), content=data[::-1])
    got = await edge.http.get(at("a/b.bin"))

    assert (new.status_code, again.status_code) == (201, 204)
    assert (new.content, again.content) == (b"", b"")
    assert (got.status_code, got.content) == (200, data[::-1])
    assert got.headers["content-length"] == "256"
    assert got.headers["accept-ranges"] == "bytes"
    assert got.headers["cache-control"] == "no-store"
    assert not edge.host._sessions


@pytest.mark.parametrize("size", [0, files.PIECE_BYTES, files.PIECE_BYTES + 1, 3 * files.PIECE_BYTES + 7])
async def test_a_file_of_any_size_comes_whole(edge, at, size):
    data = bytes(n % 251 for n in range(1000)) * (size // 1000 + 1)
    assert (await edge.http.put(at("f"), content=data[:size])).status_code == 201
    assert (await edge.http.get(at("f"))).content == data[:size]


async def test_a_body_in_pieces_is_taken(edge, at):
    async def pieces():
        for number in range(3):
            yield bytes([number]) * MIB

    assert (await edge.http.put(at("f"), content=pieces())).status_code == 201
    assert len((await edge.http.get(at("f"))).content) == 3 * MIB


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_file_that_is_too_large_is_refused_before_it_is_read(edge, at, problem_of, chunked):
    sent = 0

    async def pieces():
        nonlocal sent
        while sent < 100:
            sent += 1
            yield bytes(MIB)

    if chunked:
        answer = await edge.http.put(at("f"), content=pieces())
        assert sent <= 12
    else:
        answer = await edge.http.put(at("f"), content=b"x", headers={"Content-Length": str(10 * MIB + 1)})
    assert "10" in problem_of(answer, 413, "file_too_large")["detail"]
    assert (await edge.http.get("/api/v1/sessions/s/files")).json()["data"] == []
    assert (await edge.http.put(at("f"), content=bytes(10 * MIB))).status_code == 201


async def test_large_files_are_taken_a_few_at_a_time(edge, at, sandboxes):
    """A replica holds each in memory until it is written; small ones pass."""
    gate, full, writing = asyncio.Event(), asyncio.Event(), 0
    write = sandboxes.write

    async def slow(*args):
        nonlocal writing
        if len(args[2]) > MIB:
            writing += 1
            if writing == 4:
                full.set()
            await gate.wait()
        await write(*args)

    sandboxes.write = slow
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        for number in range(8):
            group.create_task(edge.http.put(at(f"large{number}"), content=bytes(MIB + 1)))
        await full.wait()
        assert (await edge.http.put(at("small"), content=b"x")).status_code == 201
        assert writing == 4
        gate.set()
    assert len((await edge.http.get("/api/v1/sessions/s/files")).json()["data"]) == 9


async def test_head_says_what_get_would(edge, at):
    await edge.http.put(at("a.txt"), content=b"hello")
    head, got = await edge.http.head(at("a.txt")), await edge.http.get(at("a.txt"))
    assert (head.status_code, head.content) == (200, b"")
    for name in ("content-length", "content-type", "content-disposition", "accept-ranges", "x-content-type-options"):
        assert head.headers[name] == got.headers[name]
    assert (await edge.http.head(at("none"))).status_code == 404


async def test_a_file_that_changes_while_it_is_read_is_not_taken_for_whole(edge, at, sandboxes, logged):
    await edge.http.put(at("f"), content=bytes(3 * MIB))
    read = sandboxes.read

    async def shrinking(session_id, path, *, offset=0, max_bytes):
        part = await read(session_id, path, offset=offset, max_bytes=max_bytes)
        await sandboxes.write(session_id, path, b"short")
        return part

    sandboxes.read = shrinking
    got = await edge.http.get(at("f"))
    assert len(got.content) < int(got.headers["content-length"]) == 3 * MIB  # a server closes the connection here
    assert [entry["event"] for entry in logged if entry["log_level"] == "warning"] == ["download broken off"]


# Parts ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "part", "told"),
    [
        ("bytes=0-3", b"0123", "bytes 0-3/10"),
        ("bytes=8-", b"89", "bytes 8-9/10"),
        ("bytes=-3", b"789", "bytes 7-9/10"),
        ("bytes=4-400", b"456789", "bytes 4-9/10"),
        ("bytes=-400", b"0123456789", "bytes 0-9/10"),
    ],
)
async def test_a_part_is_got(edge, at, asked, part, told):
    await edge.http.put(at("f"), content=b"0123456789")
    got = await edge.http.get(at("f"), headers={"Range": asked})
    assert (got.status_code, got.content, got.headers["content-range"]) == (206, part, told)
    assert got.headers["content-length"] == str(len(part))


@pytest.mark.parametrize("asked", ["bytes=0-1,4-5", "lines=1-2", "bytes=-", "bytes=5-2", "bytes", "bytes=a-b"])
async def test_what_is_no_range_gets_the_whole(edge, at, asked):
    await edge.http.put(at("f"), content=b"0123456789")
    got = await edge.http.get(at("f"), headers={"Range": asked})
    assert (got.status_code, got.content) == (200, b"0123456789")


async def test_a_range_under_a_condition_gets_the_whole(edge, at):
    await edge.http.put(at("f"), content=b"0123456789")
    got = await edge.http.get(at("f"), headers={"Range": "bytes=0-1", "If-Range": '"x"'})
    assert (got.status_code, got.content) == (200, b"0123456789")


@pytest.mark.parametrize(("content", "asked"), [(b"0123456789", "bytes=10-"), (b"", "bytes=0-"), (b"0", "bytes=-0")])
async def test_a_part_that_is_not_there(edge, at, problem_of, content, asked):
    await edge.http.put(at("f"), content=content)
    answer = await edge.http.get(at("f"), headers={"Range": asked})
    problem_of(answer, 416, "range_not_satisfiable")
    assert answer.headers["content-range"] == f"bytes */{len(content)}"


async def test_a_part_of_a_large_file_over_several_pieces(edge, at):
    data = b"".join(number.to_bytes(4, "big") for number in range(MIB))
    await edge.http.put(at("f"), content=data)
    got = await edge.http.get(at("f"), headers={"Range": f"bytes=5-{3 * MIB}"})
    assert got.content == data[5 : 3 * MIB + 1]


# What a browser makes of it -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "kind", "shown"),
    [
        ("a.txt", "text/plain; charset=utf-8", True),
        ("a.png", "image/png", True),
        ("a.JPG", "image/jpeg", True),
        ("a.html", "text/html", False),
        ("a.svg", "image/svg+xml", False),
        ("a.xml", "text/xml", False),
        ("a.pdf", "application/pdf", False),
        ("a.txt.gz", "application/octet-stream", False),
        ("a.svgz", "application/octet-stream", False),
        ("no-ending", "application/octet-stream", False),
    ],
)
async def test_only_what_a_browser_does_not_run_is_shown_by_one(edge, at, name, kind, shown):
    await edge.http.put(at(name), content=b"<script>alert(1)</script>")
    got = await edge.http.get(at(name))
    assert got.headers["content-type"] == kind
    assert got.headers["x-content-type-options"] == "nosniff"
    disposition, _, named = got.headers["content-disposition"].partition("; ")
    assert disposition == ("inline" if shown else "attachment")
    assert named == f"filename*=UTF-8''{name}"


# Listing and removing -------------------------------------------------------------------------------


async def test_a_listing_is_bounded_and_says_so(edge, at):
    for name in ("b/2", "b/1", "a"):
        await edge.http.put(at(name), content=b"xy")

    async def listed(**query):
        answer = (await edge.http.get("/api/v1/sessions/s/files", params=query)).json()
        return [(entry["path"], entry["type"], entry["size_bytes"]) for entry in answer["data"]], answer["truncated"]

    whole = [("a", "file", 2), ("b", "folder", 0), ("b/1", "file", 2), ("b/2", "file", 2)]
    assert await listed() == (whole, False)
    assert await listed(limit=4) == (whole, False)
    assert await listed(limit=3) == (whole[:3], True)
    for folder in ("b", "b/"):
        assert await listed(path=folder) == (whole[2:], False)
    for workspace in ("", ".", "./"):
        assert await listed(path=workspace) == (whole, False)


@pytest.mark.parametrize("limit", [0, 1001, "many"])
async def test_a_listing_has_limits(edge, problem_of, limit):
    problem_of(await edge.http.get("/api/v1/sessions/s/files", params={"limit": limit}), 422, "invalid_input")


@pytest.mark.parametrize(("path", "status"), [("none", 404), ("a", 404), ("..", 400), ("/etc", 400), ("a//b", 400)])
async def test_what_is_no_folder_is_not_listed(edge, at, path, status):
    await edge.http.put(at("a"), content=b"x")
    answer = await edge.http.get("/api/v1/sessions/s/files", params={"path": path})
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")


async def test_a_file_is_removed_once(edge, at, problem_of):
    await edge.http.put(at("a/b"), content=b"x")
    assert (await edge.http.delete(at("a/b"))).status_code == 204
    problem_of(await edge.http.delete(at("a/b")), 404, "file_not_found")
    problem_of(await edge.http.get(at("a/b")), 404, "file_not_found")


async def test_a_folder_is_removed_with_what_is_in_it_only_when_that_is_said(edge, at, problem_of):
    await edge.http.put(at("a/b/c"), content=b"x")
    await edge.http.put(at("other"), content=b"x")
    problem_of(await edge.http.delete(at("a")), 409, "workspace_conflict")
    assert (await edge.http.get(at("a/b/c"))).status_code == 200
    assert (await edge.http.delete(at("a?recursive=true"))).status_code == 204
    listed = (await edge.http.get("/api/v1/sessions/s/files")).json()["data"]
    assert [entry["path"] for entry in listed] == ["other"]


async def test_a_folder_is_no_file(edge, at, problem_of):
    await edge.http.put(at("a/b"), content=b"x")
    problem_of(await edge.http.get(at("a")), 409, "workspace_conflict")
    problem_of(await edge.http.put(at("a"), content=b"x"), 409, "workspace_conflict")
    problem_of(await edge.http.put(at("a/b/c"), content=b"x"), 409, "workspace_conflict")
    assert (await edge.http.get(at("a/b"))).content == b"x"


# Paths ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        "%2e%2e/%2e%2e/etc/passwd",
        "a/%2e%2e/b",
        "a/%2e/b",
        "%2Fetc%2Fpasswd",
        "/etc/passwd",
        "",
        "a/",
        "a%2F",
        "a//b",
        "a%00b",
        "%ff",
        "%c3",
        "a" * 256,
        "ä" * 128,
        "/".join(["a" * 200] * 21),
    ],
)
async def test_what_is_no_path_of_the_workspace_is_refused_and_touches_nothing(edge, at, sandboxes, problem_of, path):
    for method in ("GET", "PUT", "DELETE"):
        answer = await edge.http.request(method, at(path), content=b"x" if method == "PUT" else None)
        problem_of(answer, 400, "invalid_path")
    assert (await edge.http.head(at(path))).status_code == 400
    assert not await sandboxes.holds("s")
    assert edge.audit.records == []


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("a%2Fb", "a/b"),
        ("%C3%A4%E4%B8%AD%F0%9F%98%80.txt", "ä中😀.txt"),
        ("e%CC%81", "e\u0301"),
        ("a%20b%3Fc%23d%25e", "a b?c#d%e"),
        ("a%0Ab", "a\nb"),
        ("..a", "..a"),
        ("...", "..."),
        ("%2E%2Ehidden", "..hidden"),
        ("a%5Cb", "a\\b"),
        ("a" * 255, "a" * 255),
    ],
)
async def test_every_name_that_a_file_may_have_can_be_written(edge, at, path, name):
    assert (await edge.http.put(at(path), content=b"x")).status_code == 201
    listed = (await edge.http.get("/api/v1/sessions/s/files")).json()["data"]
    assert listed[-1]["path"] == name
    got = await edge.http.get(at(path))
    assert got.content == b"x"
    assert "\n" not in got.headers["content-disposition"]
    assert (await edge.http.delete(at(path))).status_code == 204
    assert (await edge.http.get(at(path))).status_code == 404


# Policy and audit -----------------------------------------------------------------------------------


async def test_what_the_policy_refuses_is_403_and_kept_aside(edge, at, problem_of):
    refusal = problem_of(await edge.http.put(at("a/.env"), content=b"SECRET=1"), 403, "policy_refused")
    assert ".env" in refusal["detail"]
    (record,) = [record for record in edge.audit.records if record.action == "file.write"]
    assert (record.decision, record.rule, record.detail["by"]) == ("refused", "blocked_files", "person")
    (kept,) = edge.services.settings.quarantine_dir.iterdir()
    assert kept.read_bytes() == b"SECRET=1"


@pytest.mark.parametrize("hidden", [".env", "c"])
async def test_a_listing_that_does_not_fit_says_so_whatever_was_asked_for(edge, at, sandboxes, hidden):
    for name in ("a", "b", hidden):
        await sandboxes.write("s", name, b"")
    sandboxes.listed_max = 2
    listed = (await edge.http.get("/api/v1/sessions/s/files", params={"limit": 1000})).json()
    assert ({entry["path"] for entry in listed["data"]} <= {"a", "b"}, listed["truncated"]) == (True, True)


async def test_what_is_not_seen_whole_is_not_removed(edge, at, sandboxes, problem_of):
    """The part that the policy does not see may hold what must not go."""
    for name in ("a/a", "a/b", "a/c.env", "a/z"):
        await sandboxes.write("s", name, b"")
    sandboxes.listed_max = 2
    problem_of(await edge.http.delete(at("a?recursive=true")), 409, "workspace_conflict")
    assert (await sandboxes.stat("s", "a/z")).kind == "file"


async def test_what_the_policy_hides_is_neither_read_nor_listed_nor_removed(edge, at, sandboxes, problem_of):
    await sandboxes.write("s", "a/.env", b"SECRET=1")
    await sandboxes.write("s", "a/seen", b"x")
    problem_of(await edge.http.get(at("a/.env")), 403, "policy_refused")
    assert (await edge.http.head(at("a/.env"))).status_code == 403
    for path in ("a/.env", "a?recursive=true"):
        problem_of(await edge.http.delete(at(path)), 403, "policy_refused")
    listed = (await edge.http.get("/api/v1/sessions/s/files", params={"limit": 2})).json()
    assert ([entry["path"] for entry in listed["data"]], listed["truncated"]) == (["a", "a/seen"], False)
    assert (await sandboxes.read("s", "a/.env", max_bytes=10)).data == b"SECRET=1"


async def test_a_link_leads_no_further_than_the_policy(edge, at, sandboxes, problem_of):
    await sandboxes.write("s", ".env", b"SECRET=1")
    sandboxes.links["innocent.txt"] = ".env"
    problem_of(await edge.http.get(at("innocent.txt")), 403, "policy_refused")


async def test_what_is_written_and_removed_is_audited_with_who_did_it(edge, at):
    await edge.http.put(at("a"), content=b"x")
    await edge.http.get(at("a"))
    await edge.http.delete(at("a"))
    assert [(r.action, r.decision, r.user_id, r.turn_id) for r in edge.audit.records] == [
        ("file.write", "allowed", "user_admin", None),
        ("file.remove", "allowed", "user_admin", None),
    ]
    for record in edge.audit.records:
        assert (record.detail["by"], len(record.detail["key_id"])) == ("person", 12)


async def test_what_cannot_be_audited_is_not_done(edge, at, sandboxes, problem_of):
    await edge.http.put(at("a"), content=b"x")
    edge.audit.unavailable = True
    problem_of(await edge.http.put(at("a"), content=b"y"), 503, "store_unavailable")
    problem_of(await edge.http.delete(at("a")), 503, "store_unavailable")
    assert (await sandboxes.read("s", "a", max_bytes=1)).data == b"x"


# Whose ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
async def test_files_of_somebody_elses_session_are_not_found(edge, at, sandboxes, stranger, problem_of, method):
    await edge.http.put(at("a"), content=b"x")
    content = b"y" if method == "PUT" else None
    problem_of(await stranger.request(method, at("a"), content=content), 404, "session_not_found")
    missing = await edge.http.request(method, "/api/v1/sessions/none/files/a", content=content)
    problem_of(missing, 404, "session_not_found")
    problem_of(await stranger.get("/api/v1/sessions/s/files"), 404, "session_not_found")
    assert (await sandboxes.read("s", "a", max_bytes=1)).data == b"x"
    assert not await sandboxes.holds("none")


async def test_reading_and_writing_need_their_rights(edge, at, problem_of):
    await edge.http.put(at("a"), content=b"x")
    async with edge.client(await edge.key_of("user_admin", "sessions:read")) as reader:
        assert (await reader.get(at("a"))).content == b"x"
        assert (await reader.get("/api/v1/sessions/s/files")).status_code == 200
        problem_of(await reader.put(at("a"), content=b"y"), 403, "forbidden")
        problem_of(await reader.delete(at("a")), 403, "forbidden")
    async with edge.client(await edge.key_of("user_admin", "sessions:write")) as writer:
        problem_of(await writer.get(at("a")), 403, "forbidden")
        assert (await writer.put(at("a"), content=b"y")).status_code == 204


async def test_files_go_with_their_session(edge, at, sandboxes, problem_of):
    await edge.http.put(at("a"), content=b"x")
    assert (await edge.http.delete("/api/v1/sessions/s")).status_code == 204
    problem_of(await edge.http.get(at("a")), 404, "session_not_found")
    problem_of(await edge.http.put(at("a"), content=b"x"), 404, "session_not_found")
    assert not await sandboxes.holds("s")


async def test_without_a_sandbox_it_is_unavailable(make_edge, at, problem_of):
    edge = await make_edge(sandboxes=FakeSandboxes(unavailable=SandboxUnavailable("no bubblewrap")))
    await edge.http.post("/api/v1/sessions", json={"id": "s"})
    for method in ("GET", "PUT", "DELETE"):
        problem_of(await edge.http.request(method, at("a")), 503, "sandbox_unavailable")
    problem_of(await edge.http.get("/api/v1/sessions/s/files"), 503, "sandbox_unavailable")
