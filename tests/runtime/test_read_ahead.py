"""Threads work in advance, but not far; order, errors and ends are as without them."""

import threading
import time

import pytest

from captioning.runtime.read_ahead import map_ahead


@pytest.mark.parametrize(("count", "ahead"), [(0, 3), (1, 3), (7, 3), (7, 0), (7, 100)])
def test_items_come_in_order_with_their_results(count, ahead):
    def slow_first(item: int) -> int:
        time.sleep(0.01 * (item == 0))
        return item * item

    assert list(map_ahead(slow_first, range(count), ahead)) == [(item, item * item) for item in range(count)]


def test_it_is_never_further_ahead_than_asked():
    taken = []

    def items():
        for item in range(20):
            taken.append(item)
            yield item

    for item, _ in map_ahead(str, items(), 3):
        assert len(taken) <= item + 4


def test_an_error_is_raised_in_its_turn():
    results = map_ahead(lambda item: 1 // item, [1, 2, 0, 3], 10)
    assert [next(results), next(results)] == [(1, 1), (2, 0)]
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_what_is_no_longer_wanted_is_not_done():
    done, before = [], set(threading.enumerate())
    results = map_ahead(lambda item: (time.sleep(0.02), done.append(item)), range(1000), 500)
    next(results)
    results.close()
    assert len(done) < 100
    assert set(threading.enumerate()) <= before  # those of other tests may have ended meanwhile
