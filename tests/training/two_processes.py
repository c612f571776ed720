"""One process of a preference run: `python two_processes.py FOLDER ACCUMULATE`, as torchrun starts it."""

import importlib.util
import sys
from pathlib import Path

import torch

from hallo4.diffusion import PreferenceLossConfig
from hallo4.training import (
    AdapterConfig,
    AdapterOff,
    OptimizerConfig,
    PairBatch,
    ScheduleConfig,
    TrainConfig,
    add_lora,
    batch_indices,
    batch_visits,
    dpo_objective,
    evaluate_pairs,
    predict,
    train,
)


def toolbox():
    spec = importlib.util.spec_from_file_location("toolbox", Path(__file__).with_name("conftest.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main(folder: str, accumulate: int) -> None:
    torch.set_num_threads(1)
    tools = toolbox()
    model = add_lora(tools.make_dit(layers=1), AdapterConfig(rank=2))
    model.enable_gradient_checkpointing()
    pairs, reference, config = tools.make_pairs(5), AdapterOff(model), PreferenceLossConfig(beta=200.0)

    def data(index, generator):
        return tools.make_batch(pairs, batch_indices(5, 2, 0, index), batch_visits(5, 2, index))

    def preview(step, model):
        batch = PairBatch(**tools.make_batch(pairs, torch.arange(5), torch.zeros(5, dtype=torch.long)))
        return evaluate_pairs(model, [batch], predict, reference, config).summary()

    def guard(history):
        return "three previews are enough" if len(history) == 3 else None

    run = TrainConfig(
        name="pairs",
        steps=9,
        accumulate=accumulate,
        mixed_precision="no",
        log_every=1,
        preview_every=1,
        optimizer=OptimizerConfig(learning_rate=1e-2, weight_decay=0.0),
        schedule=ScheduleConfig(warmup_steps=2, anneal_fraction=0.0),
    )
    method = dpo_objective(predict, reference, config, "split")
    train(run, method, model, data, folder=Path(folder), on_preview=preview, guard=guard)
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
