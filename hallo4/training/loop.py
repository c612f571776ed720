"""The one training loop. A `Method` says what is learned, `Data` from what; this file knows neither.

    micro-batch i = data(i, generator keyed by (seed, i))     prepared one ahead, in a thread
        -> method(model, batch, step) -> loss, metrics        torch's global generator keyed by (seed, i) too
        -> backward, `accumulate` times -> clip -> optimizers -> mean weights -> log, preview, save

All randomness is keyed, so that a run that was killed and started again goes on as if nothing had
happened, with no generator state to store.

Several processes (`hallo4.training.ranks`) take the micro-batches of a step in turns: rank r of N has
number r, r + N, ... of it. A step has `accumulate` micro-batches for each process that the run began with,
and keeps that number when it goes on with more or fewer processes, so that it sees the same samples and
comes to the same weights. A process that has none left computes one again with weight 0.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence, Sized
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from hallo4.diffusion.keyed import keyed_generator, keyed_seed
from hallo4.errors import Cancelled, Hallo4Error, InputError
from hallo4.lock import sole_writer
from hallo4.training import checkpoint
from hallo4.training.checkpoint import TrainingProgress
from hallo4.training.config import TrainConfig
from hallo4.training.ema import EMA
from hallo4.training.failure import failures_shared
from hallo4.training.interrupt import stop_signals
from hallo4.training.log import Means, ProgressLine, RunLog, plot_log, read_log
from hallo4.training.optimizer import build_optimizers, clip_gradients, rate_factor, set_rate
from hallo4.training.order import one_ahead
from hallo4.training.placement import PlacedModel, to_device_of
from hallo4.training.ranks import Group, current_group

MAX_SKIPPED = 10
"""Steps in a row whose loss or gradient is not finite before a run gives up."""

Data = Callable[[int, torch.Generator], Any]
"""(index of the micro-batch, generator keyed by it) -> a batch: a tensor or a tree of tensors, on the CPU.

Called in a thread, one batch ahead. It must depend on its arguments alone. Where it has a length, that is
the number of samples there are.
"""

Preview = Callable[[int, nn.Module], Mapping[str, float] | None]
"""(step, model with the mean weights, in eval mode) -> values for the log, or None; without gradients.

Called on all processes at once, with the same weights; a model that is shared out needs every process for
every forward, so all must make the same calls. The values of the main process count."""

Guard = Callable[[Sequence[Mapping[str, float | None]]], str | None]
"""(values of all previews so far, oldest first) -> why the run must end now, or None. In a value that is not
finite the log has None."""


class Method(Protocol):
    """What a run learns."""

    def __call__(
        self, model: nn.Module, batch: Any, step: int
    ) -> tuple[Tensor, Mapping[str, float | Tensor]]:
        """(mean loss of the batch, a scalar with gradient; numbers for the log).

        `model` is the trained model as prepared for its device, `batch` is there too. Random numbers come
        from torch's global generators, which are seeded by (seed, index of the micro-batch).
        """
        ...


@dataclass(frozen=True)
class TrainResult:
    """A finished run: its folder, how far it went, its mean weights (`result.ema.applied(model)`)."""

    folder: Path
    progress: TrainingProgress
    ema: EMA


def train(
    config: TrainConfig,
    method: Method,
    model: nn.Module,
    data: Data,
    *,
    folder: Path | None = None,
    on_preview: Preview | None = None,
    guard: Guard | None = None,
) -> TrainResult:
    """Train `model` in place, or go on where an earlier call with this `folder` stopped (default:
    `runs/NAME`).

    Ctrl-C and SIGTERM finish the step, save, and raise Cancelled; the same call resumes, on as many processes
    as there are then. A run that has reached its end returns at once; so does one that `guard` has ended. On
    return every process has the whole model. Hallo4Error when the loss stays infinite or not a number, or
    another process failed. CheckpointError when the folder holds a run of another model or name. OutputError
    when another run trains in the folder, or it cannot be written. InputError: more processes than samples,
    or a number format that the device does not have.
    """
    group = current_group()
    with ExitStack() as held:
        held.enter_context(failures_shared(group.rank, group.size))
        place = Path(folder or Path("runs") / config.name)
        run = _Run(config, method, model, data, place, on_preview, guard, held, group)
        try:
            with stop_signals() as stopped, run.line:
                run.go(stopped)
        finally:
            run.placed.give_back_forward()
        if run.fraction() >= 1.0:
            run.make_whole()
    if run.fraction() < 1.0:
        raise Cancelled(
            f"Stopped at step {run.progress.step}; run the same command to go on from {run.folder}."
        )
    return TrainResult(run.folder, run.progress, run.ema)


class _Run:
    """One call of `train`: `go` is the loop, the rest are its parts."""

    def __init__(
        self,
        config: TrainConfig,
        method: Method,
        model: nn.Module,
        data: Data,
        folder: Path,
        on_preview: Preview | None,
        guard: Guard | None,
        held: ExitStack,
        group: Group,
    ):
        if config.best_metric != "loss" and on_preview is None:
            raise InputError(
                f"best_metric is {config.best_metric!r}, but this run has no preview; use 'loss'."
            )
        if isinstance(data, Sized) and len(data) < group.size:
            raise InputError(
                f"{group.size} processes cannot share {len(data)} samples: start at most {len(data)} "
                "(--num_processes), or prepare more clips."
            )
        self.config, self.method, self.data, self.folder = config, method, data, folder
        self.on_preview, self.guard, self.group = on_preview, guard, group
        self.placed = PlacedModel(config, model, group)
        self.model, self.raw = self.placed.model, self.placed.raw
        self.ema = EMA(self.raw, config.ema_decay)
        self.optimizers = build_optimizers(self.raw, config.optimizer)
        self.progress, self.skipped = TrainingProgress(), 0
        self.window, self.since_save = Means(), Means()
        self.line = ProgressLine(config.name, quiet=not group.main)
        self._open(held)
        self.log = RunLog(folder, self.progress.step) if group.main else None

    def _open(self, held: ExitStack) -> None:
        """Take over the folder, and what an earlier run left in it: the main process decides for all."""
        folder, group, config = self.folder, self.group, self.config
        changed: list[str] = []
        if group.main:  # of several processes, it alone writes
            checkpoint.make_folder(folder)
            held.enter_context(sole_writer(folder, "Wait for it, or choose another run folder."))
            changed = checkpoint.open_folder(folder, config)
        if group.agreed(checkpoint.exists(folder, "last") if group.main else None):
            if not checkpoint.exists(folder, "last"):
                raise InputError(
                    f"{folder / 'last'} is seen by rank 0, but not here: give all processes one run folder."
                )
            optimizers = self.optimizers
            self.progress = checkpoint.load(folder / "last", self.raw, self.ema, optimizers, group)
        progress, fresh = self.progress, config.accumulate * group.size
        notes = [f"another {', '.join(changed)}"] if changed else []
        if progress.accumulate != config.accumulate:
            progress.accumulate, progress.per_step = config.accumulate, fresh
        elif progress.per_step != fresh:
            notes.append(
                f"{progress.per_step} micro-batches a step, as it began, on {group.size} process(es)"
            )
        if progress.step:
            note = f" with {' and '.join(notes)}" if notes else ""
            self.line.say(f"resuming {folder} at step {progress.step}{note}")

    def fraction(self) -> float:
        """How much of the run is over, 0 to 1: of its steps or of its time, whichever is more."""
        if self.guard is not None and self.progress.ended:
            return 1.0
        limit_s = 60 * (self.config.max_minutes or math.inf)
        return min(1.0, max(self.progress.step / self.config.steps, self.progress.seconds / limit_s))

    def go(self, stopped: threading.Event) -> None:
        """Step until the end or until stopped; save on the way and then."""
        config, progress = self.config, self.progress
        fraction, stop = self.fraction(), False
        if fraction >= 1.0:
            self.line.say(f"complete since step {progress.step}; {self.folder} has the result")
            return
        self.line.start(fraction)
        offset_s = time.monotonic() - progress.seconds
        logged_s = saved_s = progress.seconds
        self.model.train()
        self.first_batch = progress.micro_batches
        with one_ahead(self._make_batch, 0) as batches:
            while fraction < 1.0 and not stop:
                rate = set_rate(self.optimizers, rate_factor(config.schedule, progress.step, fraction))
                self._step(batches)
                progress.step += 1
                progress.micro_batches += progress.per_step
                progress.seconds, stop = self._agree(time.monotonic() - offset_s, stopped.is_set())
                fraction = self.fraction()
                last = stop or fraction >= 1.0
                if last or progress.step % config.log_every == 0:
                    self._log(rate, progress.seconds - logged_s)
                    logged_s = progress.seconds
                if fraction >= 1.0 or (config.preview_every and progress.step % config.preview_every == 0):
                    self._preview()
                    fraction = self.fraction()
                if stop or fraction >= 1.0 or progress.seconds - saved_s > 60 * config.save_minutes:
                    self._save()
                    saved_s = progress.seconds

    def _make_batch(self, position: int) -> tuple[int, bool, Any]:
        """(index, whether it counts, batch on the CPU) of this process's micro-batch number `position`."""
        per_step, group = self.progress.per_step, self.group
        step, turn = divmod(position, -(-per_step // group.size))
        place = turn * group.size + group.rank
        index = self.first_batch + step * per_step + min(place, per_step - 1)
        return index, place < per_step, self.data(index, keyed_generator("data", self.config.seed, index))

    def _step(self, batches: Iterator[tuple[int, bool, Any]]) -> None:
        """One update from the micro-batches of a step; none when the loss or the gradient is not finite."""
        from accelerate.utils import find_batch_size

        group, placed = self.group, self.placed
        share = self.progress.per_step / group.size  # gradients become means over the processes
        turns = math.ceil(share)
        sums = torch.zeros(2, device=group.device)
        for turn in range(turns):
            index, counts, batch = next(batches)
            batch = to_device_of(self.raw, batch)
            torch.manual_seed(keyed_seed("method", self.config.seed, index))
            with placed.no_sync() if turn + 1 < turns else nullcontext():
                with placed.autocast():
                    loss, metrics = self.method(self.model, batch, self.progress.step)
                (loss / share if counts else loss * 0.0).backward()
            if not counts:
                continue
            sums += torch.stack(
                [
                    loss.detach().float() / share,
                    torch.tensor(float(find_batch_size(batch) or 0), device=sums.device),
                ]
            )
            self.window.add(
                {f"metrics.{name}": float(torch.as_tensor(value).detach()) for name, value in metrics.items()}
            )
        norm = clip_gradients(self.raw.parameters(), self.config.clip_norm)
        loss, samples = group.sum(sums).tolist()
        loss /= group.size
        self.window.count(round(samples))
        if math.isfinite(loss) and math.isfinite(norm):
            for optimizer in self.optimizers:
                optimizer.step()
            self.ema.update(self.raw)
            self.window.add({"loss": loss, "grad_norm": norm})
            self.since_save.add({"loss": loss})
            self.skipped = 0
        else:
            self._skip(loss, norm)
        for optimizer in self.optimizers:
            optimizer.zero_grad()

    def _skip(self, loss: float, norm: float) -> None:
        step = self.progress.step
        self.skipped += 1
        if self.log:
            self.log.write(step + 1, event="skipped", reason=f"loss {loss}, gradient norm {norm}")
        if self.skipped >= MAX_SKIPPED:
            raise Hallo4Error(
                f"{self.config.name}: the loss or its gradient was not finite in {MAX_SKIPPED} steps in a "
                "row, at step "
                f"{step} (loss {loss}, gradient norm {norm}). Lower optimizer.learning_rate and run again; "
                f"{self.folder} keeps what was last saved."
            )

    def _agree(self, seconds: float, stop: bool) -> tuple[float, bool]:
        """The same clock and the same wish to stop on all processes."""
        if self.group.size == 1:
            return seconds, stop
        own = torch.tensor([seconds, float(stop)], device=self.group.device, dtype=torch.float64)
        shared = self.group.sum(own).tolist()
        return shared[0] / self.group.size, shared[1] > 0

    def _log(self, rate: float, seconds: float) -> None:
        """Write the means since the last line, and show them."""
        means, samples = self.window.joined(self.group.gathered(self.window)).take()
        self.window = Means()
        metrics = {
            name.removeprefix("metrics."): v for name, v in means.items() if name.startswith("metrics.")
        }
        loss, norm = means.get("loss", math.nan), means.get("grad_norm", math.nan)
        progress, speed = self.progress, samples / max(seconds, 1e-9)
        if self.log:
            record = {"loss": loss, "lr": rate, "grad_norm": norm, "metrics": metrics}
            self.log.write(progress.step, **record, seconds=progress.seconds, samples_per_s=speed)
        shown = "".join(f", {name} {value:.4g}" for name, value in metrics.items())
        text = f"step {progress.step}, loss {loss:.4g}{shown}, {speed:.3g} samples/s"
        self.line.update(self.fraction(), text)

    @torch.no_grad()
    def _preview(self) -> None:
        """Hand the mean weights to the caller, on all processes; log what comes back, and keep them if they
        are the best so far."""
        if self.on_preview is None:
            return
        with self.ema.applied(self.raw) as model:
            values = self.on_preview(self.progress.step, model) or {}
        values = self.group.agreed({name: float(value) for name, value in values.items()})
        if self.log:
            self.log.write(self.progress.step, preview=values)
        watched = self.config.best_metric
        if watched in values:
            self._keep_if_best(values[watched])
        elif watched != "loss":
            raise InputError(
                f"best_metric is {watched!r}, but the preview returned {sorted(values) or 'nothing'}."
            )
        reason = self.group.agreed(self._reason_to_end())
        if reason is not None:
            self.progress.ended = True
            if self.log:
                self.log.write(self.progress.step, event="ended", reason=reason)
            self.line.say(f"ended at step {self.progress.step}: {reason}")

    def _reason_to_end(self) -> str | None:
        """What the guard says of all previews, on the main process, which has the log."""
        if self.guard is None or not self.log:
            return None
        return self.guard([record["preview"] for record in read_log(self.folder) if "preview" in record])

    def _save(self) -> None:
        """Write `last`, and `best` if the mean loss since the last save is the watched metric and the
        lowest."""
        means, _ = self.since_save.take()
        if self.config.best_metric == "loss" and "loss" in means:
            self._keep_if_best(means["loss"])
        if self.group.main:
            plot_log(self.folder)
        self._write("last")  # last: it says how far all of it has come

    def _keep_if_best(self, value: float) -> None:
        if math.isfinite(value) and (self.progress.best is None or value < self.progress.best):
            self.progress.best = value
            self._write("best")

    def _write(self, which: str) -> None:
        parts = (self.raw, self.ema, self.optimizers, self.progress, self.group)
        checkpoint.save(self.folder / which, *parts)

    def make_whole(self) -> None:
        """What is shared out among processes is whole again on each; momenta are let go."""
        self.optimizers.clear()
        self.placed.make_whole()
        self.ema.make_whole()
