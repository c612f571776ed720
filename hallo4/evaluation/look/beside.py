"""A video beside its reference, frame by frame: PSNR, SSIM, LPIPS."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hallo4.evaluation.look.tools import VideoTools
from hallo4.evaluation.measures import arrays
from hallo4.media import VideoInfo
from hallo4.motion.beside_video import ASPECT_TOLERANCE


@dataclass(frozen=True)
class Beside:
    """A video beside its reference, over the n frames that both have: `psnr_db`, `ssim`, `lpips` [n] each.

    The arrays are None where pictures cannot be compared (another aspect ratio) or, for LPIPS, without
    weights.
    """

    psnr_db: np.ndarray | None
    ssim: np.ndarray | None
    lpips: np.ndarray | None
    notes: tuple[str, ...]


class Comparing:
    """Collects what `Beside` holds: the video is resized to its reference where sizes differ."""

    def __init__(self, info: VideoInfo, reference: VideoInfo, tools: VideoTools):
        self.tools, self.lpips = tools, tools.networks.get("lpips")
        self.size = (reference.width_px, reference.height_px)
        self.values: dict[str, list[np.ndarray]] = {"psnr_db": [], "ssim": [], "lpips": []}
        self.notes: list[str] = []
        aspect = (info.width_px / info.height_px) / (self.size[0] / self.size[1])
        sizes = f"{info.width_px}x{info.height_px} against {self.size[0]}x{self.size[1]} px of the reference"
        self.comparable = abs(aspect - 1) <= ASPECT_TOLERANCE
        if not self.comparable:
            self.notes.append(
                f"{sizes}: the aspect ratios differ, so pictures and keypoints are not compared"
            )
        elif (info.width_px, info.height_px) != self.size:
            self.notes.append(f"{sizes}: resized (bicubic) to compare pictures")

    def add(self, chunk: np.ndarray, reference: np.ndarray) -> None:
        """The next frames [n, H, W, 3] of the video, and as many of the reference or, at its end, fewer."""
        if not self.comparable or not len(reference):
            return
        chunk = _resized(chunk[: len(reference)], self.size)
        reference = reference[: len(chunk)]
        self.values["psnr_db"].append(arrays.psnr_of_frames_db(chunk, reference))
        self.values["ssim"].append(arrays.ssim_of_frames(chunk, reference))
        if self.lpips is not None:
            from hallo4.evaluation.networks.lpips import frame_pairs_lpips

            planes = map(self.tools.planes, (chunk, reference))
            self.values["lpips"].append(frame_pairs_lpips(self.lpips, *planes).cpu().numpy())

    def finish(self) -> Beside:
        """What was seen, when all frames have been added."""
        joined = {name: np.concatenate(parts) if parts else None for name, parts in self.values.items()}
        return Beside(**joined, notes=tuple(self.notes))


def _resized(frames_u8: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    from PIL import Image

    if frames_u8.shape[2:0:-1] == size:
        return frames_u8
    pictures = (Image.fromarray(frame).resize(size, Image.Resampling.BICUBIC) for frame in frames_u8)
    return np.stack([np.asarray(picture) for picture in pictures])
