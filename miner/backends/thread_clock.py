"""A thread's own time: seconds on a processor, not those in which others had it."""

import time

thread_seconds = (
    time.thread_time if time.get_clock_info("thread_time").resolution < 1e-4 else time.perf_counter
)
"""Or wall time, where the other is too coarse to time a millisecond: on Windows it moves in 16 ms."""
