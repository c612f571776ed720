import hashlib
from types import SimpleNamespace

import huggingface_hub.constants
import pytest
from hub_server import LARGE, SMALL, Hub

from hallo4.weights.catalogue import BUNDLES, FILES, Bundle, HubFile, WeightFile


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A hub that the real client takes for the Hugging Face hub; waiting between attempts takes no time."""
    server = Hub()
    server.large["maker/model/net.pth"] = LARGE
    server.small["maker/model/config.json"] = SMALL
    template = server.url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", server.url)
    monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(huggingface_hub.constants, "DOWNLOAD_CHUNK_SIZE", 10_000)  # else larger than the file
    monkeypatch.setattr("huggingface_hub.file_download.time", SimpleNamespace(sleep=lambda seconds: None))
    monkeypatch.setenv("HALLO4_WEIGHTS", str(tmp_path / "all"))
    yield server
    server.close()


@pytest.fixture
def net():
    return WeightFile(
        "toy-net",
        "toys",
        "parts/net.pth",
        "a toy",
        "free",
        (HubFile("maker/model", "net.pth"),),
        size_bytes=len(LARGE),
        sha256=hashlib.sha256(LARGE).hexdigest(),
    )


@pytest.fixture
def settings():
    return WeightFile(
        "toy-config",
        "toys",
        "parts/config.json",
        "its sizes",
        "free",
        (HubFile("maker/model", "config.json"),),
    )


@pytest.fixture
def toys(monkeypatch, net, settings):
    """The bundle `toys` of both, in the catalogue."""
    monkeypatch.setitem(BUNDLES, "toys", Bundle("toys", "two files to play with", (net, settings)))
    for file in (net, settings):
        monkeypatch.setitem(FILES, file.name, file)
    return net, settings
