"""The stack that is up, and a second one with folders and ports of its own that tests may kill."""

from collections.abc import Iterator

import pytest

from stack.settings import Settings, load_settings
from stack.supervisor import Supervisor
from tests.second_stack import second_stack


@pytest.fixture(scope="session")
def settings() -> Settings:
    """The stack that `make up` started."""
    return load_settings()


@pytest.fixture(scope="module")
def spare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Supervisor]:
    """A second instance, not started. It is stopped and deleted at the end."""
    with second_stack(tmp_path_factory.mktemp("spare"), CASSANDRA_HEAP="512m") as stack:
        yield stack
