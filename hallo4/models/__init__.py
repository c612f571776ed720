"""Networks and foreign checkpoints. Names are imported when first used: importing the room costs nothing."""

from __future__ import annotations

from hallo4.lazy import lazy_names

_HOMES = {
    "redistribute": "temporal_motion_modulation",
    "group_frames": "temporal_motion_modulation",
    "ungroup_frames": "temporal_motion_modulation",
    "AudioProjector": "projection",
    "SkeletonProjector": "projection",
    "PortraitDiT": "dit",
    "vace_context": "vace_context",
    "load_released_dit": "released_dit",
    "PortraitUNet": "portrait_unet",
    "load_released_unet": "released_unet",
    "start_from_sd15": "released_unet",
    "region_pyramid": "portrait_guides",
    "TinyVideoAutoencoder": "autoencoder",
    "WanAutoencoder": "wan_autoencoder",
    "LogMelFrontEnd": "log_mel",
    "audio_windows": "audio_features",
    "audio_windows_of": "audio_features",
    "PortraitObserver": "observer",
    "UMT5TextEncoder": "text_encoder",
}

__all__ = sorted(_HOMES)

__getattr__ = lazy_names(__name__, _HOMES)
