"""Numbers in sentences."""

import pytest

from nemo.utils.wording import quantity


@pytest.mark.parametrize("number, said", [(0, "0 files"), (1, "1 file"), (1000, "1,000 files")])
def test_a_noun_is_plural_except_after_one(number, said):
    assert quantity(number, "file") == said
