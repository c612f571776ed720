"""`NAME=PATH`: what is a name, and what is a path with an `=` in it."""

from pathlib import Path

import pytest

from hallo4.errors import InputError
from hallo4.evaluation.run import named_models, split_name


def test_a_name_stands_before_the_first_equals_sign() -> None:
    assert split_name("ours=runs/a=b/model") == ("ours", "runs/a=b/model")
    assert split_name("runs/model") == (None, "runs/model")
    assert split_name(Path("runs/model")) == (None, "runs/model")


def test_a_path_that_exists_is_not_taken_apart(tmp_path: Path) -> None:
    folder = tmp_path / "beta=500"
    folder.mkdir()
    assert split_name(folder) == (None, str(folder))
    assert split_name(f"low={folder}") == ("low", str(folder))


@pytest.mark.parametrize("word", ["=runs/model", "ours=", "="])
def test_half_a_pair_is_a_path(word: str) -> None:
    assert split_name(word) == (None, word)


def test_models_keep_their_order_and_are_called_as_written_without_a_name() -> None:
    models = named_models(["truth", "rho-2=runs/b/model", "autoencoder:tiny-dit"])
    assert list(models.items()) == [
        ("truth", "truth"), ("rho-2", "runs/b/model"), ("autoencoder:tiny-dit", "autoencoder:tiny-dit"),
    ]  # fmt: skip


def test_one_name_for_two_models_is_refused() -> None:
    with pytest.raises(InputError, match=r"Two models are called 'a'\. Give them names: NAME=MODEL"):
        named_models(["a=truth", "a=tiny-dit"])


def test_no_model_is_refused() -> None:
    with pytest.raises(InputError, match="at least one is needed"):
        named_models([])
