"""The training loop, on a linear regression that takes milliseconds: resume, accumulation, limits, guards."""

import errno
import json
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from hallo4.errors import Cancelled, CheckpointError, Hallo4Error, InputError, OutputError
from hallo4.lock import sole_writer
from hallo4.training import TrainConfig, load_weights, override, read_log, train
from hallo4.training.config import OptimizerConfig, ScheduleConfig
from hallo4.training.number_format import chosen_precision

OPTIMIZER, SCHEDULE = OptimizerConfig(learning_rate=0.05), ScheduleConfig(warmup_steps=2)
SHORT = {"name": "line", "steps": 12, "log_every": 4, "ema_decay": 0.9, "mixed_precision": "no"}
CONFIG = TrainConfig(**SHORT, optimizer=OPTIMIZER, schedule=SCHEDULE)


def make_model() -> nn.Linear:
    torch.manual_seed(7)
    return nn.Linear(3, 1)


def data(index: int, generator: torch.Generator) -> dict[str, torch.Tensor]:
    x = torch.randn(8, 3, generator=generator)
    return {"x": x, "y": x @ torch.tensor([[1.0], [-2.0], [0.5]]) + 0.25}


def method(model, batch, step):
    noise = 0.01 * torch.randn(batch["x"].shape)  # from the global generator, as a method may
    error = model(batch["x"] + noise) - batch["y"]
    return error.pow(2).mean(), {"bias": error.mean()}


def weights(model: nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_it_learns_and_leaves_a_full_folder(tmp_path):
    model = make_model()
    result = train(replace(CONFIG, steps=150, ema_decay=0.0), method, model, data, folder=tmp_path)
    assert result.progress.step == 150
    torch.testing.assert_close(weights(model), torch.tensor([1.0, -2.0, 0.5, 0.25]), rtol=0, atol=0.05)
    expected = {"last", "best", "log.jsonl", "loss.png", "config.json"}
    assert {p.name for p in tmp_path.iterdir()} == expected
    records = read_log(tmp_path)
    assert [r["step"] for r in records] == [*range(4, 150, 4), 150]
    assert records[-1]["loss"] < 0.1 * records[0]["loss"]
    assert set(records[0]) == {"step", "loss", "lr", "grad_norm", "metrics", "seconds", "samples_per_s"}


@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_a_stopped_and_resumed_run_is_the_uninterrupted_run(tmp_path, kind):
    config = replace(CONFIG, optimizer=replace(CONFIG.optimizer, kind=kind))
    whole = make_model()
    straight = train(config, method, whole, data, folder=tmp_path / "whole")

    def stop_at_5(model, batch, step):
        if step == 4:
            os.kill(os.getpid(), signal.SIGINT)
        return method(model, batch, step)

    with pytest.raises(Cancelled, match="step 5"):
        train(config, stop_at_5, make_model(), data, folder=tmp_path / "parts")
    torch.manual_seed(99)  # whatever the global generator is at, and whatever the model was
    resumed = nn.Linear(3, 1)
    rest = train(config, method, resumed, data, folder=tmp_path / "parts")

    assert torch.equal(weights(resumed), weights(whole))
    assert all(torch.equal(rest.ema.weights[name], straight.ema.weights[name]) for name in rest.ema.weights)
    log = {r["step"]: r for r in read_log(tmp_path / "parts")}
    assert sorted(log) == [4, 5, 8, 12]
    assert log[12]["loss"] == read_log(tmp_path / "whole")[-1]["loss"]


def test_a_kill_between_checkpoints_loses_only_the_steps_since(tmp_path, monkeypatch):
    monkeypatch.setattr("hallo4.training.loop.plot_log", lambda folder: None)  # drawn at every save: slow

    def killed(model, batch, step):
        if step == 7:
            raise RuntimeError("power cut")
        return method(model, batch, step)

    config = replace(CONFIG, save_minutes=1e-9, log_every=1)
    with pytest.raises(RuntimeError, match="power cut"):
        train(config, killed, make_model(), data, folder=tmp_path)
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write('{"step": 9, "loss": 1.0}\n{"step": 10, "lo')  # a tail beyond the checkpoint, cut short
    model, whole = make_model(), make_model()
    train(config, method, model, data, folder=tmp_path)
    train(config, method, whole, data, folder=tmp_path / "whole")
    assert torch.equal(weights(model), weights(whole))
    assert [r["step"] for r in read_log(tmp_path)] == list(range(1, 13))


def test_a_complete_run_returns_at_once_and_a_longer_one_goes_on(tmp_path):
    train(CONFIG, method, make_model(), data, folder=tmp_path)

    def never(model, batch, step):
        raise AssertionError("a complete run made a step")

    model = make_model()
    assert train(CONFIG, never, model, data, folder=tmp_path).progress.step == 12
    assert load_weights(tmp_path, make_model()) == 12
    longer = replace(CONFIG, steps=14)
    assert train(longer, method, model, data, folder=tmp_path).progress.step == 14


def test_accumulation_equals_one_large_batch(tmp_path):
    def plain(model, batch, step):
        return (model(batch["x"]) - batch["y"]).pow(2).mean(), {}

    def joined(index, generator):
        from hallo4.diffusion import keyed_generator

        parts = [data(i, keyed_generator("data", 0, i)) for i in (2 * index, 2 * index + 1)]
        return {name: torch.cat([part[name] for part in parts]) for name in ("x", "y")}

    large, small = make_model(), make_model()
    train(replace(CONFIG, steps=5), plain, large, joined, folder=tmp_path / "large")
    train(replace(CONFIG, steps=5, accumulate=2), plain, small, data, folder=tmp_path / "small")
    torch.testing.assert_close(weights(small), weights(large), rtol=1e-5, atol=1e-6)
    norms = [read_log(tmp_path / name)[-1]["grad_norm"] for name in ("large", "small")]
    assert norms[0] == pytest.approx(norms[1], rel=1e-4)  # AdamW alone would not see a wrong scale


def test_gradients_are_clipped_to_the_norm(tmp_path):
    config = replace(
        CONFIG,
        steps=1,
        clip_norm=0.5,
        ema_decay=0.0,
        schedule=ScheduleConfig(warmup_steps=0, anneal_fraction=0.0),
    )
    seen = []

    model = make_model()
    hook = torch.optim.AdamW.step

    def spy_step(self, *arguments, **keywords):
        seen.append(torch.cat([p.grad.flatten() for g in self.param_groups for p in g["params"]]).norm())
        return hook(self, *arguments, **keywords)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.optim.AdamW, "step", spy_step)
        train(
            config,
            lambda m, b, s: (1000 * m(b["x"]).mean() + 1000 * m.bias.sum(), {}),
            model,
            data,
            folder=tmp_path,
        )
    assert seen[0] == pytest.approx(0.5, rel=1e-3)
    assert read_log(tmp_path)[0]["grad_norm"] > 100


def test_a_time_limit_ends_with_a_checkpoint_and_a_rate_near_zero(tmp_path):
    import time

    def slow(model, batch, step):
        time.sleep(0.01)
        return method(model, batch, step)

    config = replace(CONFIG, steps=10**9, max_minutes=0.5 / 60, log_every=1)
    result = train(config, slow, make_model(), data, folder=tmp_path)
    assert 3 < result.progress.step < 100
    assert result.progress.seconds >= 0.5
    rates = [r["lr"] for r in read_log(tmp_path)]
    assert rates[-1] < 0.2 * max(rates)
    assert load_weights(tmp_path, make_model()) == result.progress.step
    again = train(config, slow, make_model(), data, folder=tmp_path)
    assert again.progress.step == result.progress.step


def test_a_bad_step_is_skipped_and_many_end_the_run(tmp_path):
    def sometimes(model, batch, step):
        loss, metrics = method(model, batch, step)
        return (loss * float("nan") if step == 3 else loss), metrics

    model = make_model()
    result = train(CONFIG, sometimes, model, data, folder=tmp_path)
    assert torch.isfinite(weights(model)).all()
    assert result.ema.updates == 11
    assert [r["step"] for r in read_log(tmp_path) if r.get("event") == "skipped"] == [4]

    with pytest.raises(Hallo4Error, match="not finite in 10 steps"):
        train(
            replace(CONFIG, steps=40),
            lambda m, b, s: (m(b["x"]).mean() * float("inf"), {}),
            make_model(),
            data,
            folder=tmp_path / "b",
        )


def test_previews_see_mean_weights_and_choose_the_best(tmp_path):
    seen = {}

    def preview(step, model):
        assert not model.training
        assert not torch.is_grad_enabled()
        torch.manual_seed(0)  # a preview that uses up random numbers must not change the run
        seen[step] = weights(model)
        return {"score": abs(step - 8)}

    config = replace(CONFIG, preview_every=4, best_metric="score")
    model, plain = make_model(), make_model()
    result = train(config, method, model, data, folder=tmp_path, on_preview=preview)
    train(CONFIG, method, plain, data, folder=tmp_path / "plain")
    assert torch.equal(weights(model), weights(plain))
    assert list(seen) == [4, 8, 12]
    assert model.training
    assert not torch.allclose(seen[12], weights(model))
    with result.ema.applied(model):
        assert torch.equal(weights(model), seen[12])
    best = make_model()
    assert load_weights(tmp_path, best, "best") == 8
    assert torch.equal(weights(best), seen[8])
    assert [r["preview"] for r in read_log(tmp_path) if "preview" in r] == [
        {"score": 4.0},
        {"score": 0.0},
        {"score": 4.0},
    ]


def test_a_watched_metric_must_exist(tmp_path):
    config = replace(CONFIG, best_metric="score")
    with pytest.raises(InputError, match="no preview"):
        train(config, method, make_model(), data, folder=tmp_path)
    with pytest.raises(InputError, match="'score', but the preview returned"):
        train(
            config, method, make_model(), data, folder=tmp_path, on_preview=lambda step, model: {"psnr": 1.0}
        )


def test_mixed_precision_of_one_run_does_not_bind_the_next(tmp_path):
    kinds = []

    def spy(model, batch, step):
        kinds.append(model(batch["x"]).dtype)
        kinds.append((batch["x"] @ batch["x"].T).dtype)
        return method(model, batch, step)

    for precision in ("no", "bf16", "no"):
        config = replace(CONFIG, steps=1, mixed_precision=precision)
        train(config, spy, make_model(), data, folder=tmp_path / str(len(kinds)))
    assert kinds == [
        torch.float32,
        torch.float32,
        torch.float32,
        torch.bfloat16,
        torch.float32,
        torch.float32,
    ]


def test_a_changed_configuration_is_said_and_used(tmp_path, capsys):
    train(CONFIG, method, make_model(), data, folder=tmp_path)
    changed = replace(CONFIG, steps=16, optimizer=replace(CONFIG.optimizer, learning_rate=0.001))
    train(replace(changed, schedule=ScheduleConfig(0, 0.0)), method, make_model(), data, folder=tmp_path)
    said = capsys.readouterr().err
    assert "resuming" in said
    assert "optimizer.learning_rate" in said
    assert read_log(tmp_path)[-1]["lr"] == pytest.approx(0.001)
    assert json.loads((tmp_path / "config.json").read_text())["steps"] == 16


def test_a_folder_of_another_run_is_refused_in_one_line(tmp_path):
    train(CONFIG, method, make_model(), data, folder=tmp_path)
    with pytest.raises(CheckpointError, match=r"1 mis-shaped \(weight ") as caught:
        train(CONFIG, method, nn.Linear(4, 1), data, folder=tmp_path)
    assert "\n" not in str(caught.value)
    muon = replace(CONFIG, optimizer=OptimizerConfig(kind="muon"))
    with pytest.raises(CheckpointError, match="another optimizer"):
        train(muon, method, make_model(), data, folder=tmp_path)
    with pytest.raises(CheckpointError, match="holds a run of 'line', and this is 'curve'"):
        train(replace(CONFIG, name="curve"), method, make_model(), data, folder=tmp_path)
    (tensors,) = (tmp_path / "last").glob("*.safetensors")
    whole = tensors.read_bytes()
    tensors.write_bytes(whole[:-8])
    with pytest.raises(CheckpointError, match=f"has {len(whole) - 8} bytes instead of {len(whole)}"):
        train(CONFIG, method, make_model(), data, folder=tmp_path)
    tensors.write_bytes(bytes(len(whole)))
    with pytest.raises(CheckpointError, match="Cannot read the checkpoint"):
        train(CONFIG, method, make_model(), data, folder=tmp_path)
    (tmp_path / "last" / "state.json").write_text('{"progress": {"step": -1}}')
    with pytest.raises(CheckpointError, match=r"state.json"):
        train(CONFIG, method, make_model(), data, folder=tmp_path)


def test_errors_in_the_data_reach_the_caller(tmp_path):
    def broken(index, generator):
        if index == 3:
            raise InputError("episode 3 is missing")
        return data(index, generator)

    with pytest.raises(InputError, match="episode 3"):
        train(CONFIG, method, make_model(), broken, folder=tmp_path)


def test_a_guard_ends_a_run_for_good_at_that_very_step(tmp_path):
    seen = []

    def guard(history):
        seen.append([values["score"] for values in history])
        return "it went down the drain" if len(history) == 3 else None

    def preview(step, model):
        return {"score": -step if step < 12 else float("inf")}

    config = replace(CONFIG, steps=40, preview_every=4, best_metric="score", log_every=1)
    parts, calls = tmp_path / "parts", {"on_preview": preview, "guard": guard, "folder": tmp_path / "parts"}

    def stop_at_6(model, batch, step):
        if step == 5:
            os.kill(os.getpid(), signal.SIGINT)
        return method(model, batch, step)

    with pytest.raises(Cancelled):
        train(config, stop_at_6, make_model(), data, **calls)
    result = train(config, method, make_model(), data, **calls)
    assert seen == [[-4.0], [-4.0, -8.0], [-4.0, -8.0, None]]  # the log remembers across the stop
    assert result.progress.step == 12
    assert load_weights(parts, make_model(), "last") == 12
    assert load_weights(parts, make_model(), "best") == 8
    assert read_log(parts)[-1] == {"step": 12, "event": "ended", "reason": "it went down the drain"}

    def never(model, batch, step):
        raise AssertionError("an ended run made a step")

    assert train(config, never, make_model(), data, **calls).progress.step == 12
    free = calls | {"guard": None}
    assert train(replace(config, steps=14), method, make_model(), data, **free).progress.step == 14


def test_a_second_training_in_a_folder_is_refused_and_changes_nothing(tmp_path):
    train(CONFIG, method, make_model(), data, folder=tmp_path)
    before = contents(tmp_path)
    with sole_writer(tmp_path), pytest.raises(OutputError, match="Wait for it, or choose another run folder"):
        train(replace(CONFIG, steps=24), method, make_model(), data, folder=tmp_path)
    assert contents(tmp_path) == before
    train(replace(CONFIG, steps=24), method, make_model(), data, folder=tmp_path)


def test_a_full_disk_leaves_configuration_and_log_of_the_run(tmp_path, monkeypatch):
    train(CONFIG, method, make_model(), data, folder=tmp_path)
    before = contents(tmp_path)

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match="No space left"):
        train(replace(CONFIG, steps=24), method, make_model(), data, folder=tmp_path)
    assert contents(tmp_path) == before


def test_a_checkpoint_of_single_files_is_not_overwritten(tmp_path):
    torch.save({"model": {}}, tmp_path / "last.pt")
    with pytest.raises(CheckpointError, match=r"last.pt is a checkpoint of an older hallo4"):
        train(CONFIG, method, make_model(), data, folder=tmp_path)
    assert contents(tmp_path).keys() == {"last.pt"}


def test_sharing_needs_several_processes_and_samples_enough(tmp_path):
    with pytest.raises(InputError, match="sharding=full needs several processes, and this is one"):
        train(replace(CONFIG, sharding="full"), method, make_model(), data, folder=tmp_path)

    class Nothing(list):
        __call__ = staticmethod(data)

    with pytest.raises(InputError, match="1 processes cannot share 0 samples"):
        train(CONFIG, method, make_model(), Nothing(), folder=tmp_path)


def test_number_formats_that_cannot_be_trained_in_are_refused(tmp_path, monkeypatch):
    with pytest.raises(InputError, match="mixed_precision: found 'fp16'"):
        override(CONFIG, ["mixed_precision=fp16"])
    gpu = torch.device("cuda", 0)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: False)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Tesla T4")
    with pytest.raises(InputError, match=r"Tesla T4 does not compute in bf16: use --set train.mixed"):
        chosen_precision(replace(CONFIG, mixed_precision="bf16"), gpu)
    assert chosen_precision(CONFIG, gpu) == "no"
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "fp16")
    with pytest.raises(InputError, match="accelerate launch asks for --mixed_precision fp16"):
        train(CONFIG, method, make_model(), data, folder=tmp_path)
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    auto = replace(CONFIG, mixed_precision="auto")
    assert chosen_precision(auto, torch.device("cpu")) == "bf16"
