"""Fixtures that all tests share, one file a server."""

pytest_plugins = ["tests.fixtures_docker", "tests.fixtures_kafka"]
