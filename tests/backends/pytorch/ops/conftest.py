import pytest

from nemo.backends.pytorch.ops import native


@pytest.fixture
def kernels():
    """The native kernels; tests of them are skipped where there is no compiler."""
    if not native.build():
        pytest.skip(native.library.problem)
    return native.library.kernels
