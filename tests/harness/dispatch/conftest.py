import pytest


@pytest.fixture
def bench(standin_jobs):
    return standin_jobs
