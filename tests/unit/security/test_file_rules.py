"""Which files may cross the border of a sandbox, by name, by place and by size."""

import pytest

from actors.core.settings import Settings
from actors.security.file_rules import path_refusal, place, size_refusal
from actors.wiring.policy import sandbox_policy

RULES = sandbox_policy(Settings()).files


@pytest.mark.parametrize(
    "path",
    ["a.txt", ".", "/workspace", "/workspace/a/b", "a/../b", "environment", "a.key.txt", "keys/x", ".env.example"],
)
def test_ordinary_files_of_the_workspace_are_allowed(path):
    assert path_refusal(place(path), RULES) is None


@pytest.mark.parametrize(
    ("path", "rule"),
    [
        (".env", "blocked_files"),
        ("a/.env", "blocked_files"),
        (".env/x", "blocked_files"),
        (".ENV", "blocked_files"),
        ("a/server.key", "blocked_files"),
        ("x.PEM", "blocked_files"),
        ("a/../.env", "blocked_files"),
        ("/etc/passwd", "allowed_directories"),
        ("../etc/passwd", "allowed_directories"),
        ("/workspace2/x", "allowed_directories"),
        ("/tmp/x", "allowed_directories"),
    ],
)
def test_blocked_files_and_other_places_are_refused(path, rule):
    refusal = path_refusal(place(path), RULES)
    assert refusal is not None
    assert refusal.rule == rule


@pytest.mark.parametrize("path", ["/etc/passwd", "/etc/shadow"])
def test_whole_paths_are_blocked_where_their_folder_is_allowed(path):
    rules = sandbox_policy(Settings(policy_allowed_directories=("/",))).files
    refusal = path_refusal(path, rules)
    assert refusal is not None
    assert refusal.rule == "blocked_files"
    assert path_refusal("/etc/hosts", rules) is None


def test_only_a_part_of_the_workspace_may_be_allowed():
    rules = sandbox_policy(Settings(policy_allowed_directories=("/workspace/out",))).files
    assert path_refusal(place("out/a"), rules) is None
    assert path_refusal(place("a"), rules) is not None
    assert path_refusal(place("outside"), rules) is not None


def test_a_file_may_have_100_megabytes():
    assert size_refusal("f", 100 * 1024 * 1024, RULES) is None
    refusal = size_refusal("f", 100 * 1024 * 1024 + 1, RULES)
    assert refusal is not None
    assert refusal.rule == "max_file_size"
