"""Every run of the package, by name: `hallo4 train NAME`."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

from hallo4.errors import InputError
from hallo4.recipes.recipe import Recipe

_HOMES = {
    "tiny-autoencoder": ("tiny_autoencoder", "recipe"),
    "tiny-audio": ("tiny_audio", "recipe"),
    "tiny-observer": ("tiny_observer", "recipe"),
    "tiny-dit-sft": ("tiny_dit", "recipe"),
    "tiny-dpo": ("tiny_dpo", "recipe"),
    "tiny-winners": ("tiny_dpo", "winners_recipe"),
    "tiny-image-autoencoder": ("tiny_autoencoder", "image_recipe"),
    "tiny-unet-sft": ("tiny_unet", "recipe"),
    "tiny-unet-dpo": ("tiny_dpo", "unet_recipe"),
    "tiny-unet-winners": ("tiny_dpo", "unet_winners_recipe"),
    "hallo4-sft": ("any_model", "sft_recipe"),
    "hallo4-dpo": ("any_model", "dpo_recipe"),
    "hallo4-winners": ("any_model", "winners_recipe"),
    "tmm-expansion": ("tmm_expansion", "recipe"),
    "unet-rate": ("unet_rate", "recipe"),
}


def _load(module: str, function: str) -> Callable[[], Recipe]:
    return lambda: getattr(import_module(f"hallo4.recipes.{module}"), function)()


RECIPES: dict[str, Callable[[], Recipe]] = {name: _load(*home) for name, home in _HOMES.items()}
"""Name -> function that returns the recipe with its frozen configuration."""


def find_recipe(name: str) -> Recipe:
    """The recipe of that name, with hyphens or underscores. InputError: there is none."""
    known = name.replace("_", "-")
    if known not in RECIPES:
        raise InputError(f"{name!r} is not a recipe; there are {', '.join(RECIPES)}.")
    return RECIPES[known]()


__all__ = ["RECIPES", "Recipe", "find_recipe"]
