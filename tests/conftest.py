"""Fixtures that all tests share: the real stores, started only for the tests that ask."""

pytest_plugins = ["tests.services.valkey", "tests.services.postgres", "tests.services.system"]
