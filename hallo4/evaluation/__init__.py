"""Metrics, intervals and reports. Names are imported when first used: importing the room costs nothing."""

from __future__ import annotations

from hallo4.lazy import lazy_names

_HOMES = {
    "evaluate_world": "world",
    "episode_seed": "world",
    "TRAINING_SEEDS": "world",
    "INSTRUMENT_SEEDS": "world",
    "EVALUATION_SEEDS": "world",
    "METRICS": "world_metrics",
    "report_table": "report",
    "bootstrap_interval": "statistics",
    "paired_difference": "statistics",
    "win_rate": "statistics",
    "wilson_interval": "statistics",
    "rated_wins": "statistics",
    "RatedWins": "statistics",
    "sign_test": "statistics",
    "holm": "statistics",
    "Interval": "statistics",
    "measure": "instrument",
    "load_observer": "instrument",
    "Measurement": "instrument",
    "ObserverData": "instrument_data",
    "observer_method": "instrument_data",
    "measure_speech_response": "speech",
    "compare_reports": "compare",
    "comparison_table": "compare",
    "fill_page": "pages",
    "check_page": "pages",
    "evaluate_motion": "motion_response",
    "evaluate_drift": "long_videos",
    "evaluate_videos": "videos",
    "videos_table": "video_report",
    "ToolSettings": "video_tools",
    "VIDEO_METRICS": "video_metrics",
    "SET_METRICS": "video_sets",
    "frechet_distance": "frechet",
    "kernel_distance": "frechet",
    "sync_score": "sync",
}

__all__ = sorted(_HOMES)

__getattr__ = lazy_names(__name__, _HOMES)
