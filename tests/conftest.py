"""What every suite shares: examples without deadlines, and the options that leave tests out, as `.ci/programs` asks."""

import pytest
from hypothesis import settings

# How long an example takes says more of the machine's load than of the code under test.
settings.register_profile("greenroom", deadline=None)
settings.load_profile("greenroom")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--without-docker", action="store_true", help="leave out tests that need a docker daemon")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--without-docker"):
        left_out = [item for item in items if _needs_docker(item)]
        items[:] = [item for item in items if item not in left_out]
        config.hook.pytest_deselected(items=left_out)


def _needs_docker(item: pytest.Item) -> bool:
    chosen = getattr(getattr(item, "callspec", None), "params", {})
    return "dockerd" in getattr(item, "fixturenames", ()) or chosen.get("backend") == "docker"
