import pytest

from tests.core.sine import Graph


@pytest.fixture
def graph():
    return Graph()
