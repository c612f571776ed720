"""The parts of the loop: order of the data, learning rates, optimizer groups, Muon, mean weights, files,
log."""

import contextlib
import math
import signal

import pytest
import torch
from torch import nn

from hallo4.diffusion.keyed import keyed_generator, keyed_seed
from hallo4.errors import CheckpointError, InputError, OutputError
from hallo4.models.precision import has_bf16_units
from hallo4.training.checkpoint import TrainingProgress, load_weights, save
from hallo4.training.config import OptimizerConfig, ScheduleConfig
from hallo4.training.ema import EMA
from hallo4.training.interrupt import stop_signals
from hallo4.training.log import Means, RunLog, clock, plot_log, read_log
from hallo4.training.optimizer import Muon, build_optimizers, orthogonalize, rate_factor
from hallo4.training.order import batch_indices, one_ahead
from hallo4.training.ranks import Group

# ---------------------------------------------------------------- order


def test_every_sample_comes_once_per_epoch_and_batches_are_whole():
    size, batch_size = 7, 3
    row = torch.cat([batch_indices(size, batch_size, seed=5, index=i) for i in range(14)])  # 6 epochs
    epochs = row.reshape(6, size)
    assert all(sorted(epoch.tolist()) == list(range(size)) for epoch in epochs)
    assert not torch.equal(epochs[0], epochs[1])
    assert torch.equal(batch_indices(size, batch_size, 5, 9), row[27:30])
    assert not torch.equal(torch.cat([batch_indices(size, batch_size, 6, i) for i in range(14)]), row)


def test_keys_are_stable_and_distinct():
    assert keyed_seed("data", 0, 1) == 5833116220730740359
    assert len({keyed_seed(a, b) for a in range(20) for b in range(20)}) == 400
    assert keyed_seed(1, 11) != keyed_seed(11, 1)
    assert torch.equal(
        torch.rand(3, generator=keyed_generator(4)), torch.rand(3, generator=keyed_generator(4))
    )


def test_one_ahead_gives_items_in_order_and_errors_in_place():
    def make(position):
        if position == 7:
            raise KeyError("seven")
        return position * 10

    with one_ahead(make, 4) as items:
        assert [next(items) for _ in range(3)] == [40, 50, 60]
        with pytest.raises(KeyError, match="seven"):
            next(items)


# ---------------------------------------------------------------- learning rate


def test_rate_warms_up_stays_and_falls_as_a_half_cosine():
    schedule = ScheduleConfig(warmup_steps=10, anneal_fraction=0.5, final_fraction=0.1)
    assert rate_factor(schedule, 0, 0.0) == pytest.approx(0.1)
    assert rate_factor(schedule, 4, 0.1) == pytest.approx(0.5)
    assert rate_factor(schedule, 50, 0.5) == pytest.approx(1.0)
    assert rate_factor(schedule, 75, 0.75) == pytest.approx(0.1 + 0.9 / 2)
    assert rate_factor(schedule, 99, 1.0) == pytest.approx(0.1)
    assert rate_factor(ScheduleConfig(0, 1.0), 0, 0.25) == pytest.approx((1 + math.cos(math.pi / 4)) / 2)
    assert rate_factor(ScheduleConfig(0, 0.0), 0, 0.99) == 1.0


# ---------------------------------------------------------------- optimizers


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(5, 4)
        self.hidden = nn.Linear(4, 6)
        self.twin = nn.Linear(4, 6, bias=False)
        self.kernel = nn.Conv2d(2, 3, 3)
        self.norm = nn.LayerNorm(4)
        self.head = nn.Linear(6, 2)
        self.frozen = nn.Linear(2, 2).requires_grad_(False)
        self.tied = self.twin  # the same tensor under a second name


def names(model, group):
    by_id = {id(p): name for name, p in model.named_parameters()}
    return {by_id[id(p)] for p in group["params"]}


def test_each_parameter_is_in_the_group_where_it_belongs():
    model = Net()
    config = OptimizerConfig(kind="muon", weight_decay=0.3, adamw_names=("head",))
    adamw, muon = build_optimizers(model, config)
    assert names(model, muon.param_groups[0]) == {"hidden.weight", "twin.weight", "kernel.weight"}
    decayed, plain = adamw.param_groups
    assert names(model, decayed) == {"embedding.weight", "head.weight"}
    assert names(model, plain) == {"hidden.bias", "kernel.bias", "norm.weight", "norm.bias", "head.bias"}
    decays = [group["weight_decay"] for group in (decayed, plain, muon.param_groups[0])]
    assert decays == [0.3, 0.0, 0.3]
    (only,) = build_optimizers(model, OptimizerConfig())
    assert sum(len(g["params"]) for g in only.param_groups) == 10


def test_names_that_fit_nothing_are_refused():
    with pytest.raises(InputError, match="'haed'"):
        build_optimizers(Net(), OptimizerConfig(adamw_names=("haed",)))
    with pytest.raises(InputError, match="no trainable parameter"):
        build_optimizers(Net().requires_grad_(False), OptimizerConfig())


@pytest.mark.parametrize("shape", [(3, 8, 8), (2, 5, 16), (2, 16, 5)])
def test_orthogonalize_keeps_directions_and_levels_singular_values(shape):
    matrices = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    left, _, right = torch.linalg.svd(matrices, full_matrices=False)
    inner = left.mT @ orthogonalize(matrices) @ right.mT
    levels = torch.diagonal(inner, dim1=1, dim2=2)
    rounding = 0.03 if has_bf16_units() else 1e-4  # it works in bf16 where that is fast
    torch.testing.assert_close(inner, torch.diag_embed(levels), rtol=0, atol=rounding)
    assert levels.min() > 0.4
    assert levels.max() < 1.3


def test_muon_is_the_muon_of_torch():
    generator = torch.Generator().manual_seed(3)
    start = [torch.randn(6, 4, generator=generator), torch.randn(6, 4, generator=generator)]
    gradients = [[torch.randn(6, 4, generator=generator) for _ in start] for _ in range(3)]
    theirs_class = getattr(torch.optim, "Muon", None)
    if theirs_class is None:
        pytest.skip("torch.optim.Muon needs torch 2.9")
    ours, theirs = ([nn.Parameter(x.clone()) for x in start] for _ in range(2))
    optimizers = [
        Muon(ours, lr=0.1, momentum=0.9, weight_decay=0.2),
        theirs_class(theirs, lr=0.1, momentum=0.9, weight_decay=0.2, adjust_lr_fn="match_rms_adamw"),
    ]
    for step in gradients:
        for parameters, optimizer in zip((ours, theirs), optimizers, strict=True):
            for parameter, gradient in zip(parameters, step, strict=True):
                parameter.grad = gradient.clone()
            optimizer.step()
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=0.03, atol=0.01)  # theirs works in bf16


def test_muon_treats_a_kernel_as_the_matrix_of_its_rows():
    generator = torch.Generator().manual_seed(4)
    start, gradient = (torch.randn(4, 2, 3, 3, generator=generator) for _ in range(2))
    kernel, matrix = nn.Parameter(start.clone()), nn.Parameter(start.flatten(1).clone())
    kernel.grad, matrix.grad = gradient, gradient.flatten(1)
    Muon([kernel], lr=0.1).step()
    Muon([matrix], lr=0.1).step()
    assert torch.equal(kernel.flatten(1), matrix)
    assert not torch.equal(kernel, start)


# ---------------------------------------------------------------- mean weights


def test_mean_weights_follow_the_warmed_up_recursion():
    model = nn.Linear(2, 2)
    model.bias.requires_grad_(False)
    ema = EMA(model, decay=0.25)
    assert set(ema.weights) == {"weight"}
    expected = model.weight.detach().clone()
    for update in range(6):
        with torch.no_grad():
            model.weight.add_(1.0)
        ema.update(model)
        decay = min(0.25, (1 + update) / (10 + update))
        expected = decay * expected + (1 - decay) * model.weight.detach()
    torch.testing.assert_close(ema.weights["weight"], expected)
    before = model.weight.detach().clone()
    with contextlib.suppress(KeyError), ema.applied(model):
        torch.testing.assert_close(model.weight, expected)
        assert not model.training
        raise KeyError
    assert torch.equal(model.weight, before)
    assert model.training


# ---------------------------------------------------------------- files


def saved(folder, model):
    """A checkpoint of `model` after a step of AdamW."""
    (optimizer,) = build_optimizers(model, OptimizerConfig())
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    parts = (EMA(model, 0.5), [optimizer], TrainingProgress(step=1))
    save(folder, model, *parts, Group(0, 1, torch.device("cpu")))


def test_a_failed_save_leaves_the_old_checkpoint(tmp_path, monkeypatch):
    path, model = tmp_path / "last", nn.Linear(2, 3)
    saved(path, model)
    before = {file.name: file.read_bytes() for file in path.iterdir()}

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("hallo4.training.checkpoint.place_folder", full)
        with pytest.raises(OutputError, match=r"Cannot write the checkpoint .*last: No space"):
            saved(path, model)
    assert {file.name: file.read_bytes() for file in path.iterdir()} == before
    assert list(tmp_path.iterdir()) == [path]
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="file"):
        saved(tmp_path / "file" / "last", model)


def test_wrong_tensors_are_named(tmp_path):
    saved(tmp_path / "last", nn.Linear(2, 3))
    wrong = nn.Linear(2, 4, bias=False)
    wrong.extra = nn.Parameter(torch.zeros(1))
    found = (
        r"1 missing \(extra\); 1 unexpected \(bias\); 1 mis-shaped \(weight \[3, 2\] instead of \[4, 2\]\)"
    )
    with pytest.raises(CheckpointError, match=found):
        load_weights(tmp_path, wrong)
    with pytest.raises(CheckpointError, match="No checkpoint"):
        load_weights(tmp_path, wrong, "best")
    model = nn.Linear(2, 3)
    model.weight.data[0, 0] = float("nan")
    saved(tmp_path / "last", model)
    with pytest.raises(CheckpointError, match="NaN or infinite"):
        load_weights(tmp_path, nn.Linear(2, 3))


# ---------------------------------------------------------------- log


def test_log_drops_what_will_be_written_again_and_knows_no_nan(tmp_path):
    log = RunLog(tmp_path, 0)
    for step in (1, 2, 3):
        log.write(step, loss=float(step) if step < 3 else math.nan, metrics={"a": math.inf})
    assert read_log(tmp_path)[2] == {"step": 3, "loss": None, "metrics": {"a": None}}
    RunLog(tmp_path, 2).write(3, loss=9.0)
    assert [(r["step"], r["loss"]) for r in read_log(tmp_path)] == [(1, 1.0), (2, 2.0), (3, 9.0)]
    assert RunLog(tmp_path, 0).path.read_text() == ""
    assert plot_log(tmp_path) is None


def test_means_start_again_after_each_line():
    means = Means()
    means.add({"a": 1.0})
    means.add({"a": 3.0, "b": 5.0})
    means.count(4)
    assert means.take() == ({"a": 2.0, "b": 5.0}, 4)
    assert means.take() == ({}, 0)


def test_clock():
    assert clock(3725.4) == "1:02:05"


def test_the_first_signal_is_a_wish_and_handlers_come_back():
    # A shell may start tests with SIGINT ignored.
    outer = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        _check_signals()
    finally:
        signal.signal(signal.SIGINT, outer)


def _check_signals():
    before = signal.getsignal(signal.SIGINT)
    with stop_signals() as stopped:
        signal.raise_signal(signal.SIGINT)
        assert stopped.is_set()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before
