"""pytest-benchmark suites: what a change must not make slower."""
