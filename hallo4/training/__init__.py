"""The one loop: config, order, optimizers, mean weights, checkpoints, log; and the methods, what is learned:
fine-tuning on clips (`sft_method`) and on preference pairs (`pair_method`). Values come from recipes.

Names are imported when first used: importing the room costs nothing.
"""

from __future__ import annotations

from hallo4.lazy import lazy_names

_HOMES = {
    "train": "loop",
    "Method": "loop",
    "TrainResult": "loop",
    "TrainConfig": "config",
    "OptimizerConfig": "config",
    "ScheduleConfig": "config",
    "override": "config",
    "EMA": "ema",
    "add_lora": "lora",
    "merge_lora": "lora",
    "AdapterConfig": "lora",
    "adapter_state": "lora",
    "AdapterOff": "reference",
    "FrozenCopy": "reference",
    "unwrapped": "reference",
    "Table": "reference_table",
    "build_table": "reference_table",
    "table_stamp": "reference_table",
    "tensors_hash": "reference_table",
    "PairBatch": "pair_batch",
    "pair_step": "preference_step",
    "found_and_wanted": "denoising",
    "predict": "denoising",
    "prediction_of": "denoising",
    "dpo_objective": "preference_step",
    "TrainingMethod": "method",
    "SFTConfig": "sft",
    "sft_method": "sft",
    "sft_objective": "sft",
    "PairConfig": "pairs",
    "pair_method": "pairs",
    "TuningConfig": "tuning",
    "tuned": "tuning",
    "trained_in_words": "tuning",
    "training_autocast": "number_format",
    "evaluate_pairs": "preference_step",
    "reference_errors": "preference_step",
    "PreferenceGuard": "guards",
    "check_learning_rate": "startup_checks",
    "batch_indices": "order",
    "grouped_batch_indices": "order",
    "batch_visits": "order",
    "load_weights": "checkpoint",
    "training_device": "placement",
    "current_group": "ranks",
    "main_first": "ranks",
    "on_main": "ranks",
    "plans_for": "plan",
    "to_device_of": "placement",
    "read_log": "log",
    "plot_log": "log",
}

__all__ = sorted(_HOMES)

__getattr__ = lazy_names(__name__, _HOMES)
