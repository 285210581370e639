"""How the benchmarks time what they compare."""

from __future__ import annotations

import time

import pytest
from torch import get_num_threads, set_num_threads

from benchmarks.roofline import clock_of, fastest
from benchmarks.scan import best_times


@pytest.fixture
def one_thread():
    """Torch on one thread, and back."""
    before = get_num_threads()
    set_num_threads(1)
    yield
    set_num_threads(before)


def busy(seconds: float) -> None:
    """Keep the processor for a while."""
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def test_what_the_first_run_compiles_is_not_timed(one_thread):
    left = [0.6]
    best = best_times({"compiled": lambda: busy(left.pop() if left else 0.001)}, turns=1)
    assert not left and best["compiled"] < 0.1


def test_one_thread_is_timed_by_the_processor():
    assert fastest(lambda: time.sleep(0.05), 0.0, clock_of(1)) < 0.04 < fastest(lambda: time.sleep(0.05), 0.0)
    assert clock_of(2) is time.perf_counter
