"""A workspace as a stream and back: what is kept, and what a hostile stream cannot do. Folders of the test stand for
the workspaces; the same is tried in real sandboxes by the conformance suite."""

import gzip
import io
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from actors.sandbox.inside import files, packing
from actors.sandbox.inside.archive import Archive
from actors.sandbox.inside.files import Refused

MIB = 1024 * 1024


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], Path]:
    """Make a folder the workspace."""

    def move(name: str) -> Path:
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        monkeypatch.setattr(files, "WORKSPACE", str(folder))
        return folder

    return move


def packed(max_bytes: int = 64 * MIB) -> bytes:
    archive, parts, first, more = Archive(), [], True, True
    while more:
        members, data = archive.answer("pack", {"first": first, "max": max_bytes}, b"")
        parts.append(data)
        first, more = False, members["more"]
    return b"".join(parts)


def unpack(stream: bytes, *, max_bytes: int = 64 * MIB, cut: int = 1000) -> None:
    archive = Archive()
    parts = [stream[start : start + cut] for start in range(0, max(1, len(stream)), cut)]
    for number, part in enumerate(parts):
        header = {"first": number == 0, "last": number == len(parts) - 1, "max": max_bytes}
        archive.answer("unpack", header, part)


def made_of(*members: tuple[tarfile.TarInfo, bytes], pax: bool = True) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", format=tarfile.PAX_FORMAT if pax else tarfile.GNU_FORMAT) as archive:
        for info, data in members:
            info.size = len(data) or info.size
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def damaged(stream: bytes) -> bytes:
    middle = len(stream) // 2
    return stream[:middle] + bytes([stream[middle] ^ 1]) + stream[middle + 1 :]


def member(name: str, kind: bytes = tarfile.REGTYPE, *, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def test_what_was_in_the_workspace_is_in_the_next_one(here: Callable[[str], Path]) -> None:
    old = here("old")
    names = ["plain.txt", "with space", "grüße-日本-🎭", "n" * 255, "new\nline", "-dash", "back\\slash"]
    for number, name in enumerate(names):
        (old / name).write_bytes(os.urandom(number * 1000))
    (old / os.fsdecode(b"not-\xff-utf8")).mkdir()
    (old / os.fsdecode(b"not-\xff-utf8/\xfe")).write_bytes(b"raw")
    (old / "empty folder" / "below").mkdir(parents=True)
    deep = old / "/".join(["deep" * 20] * 12)
    deep.mkdir(parents=True)
    (deep / "file").write_text("at the bottom")
    (old / "run.sh").write_text("#!/bin/sh")
    (old / "run.sh").chmod(0o755)
    (old / "secret").write_text("mine")
    (old / "secret").chmod(0o400)
    (old / "link").symlink_to("plain.txt")
    (old / "dangling").symlink_to("not there yet")
    os.utime(old / "run.sh", (1_000_000_000, 1_000_000_000))
    stream = packed()
    new = here("new")
    unpack(stream)
    assert tree(new) == tree(old)
    assert tree(new)["run.sh"] == (0o100755, 1_000_000_000, b"#!/bin/sh")


def tree(top: Path) -> dict[str, object]:
    return {str(path.relative_to(top)): _seen(path) for path in top.rglob("*")}


def _seen(path: Path) -> object:
    info = path.lstat()
    if path.is_symlink():
        return path.readlink()
    return (info.st_mode, int(info.st_mtime), b"" if path.is_dir() else path.read_bytes())


def test_it_is_a_tar_file_that_any_program_reads(here: Callable[[str], Path]) -> None:
    (here("old") / "a").write_text("b")
    with tarfile.open(fileobj=io.BytesIO(packed()), mode="r:gz") as archive:
        assert archive.getnames() == ["a"]


def test_many_small_files(here: Callable[[str], Path]) -> None:
    old = here("old")
    for number in range(2_000):
        folder = old / str(number % 100)
        folder.mkdir(exist_ok=True)
        (folder / f"{number}.txt").write_text(str(number))
    stream = packed()
    new = here("new")
    unpack(stream, cut=MIB)
    assert len([path for path in new.rglob("*") if path.is_file()]) == 2_000
    assert (new / "99" / "1999.txt").read_text() == "1999"


def test_what_leads_out_or_is_no_file_is_left_out(here: Callable[[str], Path], tmp_path: Path) -> None:
    (tmp_path / "outside").write_text("not yours")
    old = here("old")
    (old / "out").symlink_to("../outside")
    (old / "absolute").symlink_to("/etc/passwd")
    (old / "folder").mkdir()
    (old / "folder" / "up").symlink_to("../..")
    os.mkfifo(old / "pipe")
    (old / "twice").write_text("x")
    os.link(old / "twice", old / "hard")
    stream = packed()
    new = here("new")
    unpack(stream)
    assert sorted(path.name for path in new.rglob("*")) == ["folder", "hard", "twice"]


def test_folders_and_files_that_are_closed_are_kept_with_their_modes(
    here: Callable[[str], Path],
) -> None:
    old = here("old")
    (old / "closed" / "more").mkdir(parents=True)
    (old / "closed" / "more" / "file").write_text("x")
    for path, mode in [("closed/more/file", 0), ("closed/more", 0o500), ("closed", 0)]:
        (old / path).chmod(mode)
    stream = packed()
    assert (old / "closed").stat().st_mode & 0o777 == 0
    new = here("new")
    unpack(stream)
    assert (new / "closed").stat().st_mode & 0o777 == 0
    (new / "closed").chmod(0o700)
    assert (new / "closed" / "more").stat().st_mode & 0o777 == 0o500
    (new / "closed" / "more" / "file").chmod(0o600)
    assert (new / "closed" / "more" / "file").read_text() == "x"


def test_a_workspace_over_the_limit_is_not_packed(here: Callable[[str], Path]) -> None:
    with (here("old") / "sparse").open("wb") as file:
        file.truncate(10 * MIB)
    with pytest.raises(Refused, match=f"more than {MIB} bytes"):
        packed(MIB)


def test_too_many_files_are_not_packed(here: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "MAX_ENTRIES", 3)
    for number in range(4):
        (here("old") / str(number)).touch()
    with pytest.raises(Refused, match="more than 3 files"):
        packed()


@pytest.mark.parametrize(
    "stream",
    [
        pytest.param(made_of((member("../out"), b"x")), id="parent"),
        pytest.param(made_of((member("a/../../out"), b"x")), id="parent in the middle"),
        pytest.param(made_of((member("/out"), b"x")), id="absolute"),
        pytest.param(made_of((member("a//b"), b"x")), id="empty part"),
        pytest.param(made_of((member("."), b"x")), id="the workspace itself"),
        pytest.param(made_of((member("l", tarfile.SYMTYPE, target="/etc"), b"")), id="link out"),
        pytest.param(made_of((member("l", tarfile.SYMTYPE, target="a/../../x"), b"")), id="link up"),
        pytest.param(made_of((member("h", tarfile.LNKTYPE, target="/etc/passwd"), b"")), id="hard link"),
        pytest.param(made_of((member("d", tarfile.CHRTYPE), b"")), id="device"),
        pytest.param(made_of((member("b", tarfile.BLKTYPE), b"")), id="block device"),
        pytest.param(made_of((member("p", tarfile.FIFOTYPE), b"")), id="pipe"),
        pytest.param(made_of((member("s", tarfile.GNUTYPE_SPARSE), b"")), id="sparse"),
        pytest.param(made_of((member("x" * 200), b"x"), pax=False), id="a long name of another kind"),
        pytest.param(made_of((member("x" * 70_000), b"x")), id="a name without end"),
        pytest.param(made_of((member("a"), b"x" * 5000))[:-200], id="cut short"),
        pytest.param(damaged(made_of((member("a"), os.urandom(5000)))), id="damaged"),
        pytest.param(gzip.compress(b"\0" * 100_000), id="goes on after its end"),
        pytest.param(gzip.compress(b"x" * 512), id="no tar file"),
        pytest.param(b"no gzip stream", id="no gzip stream"),
        pytest.param(b"", id="nothing"),
    ],
)
@pytest.mark.parametrize("cut", [1, 512, MIB])
def test_a_hostile_stream_is_refused(here: Callable[[str], Path], tmp_path: Path, stream: bytes, cut: int) -> None:
    new = here("new")
    with pytest.raises(Refused):
        unpack(stream, cut=cut)
    assert [path.name for path in tmp_path.iterdir()] == ["new"]
    assert not any(path.is_symlink() for path in new.rglob("*"))


def test_nothing_is_written_through_a_link(here: Callable[[str], Path], tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    new = here("new")
    (new / "here").symlink_to(outside)
    with pytest.raises(OSError, match="here"):
        unpack(made_of((member("here/file"), b"x")))
    (new / "file").symlink_to(outside / "file")
    with pytest.raises(OSError, match="file"):
        unpack(made_of((member("file"), b"x")))
    assert list(outside.iterdir()) == []


def test_links_that_lead_out_only_together_are_removed(here: Callable[[str], Path], tmp_path: Path) -> None:
    new = here("new")
    unpack(
        made_of(
            (member("out", tarfile.SYMTYPE, target="here/../secret"), b""),
            (member("here", tarfile.SYMTYPE, target="."), b""),
        )
    )
    assert [path.name for path in new.iterdir()] == ["here"]


def test_a_bomb_ends_at_the_limit(here: Callable[[str], Path]) -> None:
    new = here("new")
    bomb = made_of(*((member(str(number)), b"\0" * MIB) for number in range(20)))
    assert len(bomb) < MIB / 20
    with pytest.raises(Refused, match=f"more than {4 * MIB} bytes"):
        unpack(bomb, max_bytes=4 * MIB, cut=MIB)
    assert sum(path.stat().st_size for path in new.iterdir()) <= 4 * MIB


def test_a_part_without_its_beginning_is_refused() -> None:
    with pytest.raises(ValueError, match="nothing is being packed"):
        Archive().answer("pack", {"first": False, "max": 1}, b"")
    with pytest.raises(ValueError, match="nothing is being unpacked"):
        Archive().answer("unpack", {"first": False, "last": True, "max": 1}, b"")
