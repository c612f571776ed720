"""What would be made of some settings, before anything is: a picture, the length, time and memory, notes."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import torch

from hallo4.errors import Cancelled, Hallo4Error
from hallo4.media.image import save_png
from hallo4.motion import MotionHints
from hallo4.pipelines import AnimationRequest, preview, read_outline
from hallo4.pipelines.diagnosis import device_name
from hallo4.pipelines.expected import expected
from hallo4.pipelines.model_outline import plan_model
from hallo4.pipelines.placement import usable_bytes
from hallo4.pipelines.plan import window_count
from hallo4.pipelines.progress import Reporter
from hallo4.pipelines.weight_moves import WeightRules
from hallo4.studio.make.job_folder import in_words_of_the_page
from hallo4.studio.make.queue import Queue
from hallo4.studio.make.settings import LookView, Role, Settings
from hallo4.studio.make.times import Work, measured
from hallo4.studio.refused import Refused
from hallo4.types import FPS

KEPT = 40
"""Pictures; older ones are removed."""


class Looks:
    """Makes previews in `folder`, one at a time."""

    def __init__(self, folder: Path, queue: Queue, device: str) -> None:
        self.folder, self._queue = folder, queue
        self._uploads, self._offers = queue.uploads, queue.offers
        self._device = torch.device(device)
        self._one_at_a_time = threading.Lock()
        folder.mkdir(exist_ok=True)

    def look(self, settings: Settings, abandoned: Callable[[], bool] = lambda: False) -> LookView:
        """Refused: something cannot be used, or the preview is `abandoned`."""
        self._offers.check(settings)
        given = settings.uploads()
        files = {role: self._uploads.usable(found, role) for role, found in given.items()}
        names = {path: self._uploads.view(given[role]).name for role, path in files.items()}
        with self._one_at_a_time:
            try:
                if abandoned():
                    raise Cancelled("before it began")
                view = self._looked(settings, files, Reporter(should_cancel=abandoned))
            except Cancelled:
                raise Refused(409, "This preview was abandoned.") from None
            except Hallo4Error as error:
                raise Refused(422, in_words_of_the_page(str(error), names)) from error
        notes = tuple(in_words_of_the_page(note, names) for note in view.notes)
        return view.model_copy(update={"notes": notes})

    def path(self, look_id: str) -> Path:
        """The picture of a preview."""
        return self.folder / f"{look_id}.png"

    def _looked(self, settings: Settings, files: dict[Role, Path], reporter: Reporter) -> LookView:
        outline = read_outline(self._offers.folder(settings.model))
        request = AnimationRequest(
            *(files["portrait"], files.get("voice"), files.get("motion")),
            *(settings.seed, *self._offers.effort(settings), settings.fit_motion),
            motion_hints=MotionHints(person=settings.person),
        )
        found = preview(outline, request, reporter)
        rules = WeightRules(self._device, None)
        plan = plan_model(outline, rules, usable_bytes("auto", self._device))
        size, info = found.size, outline.info
        windows = window_count(size.frames, info.window_frames, outline.backbone.windows.repeated_frames)
        work = Work(
            model=settings.model, device=device_name(self._device), height_px=found.height_px,
            width_px=found.width_px, steps=size.steps, guidance_scale=size.guidance_scale,
            scale=settings.scale, driven=settings.motion is not None,
        )  # fmt: skip
        before = measured(work, self._queue.times())
        if before is not None:
            expected_s, estimate = before.seconds(windows), before.describe()
        elif (counted := expected(outline, size, rules, plan)) is not None:
            expected_s, estimate = counted.seconds, counted.describe()
        else:
            expected_s, estimate = None, "The time of this model is known once it has made a video like this."
        look_id = secrets.token_hex(16)
        save_png(self.path(look_id), found.picture_u8)
        self._forget_old()
        return LookView(
            picture=f"media/{look_id}/look.png", frames=size.frames, seconds=size.frames / FPS,
            width_px=found.width_px * settings.scale, height_px=found.height_px * settings.scale,
            expected_s=expected_s, measured=before is not None, expected_bytes=plan.peak_bytes,
            estimate=estimate, notes=found.notes,
        )  # fmt: skip

    def _forget_old(self) -> None:
        made: list[tuple[float, Path]] = []
        for path in self.folder.glob("*.png"):
            with suppress(FileNotFoundError):  # another server of the folder removed it
                made.append((path.stat().st_mtime, path))
        for _, old in sorted(made)[:-KEPT]:
            old.unlink(missing_ok=True)
