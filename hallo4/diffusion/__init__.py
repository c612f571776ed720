"""Noising, targets, guidance, losses and the sampling loop: pure functions of tensors.

Conventions (see `hallo4.types`): sigma runs from 1 (noise) to 0 (data), velocity = noise - data.
"""

from __future__ import annotations

from hallo4.lazy import lazy_names

_HOMES = {
    "add_noise": "noising",
    "velocity_target": "noising",
    "target": "noising",
    "epsilon_error_factor": "noising",
    "sample_sigma": "flow",
    "flow_sigmas": "flow",
    "guide": "guidance",
    "clip_errors": "objective",
    "frame_errors": "objective",
    "sft_loss": "objective",
    "PairDrawConfig": "draws",
    "pair_draw": "draws",
    "pair_draws": "draws",
    "PreferenceLossConfig": "pair_loss",
    "PairErrors": "pair_loss",
    "PairStats": "pair_stats",
    "dpo_loss": "pair_loss",
    "keyed_generator": "keyed",
    "denoise": "sampling",
    "denoise_ddim": "discrete",
    "model_timestep": "discrete",
}

__all__ = sorted(_HOMES)

__getattr__ = lazy_names(__name__, _HOMES)
