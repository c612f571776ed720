"""Copies of one store with real clips."""

import shutil

import pytest
from studio_clips import make_store


@pytest.fixture(scope="session")
def store_template(tmp_path_factory, hum):
    return make_store(tmp_path_factory.mktemp("studio") / "store", hum)


@pytest.fixture(autouse=True)
def quick_people(request, monkeypatch):
    """Answers may come at once: that the server's clock counts too is tried where it is the point."""
    if "patient" not in request.keywords:
        monkeypatch.setattr("hallo4.studio.plausible._SLACK_MS", 60_000)


@pytest.fixture
def store_folder(store_template, tmp_path):
    """A fresh copy: 4 conditions x 3 systems, so 12 pairs, of which one is gold."""
    return shutil.copytree(store_template, tmp_path / "store")


@pytest.fixture
def server(store_folder):
    """The studio of that copy, listening."""
    from studio_browser import Server

    made = Server(store_folder)
    yield made
    made.stop()


@pytest.fixture
def opened(store_folder):
    """opened(study) -> (studio, person): a studio, and who joins under a name."""
    pytest.importorskip("fastapi", reason="the extra `studio` is not installed")
    from fastapi.testclient import TestClient
    from studio_people import ONCE, Person

    from hallo4.studio.annotate import open_studio

    stack = []

    def make(asks=None):
        manager = open_studio(store_folder, study=asks or ONCE)
        studio = manager.__enter__()
        stack.append(manager)
        client = TestClient(studio.app)
        return studio, lambda name, **more: Person(client, studio.keys, name, **more)

    yield make
    for manager in reversed(stack):
        manager.__exit__(None, None, None)
