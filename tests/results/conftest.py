import pytest

from results.store import Store
from tests.results.store_making import finish, plan


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(tmp_path / "runs")


@pytest.fixture
def finished_store(store: Store) -> Store:
    """A store in which all of `plan()` is done."""
    for run in plan():
        finish(store, run)
    return store
