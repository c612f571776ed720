"""Metrics, intervals and reports. Names are imported when first used: importing the room costs nothing."""

from __future__ import annotations

from hallo4.lazy import lazy_names

_HOMES = {
    "Metric": "metric",
    "Row": "report",
    "summary": "report",
    "read_report": "stored",
    "evaluate_world": "suites.world",
    "episode_seed": "suites.world",
    "TRAINING_SEEDS": "suites.world",
    "INSTRUMENT_SEEDS": "suites.world",
    "EVALUATION_SEEDS": "suites.world",
    "METRICS": "suites.world_metrics",
    "evaluate_videos": "suites.videos",
    "VIDEO_METRICS": "suites.video_metrics",
    "SET_METRICS": "suites.video_sets",
    "ToolSettings": "look.tools",
    "evaluate_motion": "suites.motion",
    "evaluate_drift": "suites.drift",
    "compare_reports": "suites.comparison",
    "tables_of": "suites.tables",
    "rich_table": "show.table",
    "fill_page": "show.markdown",
    "check_page": "show.markdown",
    "bootstrap_interval": "statistics",
    "wilson_interval": "statistics",
    "rated_wins": "statistics",
    "RatedWins": "statistics",
    "sign_test": "statistics",
    "holm": "statistics",
    "Interval": "statistics",
    "measure": "look.instrument",
    "load_observer": "look.instrument",
    "Measurement": "look.instrument",
    "measure_speech_response": "look.speech",
    "frechet_distance": "measures.frechet",
    "kernel_distance": "measures.frechet",
}

__all__ = sorted(_HOMES)

__getattr__ = lazy_names(__name__, _HOMES)
