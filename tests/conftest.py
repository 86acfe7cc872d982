"""What every suite shares: examples without deadlines, and the options that leave tests out, as `.ci/programs` asks."""

import pytest
from hypothesis import settings

# How long an example takes says more of the machine's load than of the code under test.
settings.register_profile("greenroom", deadline=None)
settings.load_profile("greenroom")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--without-gvisor", action="store_true", help="leave out tests that need gVisor's runsc")
    parser.addoption("--without-docker", action="store_true", help="leave out tests that need a docker daemon")
    parser.addoption("--bill-calls", type=int, default=1000, help="calls in the proof of the ledger against the bill")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for option, needs in (("--without-docker", _needs_docker), ("--without-gvisor", _needs_gvisor)):
        if config.getoption(option):
            left_out = [item for item in items if needs(item)]
            items[:] = [item for item in items if item not in left_out]
            config.hook.pytest_deselected(items=left_out)


def _needs_docker(item: pytest.Item) -> bool:
    return "dockerd" in getattr(item, "fixturenames", ()) or _backend(item) == "docker"


def _needs_gvisor(item: pytest.Item) -> bool:
    return item.path.name == "test_gvisor.py" or _backend(item) == "gvisor"


def _backend(item: pytest.Item) -> object:
    return getattr(getattr(item, "callspec", None), "params", {}).get("backend")
