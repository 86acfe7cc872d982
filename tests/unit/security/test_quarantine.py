"""What was refused is kept apart, within a bound, and never at the price of the refusal."""

import stat

from actors.security.quarantine import Quarantine


async def test_contents_are_kept_for_the_operator_alone(tmp_path):
    kept = await Quarantine(tmp_path / "q", max_bytes=10).keep("aud_1", b"secret")
    assert kept == str(tmp_path / "q" / "aud_1")
    assert (tmp_path / "q" / "aud_1").read_bytes() == b"secret"
    assert stat.S_IMODE((tmp_path / "q" / "aud_1").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "q").stat().st_mode) == 0o700


async def test_a_full_quarantine_keeps_what_it_has(tmp_path):
    quarantine = Quarantine(tmp_path / "q", max_bytes=10)
    assert await quarantine.keep("aud_1", b"123456") is not None
    assert await quarantine.keep("aud_2", b"12345") is None
    assert await quarantine.keep("aud_3", b"1234") is not None
    assert sorted(file.name for file in (tmp_path / "q").iterdir()) == ["aud_1", "aud_3"]


async def test_a_disk_that_says_no_is_no_failure(tmp_path):
    (tmp_path / "q").write_text("a file where the folder should be")
    assert await Quarantine(tmp_path / "q", max_bytes=10).keep("aud_1", b"x") is None


async def test_nothing_is_written_over(tmp_path):
    quarantine = Quarantine(tmp_path / "q", max_bytes=10)
    await quarantine.keep("aud_1", b"first")
    assert await quarantine.keep("aud_1", b"x") is None
    assert (tmp_path / "q" / "aud_1").read_bytes() == b"first"
