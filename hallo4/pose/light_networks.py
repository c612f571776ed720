"""The six networks of MediaPipe's holistic landmarker (Apache-2.0), run by LiteRT on one core.

Five of them lie one behind the other in a file of the published package; where each begins and ends is said
in the package's `holistic_solution_packed_assets_loader.js`, and does not change: the package is frozen.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from hallo4.errors import CheckpointError, MissingExtraError
from hallo4.input_file import open_input
from hallo4.pose.detections import Detection, anchors_01, decode
from hallo4.weights.check import find_weights

PACKED = "holistic-networks"
"""Name in the catalogue of the file that holds five of the networks."""
PLACES = {
    "face_detection": (0, 229_032),
    "face_mesh": (248_408, 1_490_304),
    "hand_landmarks": (3_986_256, 9_464_944),
    "palm_detection": (9_588_747, 11_930_027),
    "pose_detection": (13_915_467, 16_877_755),
}
"""First byte and the one behind the last, of every network in that file."""
POSE_LANDMARKS = "pose-landmark-full"
"""Name in the catalogue of the sixth network's own file."""


class Network:
    """A LiteRT network of one picture: [size, size, 3] float32 in, its outputs in their order out."""

    def __init__(self, content: bytes, name: str, size_px: int, outputs: tuple[tuple[int, ...], ...]):
        """CheckpointError: `content` is no network, or another one. MissingExtraError: no LiteRT."""
        self.size_px = size_px
        try:
            from ai_edge_litert.interpreter import Interpreter
        except ImportError:
            raise MissingExtraError(
                "the light estimator runs with LiteRT, which is not installed: pip install 'hallo4[pose]'."
            ) from None
        try:
            with _without_greeting():
                self._run = Interpreter(model_content=content, num_threads=1)
                self._run.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            reason = " ".join(str(error).split())[:120]
            raise CheckpointError(
                f"{name}: LiteRT cannot load it ({reason}). Move it away and run "
                "`hallo4 weights fetch pose-light`."
            ) from error
        given = self._run.get_input_details()
        made = self._run.get_output_details()
        shapes = [tuple(int(side) for side in detail["shape"]) for detail in (*given, *made)]
        wanted = [(1, size_px, size_px, 3), *outputs]
        if shapes != wanted:
            raise CheckpointError(
                f"{name}: is another network: its input and outputs are {shapes}, wanted are {wanted}. "
                "Move it away and run `hallo4 weights fetch pose-light`."
            )
        self._input, self._outputs = given[0]["index"], [detail["index"] for detail in made]

    def __call__(self, picture: np.ndarray) -> list[np.ndarray]:
        """Run it; outputs without the axis of the batch."""
        self._run.set_tensor(self._input, picture[None])
        self._run.invoke()
        return [self._run.get_tensor(index)[0] for index in self._outputs]


class Detector:
    """A single-shot detector: a picture [size, size, 3] uint8 -> detections in sides of the picture."""

    def __init__(
        self, network: Network, strides: tuple[int, ...], to_range: Callable[[np.ndarray], np.ndarray]
    ):
        self.network, self.size_px = network, network.size_px
        self._anchors = anchors_01(self.size_px, strides)
        self._to_range = to_range

    def __call__(self, picture_u8: np.ndarray) -> list[Detection]:
        """Everything that it finds, best first."""
        regressors, logits = self.network(self._to_range(picture_u8))
        return decode(regressors, logits[:, 0], self._anchors, self.size_px)


def to_01(picture_u8: np.ndarray) -> np.ndarray:
    """Levels 0..255 -> [0, 1], the range of the landmark networks and of the palm detector."""
    return picture_u8.astype(np.float32) / np.float32(255)


def to_pm1(picture_u8: np.ndarray) -> np.ndarray:
    """Levels 0..255 -> [-1, 1], the range of the face and pose detectors."""
    return picture_u8.astype(np.float32) / np.float32(127.5) - np.float32(1)


class LightNetworks:
    """All six, from the weights' root or `folder`.

    CheckpointError: a file is missing, damaged, or another. MissingExtraError: LiteRT is not installed.
    """

    def __init__(self, folder: str | os.PathLike[str] | None = None):
        packed, pose = find_weights(PACKED, folder), find_weights(POSE_LANDMARKS, folder)

        def part(name: str, size_px: int, *outputs: tuple[int, ...]) -> Network:
            start, stop = PLACES[name]
            return Network(_read(packed, start, stop), f"{packed} ({name})", size_px, outputs)

        detected = part("face_detection", 128, (1, 896, 16), (1, 896, 1))
        self.faces = Detector(detected, (8, 16, 16, 16), to_pm1)
        detected = part("pose_detection", 224, (1, 2254, 12), (1, 2254, 1))
        self.bodies = Detector(detected, (8, 16, 32, 32, 32), to_pm1)
        detected = part("palm_detection", 192, (1, 2016, 18), (1, 2016, 1))
        self.palms = Detector(detected, (8, 16, 16, 16), to_01)
        self.mesh = part("face_mesh", 192, (1, 1, 1, 1404), (1, 1, 1, 1))
        self.hand = part("hand_landmarks", 224, (1, 63), (1, 1), (1, 1), (1, 63))
        maps = ((1, 256, 256, 1), (1, 64, 64, 39), (1, 117))
        self.pose = Network(_read(pose, 0), str(pose), 256, ((1, 195), (1, 1), *maps))


@contextmanager
def _without_greeting() -> Iterator[None]:
    """LiteRT says on stderr, below Python, that it uses its fast kernels; what fails it raises."""
    stderr = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(nowhere)
        os.close(stderr)


def _read(path: Path, start: int, stop: int | None = None) -> bytes:
    with open_input(path, "a network", CheckpointError) as file:
        file.seek(start)
        return file.read(-1 if stop is None else stop - start)
