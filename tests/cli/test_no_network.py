"""No command asks the network for anything that was not asked for: every way out is closed and counted."""

import socket

import pytest

from hallo4.cli import main


@pytest.fixture
def asked(monkeypatch):
    """What was asked of the network: nothing gets through."""
    found = []

    def refused(*words, **_):
        found.append(words)
        raise OSError("the network is closed in this test")

    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, refused)
    for name in ("getaddrinfo", "create_connection", "gethostbyname"):
        monkeypatch.setattr(socket, name, refused)
    return found


TYPO = "somebody/a-model-that-is-not-here"


@pytest.mark.parametrize(
    "words",
    [
        f"animate portrait.png speech.wav --model {TYPO}",
        f"doctor --model {TYPO}",
        f"train tiny-autoencoder -o run --set start_from={TYPO}",
        f"train tiny-dit-sft -o run --set autoencoder={TYPO}",
        f"train tiny-dit-sft -o run --set model={TYPO}",
        f"train tiny-dpo -o run --set model={TYPO} --set store={TYPO}",
        f"evaluate world -o report.json --model {TYPO}",
        f"evaluate motion -o report.json --model {TYPO}",
        f"evaluate drift -o report.json --model {TYPO}",
        f"evaluate compare a={TYPO} b={TYPO} -o report.json",
        f"evaluate videos {TYPO} --against {TYPO} -o report.json",
        f"keypoints {TYPO} -o out.json",
        f"weights convert {TYPO} -o model",
        f"prefer candidates {TYPO} --checkpoint {TYPO}",
        f"prefer import {TYPO} {TYPO} --format parquet",
    ],
)
def test_a_name_that_is_not_here_is_looked_for_nowhere_else(words, asked, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(words.split()) == 2
    assert asked == []
    said = capsys.readouterr().err.strip().splitlines()
    assert [line for line in said if line.startswith("hallo4: error: ")] == said[-1:]


def test_training_from_a_folder_asks_no_server(asked, tmp_path):
    from hallo4.models import TinyVideoAutoencoder
    from hallo4.pipelines.model_folder import saved_autoencoder

    TinyVideoAutoencoder(latent_channels=4, fine_width=8, coarse_width=16).save_pretrained(tmp_path / "a")
    assert saved_autoencoder(tmp_path / "a").config.latent_channels == 4
    assert asked == []
