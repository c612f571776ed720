"""Channels of a sound -> one, at the loudness that speech has in them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import av
import numpy as np

_FRONT, _OTHER = 0.5, 0.5 * 2**-0.5
_WEIGHTS = {"FC": 1.0, "FL": _FRONT, "FR": _FRONT, "FLC": _FRONT, "FRC": _FRONT, "LFE": 0.0, "LFE2": 0.0}
_USUAL_LAYOUTS = {6: "5.1", 8: "7.1"}  # of files that do not name their channels
_QUIETER_DB = 3.5
"""What the mean of two different voices loses is 3.0 dB; a mix that loses more is raised."""
_CANCELLED = 0.5
"""A mix with less than this part of the power that unrelated channels would give is one of channels that
cancel each other."""


def channel_names(layout: av.AudioLayout) -> tuple[str, ...]:
    """Short names ("FL") of the channels; those of 5.1 and 7.1 where a file with as many does not say."""
    names = tuple(channel.name for channel in layout.channels)
    if set(names) == {"NONE"} and len(names) in _USUAL_LAYOUTS:
        return channel_names(av.AudioLayout(_USUAL_LAYOUTS[len(names)]))
    return names


def mix_weights(names: Sequence[str]) -> np.ndarray:
    """[C]: how much of every channel goes into the mix.

    What is alike in both front channels keeps its level, and so does what is in the centre alone, where
    films have their speech; the rest counts 3 dB less than the front (ITU-R BS.775), deep effects not at all.
    Two channels are averaged, and so are those without names.
    """
    if len(names) <= 2 or not {"FL", "FC"} & set(names):
        return np.full(len(names), 1 / len(names), np.float32)
    return np.array([_WEIGHTS.get(name, _OTHER) for name in names], np.float32)


class Mixer:
    """Mixes blocks, and measures what becomes of their loudness on the way."""

    def __init__(self, weights: np.ndarray) -> None:
        """`weights` [C]."""
        self._weights = weights
        self._powers = np.zeros(len(weights))
        self._mixed_power = 0.0

    def mono(self, blocks: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
        """[C, S] float32 -> [S] float32."""
        for block in blocks:
            mixed = self._weights @ block if len(self._weights) > 1 else block[0]
            self._powers += np.square(block, dtype=np.float64).sum(axis=1)
            self._mixed_power += float(np.square(mixed, dtype=np.float64).sum())
            yield mixed

    @property
    def loudest(self) -> int:
        """The channel with the most power, of those that are mixed."""
        return int((self._powers * (self._weights > 0)).argmax())

    @property
    def lost_db(self) -> float:
        """By how much the mix is quieter than the loudest channel; 0 where it is not, or all is silent."""
        loudest = self._powers[self.loudest]
        if not loudest or self._mixed_power >= loudest:
            return 0.0
        return float(min(10 * np.log10(loudest / max(self._mixed_power, 1e-30)), 300.0))

    @property
    def too_quiet(self) -> bool:
        """Whether the mix lost more than different voices lose."""
        return self.lost_db > _QUIETER_DB

    @property
    def cancelled(self) -> bool:
        """Whether channels that are inverted to each other have made the mix too quiet."""
        unrelated = float((self._weights**2 * self._powers).sum())
        return self.too_quiet and self._mixed_power < _CANCELLED * unrelated
