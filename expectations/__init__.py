"""The Great Expectations suites."""
