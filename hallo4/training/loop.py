"""The one training loop. A `Method` says what is learned, `Data` from what; this file knows neither.

    micro-batch i = data(i, generator keyed by (seed, i))     prepared one ahead, in a thread
        -> method(model, batch, step) -> loss, metrics        torch's global generator keyed by (seed, i) too
        -> backward, `accumulate` times -> clip -> optimizers -> mean weights -> log, preview, save

All randomness is keyed, so that a run that was killed and started again goes on as if nothing had
happened, with no generator state to store.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from hallo4.diffusion.keyed import keyed_generator, keyed_seed
from hallo4.errors import Cancelled, CheckpointError, Hallo4Error, InputError, MissingExtraError
from hallo4.lock import sole_writer
from hallo4.models.precision import has_bf16_units
from hallo4.training import checkpoint
from hallo4.training.checkpoint import TrainingProgress
from hallo4.training.config import TrainConfig
from hallo4.training.ema import EMA
from hallo4.training.interrupt import stop_signals
from hallo4.training.log import Means, ProgressLine, RunLog, plot_log, read_log
from hallo4.training.optimizer import build_optimizers, rate_factor, set_rate
from hallo4.training.order import one_ahead
from hallo4.training.placement import to_device_of
from hallo4.weights.tensors import misfits, shapes_of

MAX_SKIPPED = 10
"""Steps in a row whose loss or gradient is not finite before a run gives up."""

Data = Callable[[int, torch.Generator], Any]
"""(index of the micro-batch, generator keyed by it) -> a batch: a tensor or a tree of tensors, on the CPU.

Called in a thread, one batch ahead. It must depend on its arguments alone.
"""

Preview = Callable[[int, nn.Module], Mapping[str, float] | None]
"""(step, model with the mean weights, in eval mode) -> values for the log, or None; without gradients."""

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

    Ctrl-C and SIGTERM finish the step, save, and raise Cancelled; the same call resumes. A run that has
    reached its end returns at once; so does one that `guard` has ended. Hallo4Error when the loss stays
    infinite or not a number.
    CheckpointError when the folder holds a run of another model. OutputError when another process trains in
    the folder, or it cannot be written.
    """
    with ExitStack() as held:
        place = Path(folder or Path("runs") / config.name)
        run = _Run(config, method, model, data, place, on_preview, guard, held)
        try:
            with stop_signals() as stopped, run.line:
                run.go(stopped)
        finally:
            run.accelerator.unwrap_model(run.model, keep_fp32_wrapper=False)  # gives `model.forward` back
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
    ):
        if config.best_metric != "loss" and on_preview is None:
            raise InputError(
                f"best_metric is {config.best_metric!r}, but this run has no preview; use 'loss'."
            )
        self.config, self.method, self.data, self.folder = config, method, data, folder
        self.on_preview, self.guard = on_preview, guard
        self.accelerator = _accelerator(config)
        self.main = self.accelerator.is_main_process
        self.raw = model.to(self.accelerator.device)
        self.ema = EMA(model, config.ema_decay)
        optimizers = build_optimizers(model, config.optimizer)
        self.model, *self.optimizers = self.accelerator.prepare(model, *optimizers)
        self.progress, self.skipped = TrainingProgress(), 0
        self.window, self.since_save = Means(), Means()
        self.line = ProgressLine(config.name, quiet=not self.main)
        if self.main:  # of several processes, it alone writes
            checkpoint.make_folder(folder)
            held.enter_context(sole_writer(folder, "Wait for it, or choose another run folder."))
        changed = checkpoint.open_folder(folder, config) if self.main else []
        if (folder / "last.pt").exists():
            self._load(folder / "last.pt")
            note = f" with another {', '.join(changed)}" if changed else ""
            self.line.say(f"resuming {folder} at step {self.progress.step}{note}")
        self.log = RunLog(folder, self.progress.step) if self.main else None

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
        with one_ahead(self._make_batch, progress.step * config.accumulate) as batches:
            while fraction < 1.0 and not stop:
                rate = set_rate(self.optimizers, rate_factor(config.schedule, progress.step, fraction))
                self._step(batches)
                progress.step += 1
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

    def _make_batch(self, position: int) -> tuple[int, Any]:
        """(index, batch on the CPU) of this process's micro-batch number `position`."""
        index = position * self.accelerator.num_processes + self.accelerator.process_index
        return index, self.data(index, keyed_generator("data", self.config.seed, index))

    def _step(self, batches: Iterator[tuple[int, Any]]) -> None:
        """One update from `accumulate` micro-batches; none when the loss or the gradient is not finite."""
        from accelerate.utils import find_batch_size

        accelerator, accumulate = self.accelerator, self.config.accumulate
        total = torch.zeros((), device=accelerator.device)
        samples = 0
        for micro in range(accumulate):
            index, batch = next(batches)
            batch = to_device_of(self.raw, batch)
            torch.manual_seed(keyed_seed("method", self.config.seed, index))
            with accelerator.no_sync(self.model) if micro + 1 < accumulate else nullcontext():
                with accelerator.autocast():
                    loss, metrics = self.method(self.model, batch, self.progress.step)
                accelerator.backward(loss / accumulate)
            total += loss.detach().float() / accumulate
            samples += find_batch_size(batch) or 0
            self.window.add(
                {f"metrics.{name}": float(torch.as_tensor(value).detach()) for name, value in metrics.items()}
            )
        norm = float(accelerator.clip_grad_norm_(self.raw.parameters(), self.config.clip_norm))
        loss = float(accelerator.reduce(total, "mean"))
        self.window.count(samples * accelerator.num_processes)
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
        if self.accelerator.num_processes == 1:
            return seconds, stop
        own = torch.tensor([seconds, float(stop)], device=self.accelerator.device)
        shared = self.accelerator.reduce(own, "mean")
        return float(shared[0]), bool(shared[1] > 0)

    def _log(self, rate: float, seconds: float) -> None:
        """Write the means since the last line, and show them."""
        means, samples = self.window.take()
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
        """Hand the mean weights to the caller; log what comes back, and keep them if they are the best so
        far."""
        if self.on_preview is None:
            return
        if self.main:
            self._look()
        self.progress.ended = self._agree(0.0, self.progress.ended)[1]

    def _look(self) -> None:
        with self.ema.applied(self.raw) as model:
            values = self.on_preview(self.progress.step, model) or {}
        values = {name: float(value) for name, value in values.items()}
        self.log.write(self.progress.step, preview=values)
        watched = self.config.best_metric
        if watched in values:
            self._keep_if_best(values[watched])
        elif watched != "loss":
            raise InputError(
                f"best_metric is {watched!r}, but the preview returned {sorted(values) or 'nothing'}."
            )
        if self.guard is not None:
            history = [record["preview"] for record in read_log(self.folder) if "preview" in record]
            reason = self.guard(history)
            if reason is not None:
                self.progress.ended = True
                self.log.write(self.progress.step, event="ended", reason=reason)
                self.line.say(f"ended at step {self.progress.step}: {reason}")

    def _save(self) -> None:
        """Write `last.pt`, `best.pt` if the mean loss since the last save is the watched metric and the
        lowest."""
        means, _ = self.since_save.take()
        if not self.main:
            return
        if self.config.best_metric == "loss" and "loss" in means:
            self._keep_if_best(means["loss"])
        plot_log(self.folder)
        checkpoint.save(self.folder / "last.pt", self._state())  # last: it says how far all of it has come

    def _keep_if_best(self, value: float) -> None:
        if math.isfinite(value) and (self.progress.best is None or value < self.progress.best):
            self.progress.best = value
            checkpoint.save(self.folder / "best.pt", self._state())

    def _state(self) -> dict[str, Any]:
        scaler = self.accelerator.scaler
        return {
            "model": self.raw.state_dict(),
            "mean": self.ema.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "scaler": scaler.state_dict() if scaler else None,
            "progress": asdict(self.progress),
        }

    def _load(self, path: Path) -> None:
        """Take over everything from `path`; rates and decays come from the configuration, which may have
        changed."""
        state = checkpoint.load_run(path)
        checkpoint.fill_model(self.raw, state["model"], path)
        means = misfits(shapes_of(self.ema.weights), shapes_of(state["mean"]["weights"]))
        if means:
            raise CheckpointError(f"{path}: its mean weights are of another run: {means}. Use a new folder.")
        self.ema.load_state_dict(state["mean"])
        checkpoint.restore_optimizers(self.optimizers, state["optimizers"], path)
        if self.accelerator.scaler and state["scaler"]:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        self.progress = TrainingProgress(**state["progress"])


def _accelerator(config: TrainConfig) -> Any:
    try:
        from accelerate import Accelerator
        from accelerate.state import AcceleratorState
    except ImportError as error:
        raise MissingExtraError("Training needs accelerate: pip install 'hallo4[train]'.") from error
    AcceleratorState._reset_state()  # else a second run in one process could not choose another precision
    precision = config.mixed_precision
    if precision == "auto":
        precision = "bf16" if has_bf16_units("cuda" if torch.cuda.is_available() else "cpu") else "no"
    return Accelerator(mixed_precision=precision)
