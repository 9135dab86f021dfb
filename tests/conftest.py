"""Options of every test run.

    pytest --trio-seed 42      tasks are scheduled in the order that this seed gives, in every test

Without it trio shuffles as it likes, which finds more; with it a failure that depends on the order
of tasks can be repeated (style A10).
"""

import pytest
import trio._core._run as trio_run
from hypothesis import settings

settings.register_profile("paas", deadline=None)  # a busy machine is no failure
settings.load_profile("paas")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--trio-seed", type=int, default=None, help="fix the scheduling of trio tasks")


@pytest.fixture(autouse=True)
def scheduling_seed(request: pytest.FixtureRequest) -> None:
    """Before each test, so that one test alone runs as it did among the others."""
    seed = request.config.getoption("--trio-seed")
    if seed is not None:
        trio_run._ALLOW_DETERMINISTIC_SCHEDULING = True
        trio_run._r.seed(seed)
