"""Things come from a thread that runs ahead, in order, and it is gone when they are no longer wanted."""

import threading

import pytest

from nemo.collections.nlp.data.samples.prefetch import prefetched


def threads():
    return [thread for thread in threading.enumerate() if thread.name == "batches"]


def test_items_keep_their_order_and_the_thread_ends():
    assert list(prefetched((i for i in range(10)), depth=2)) == list(range(10))
    assert threads() == []


def test_no_thread_is_left_when_items_are_no_longer_wanted():
    items = prefetched((i for i in range(1000)), depth=2)
    assert next(items) == 0
    assert len(threads()) == 1
    items.close()
    assert threads() == []


def test_closing_the_prefetch_closes_its_source():
    closed = []

    def source():
        try:
            yield from range(1000)
        finally:
            closed.append(threading.current_thread().name)

    items = prefetched(source(), depth=1)
    assert next(items) == 0
    items.close()
    assert closed == ["batches"]


def test_an_error_of_the_thread_is_raised_where_items_are_taken():
    def broken():
        yield 1
        raise ValueError("no more")

    items = prefetched(broken(), depth=2)
    assert next(items) == 1
    with pytest.raises(ValueError, match="no more"):
        next(items)
