"""Every run of the package, by name: `hallo4 train NAME`."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

from hallo4.recipes.recipe import Recipe

_MODULES = {
    "tiny-autoencoder": "tiny_autoencoder",
    "tiny-audio": "tiny_audio",
    "tiny-observer": "tiny_observer",
    "tiny-dit-sft": "tiny_dit",
}


def _load(name: str) -> Callable[[], Recipe]:
    return lambda: import_module(f"hallo4.recipes.{_MODULES[name]}").recipe()


RECIPES: dict[str, Callable[[], Recipe]] = {name: _load(name) for name in _MODULES}
"""Name -> function that returns the recipe with its frozen configuration."""

__all__ = ["RECIPES", "Recipe"]
