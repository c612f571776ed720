"""Wide-gamut and HDR video -> sRGB: transfer and primaries of a frame's tags, by closed forms.

Primaries (ITU-R BT.2020, P3) are converted to those of BT.709, which are sRGB's. HDR is brought to SDR by one
rule: 1.0 is the level of a diffuse white (203 cd/m2 in PQ, 75 % in HLG: ITU-R BT.2408), tones up to `KNEE` of
it stay as they are, and what is brighter is rolled off up to the peak, on the largest of R, G and B so that
hues stay. HLG is taken as scene light, which is how BT.2100 shows it on a display of about 330 cd/m2 (its
system gamma is 1 there, and diffuse white at 90 cd/m2, near sRGB's 80).
"""

from __future__ import annotations

import struct

import av
import numpy as np
from av.sidedata.sidedata import Type
from av.video.reformatter import ColorPrimaries, ColorTrc

KNEE = 0.75
"""Linear level, as a fraction of diffuse white, up to which HDR is not compressed."""
WHITE_NITS = 203.0
"""Diffuse white of PQ, in cd/m2 (ITU-R BT.2408)."""
PQ_PEAK_NITS = 1000.0
"""Brightest light of PQ where the file does not say."""

_D65 = (0.3127, 0.3290)
_CHROMATICITIES = {  # x, y of red, green, blue and white (ITU-T H.273)
    ColorPrimaries.BT709: ((0.640, 0.330), (0.300, 0.600), (0.150, 0.060), _D65),
    ColorPrimaries.BT2020: ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046), _D65),
    ColorPrimaries.SMPTE431: ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060), (0.314, 0.351)),
    ColorPrimaries.SMPTE432: ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060), _D65),
}
_HDR = {ColorTrc.SMPTE2084: "PQ", ColorTrc.ARIB_STD_B67: "HLG"}
_ENCODING_STEPS = 1 << 14
_PIXELS_AT_ONCE = 1 << 18


class ColourConversion:
    """From one pair of (transfer, primaries) to 8-bit sRGB; tables are made once."""

    def __init__(self, transfer: int, primaries: int, peak_nits: float = PQ_PEAK_NITS) -> None:
        """`peak_nits`: brightest light in the file, for PQ."""
        signal = np.arange(1 << 16) / 65535
        if transfer == ColorTrc.SMPTE2084:
            linear = pq_nits(signal) / WHITE_NITS
            self._peak = max(1.0, peak_nits / WHITE_NITS)
        elif transfer == ColorTrc.ARIB_STD_B67:
            linear = hlg_scene_light(signal) / hlg_scene_light(np.float64(0.75))
            self._peak = float(linear[-1])
        else:  # the transfer of SDR video is undone and made again, so which it is hardly matters
            linear = srgb_light(signal)
            self._peak = 1.0
        self._linear = linear.astype(np.float32)
        self._to_709 = to_bt709(primaries).astype(np.float32)
        # Codes of sRGB by the square root of the light, where they are spaced nearly evenly.
        roots = np.arange(_ENCODING_STEPS + 1) / _ENCODING_STEPS
        self._codes = np.round(255 * srgb_code(roots**2)).astype(np.uint8)

    def __call__(self, rgb_u16: np.ndarray) -> np.ndarray:
        """[H, W, 3] uint16 RGB over the full range -> [H, W, 3] uint8 sRGB."""
        rows = max(1, _PIXELS_AT_ONCE // rgb_u16.shape[1])
        parts = (self._converted(rgb_u16[top : top + rows]) for top in range(0, len(rgb_u16), rows))
        converted = np.empty(rgb_u16.shape, np.uint8)
        for number, part in enumerate(parts):
            converted[number * rows : (number + 1) * rows] = part
        return converted

    def _converted(self, rgb_u16: np.ndarray) -> np.ndarray:
        light = np.maximum(self._linear[rgb_u16] @ self._to_709.T, 0)
        if self._peak > 1:
            brightest = light.max(axis=-1, keepdims=True)
            light *= rolled_off(brightest, self._peak) / np.maximum(brightest, 1e-6)
        places = np.sqrt(np.minimum(light, 1)) * _ENCODING_STEPS + 0.5
        return self._codes[places.astype(np.int32)]


def conversion_of(frame: av.VideoFrame) -> tuple[ColourConversion | None, str]:
    """What brings a frame to sRGB, None where swscale does; and the words for it: "" or "HDR (HLG)".

    Primaries of standard definition are so near to BT.709's that players show them as they are, and so does
    this. HDR without primaries counts as BT.2020.
    """
    transfer, primaries = int(frame.color_trc), int(frame.color_primaries)
    if transfer in _HDR:
        if primaries not in _CHROMATICITIES:
            primaries = ColorPrimaries.BT2020
        return ColourConversion(transfer, primaries, _peak_nits(frame)), f"HDR ({_HDR[ColorTrc(transfer)]})"
    if primaries in _CHROMATICITIES and primaries != ColorPrimaries.BT709:
        return ColourConversion(transfer, primaries), ""
    return None, ""


def pq_nits(signal: np.ndarray) -> np.ndarray:
    """Signal of SMPTE ST 2084 in [0, 1] -> light in cd/m2."""
    m1, m2 = 2610 / 16384, 2523 / 4096 * 128
    c1, c2, c3 = 3424 / 4096, 2413 / 4096 * 32, 2392 / 4096 * 32
    root = np.asarray(signal) ** (1 / m2)
    return 10_000 * (np.maximum(root - c1, 0) / (c2 - c3 * root)) ** (1 / m1)


def hlg_scene_light(signal: np.ndarray) -> np.ndarray:
    """Signal of hybrid log-gamma (ARIB STD-B67) in [0, 1] -> light of the scene in [0, 1]."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    signal = np.asarray(signal)
    return np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12)


def srgb_light(code: np.ndarray) -> np.ndarray:
    """Code of sRGB in [0, 1] -> linear light in [0, 1] (IEC 61966-2-1)."""
    return np.where(code <= 0.04045, code / 12.92, ((code + 0.055) / 1.055) ** 2.4)


def srgb_code(light: np.ndarray) -> np.ndarray:
    """Linear light in [0, 1] -> code of sRGB in [0, 1] (IEC 61966-2-1)."""
    return np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


def rolled_off(light: np.ndarray, peak: float) -> np.ndarray:
    """Light in [0, peak] of diffuse white -> [0, 1]: the same up to `KNEE`, then Reinhard's curve (2002,
    equation 4) from there to the peak, with slope 1 where both meet."""
    above, top = (np.maximum(light, KNEE) - KNEE) / (1 - KNEE), (peak - KNEE) / (1 - KNEE)
    return np.minimum(light, KNEE) + (1 - KNEE) * above * (1 + above / top**2) / (1 + above)


def to_bt709(primaries: int) -> np.ndarray:
    """[3, 3]: linear RGB of `primaries` -> that of BT.709; white stays white."""
    own = _to_xyz(*_CHROMATICITIES.get(primaries, _CHROMATICITIES[ColorPrimaries.BT709]))
    matrix = np.linalg.inv(_to_xyz(*_CHROMATICITIES[ColorPrimaries.BT709])) @ own
    return matrix / matrix.sum(axis=1, keepdims=True)


def _to_xyz(*xy: tuple[float, float]) -> np.ndarray:
    """[3, 3]: linear RGB -> XYZ of the primaries and the white with these chromaticities."""
    columns = np.array([[x / y, 1.0, (1 - x - y) / y] for x, y in xy]).T
    return columns[:, :3] * np.linalg.solve(columns[:, :3], columns[:, 3])


def _peak_nits(frame: av.VideoFrame) -> float:
    """MaxCLL of the frame's content light level, where it says one."""
    said = frame.side_data.get(Type.CONTENT_LIGHT_LEVEL)
    level = struct.unpack_from("=I", bytes(said))[0] if said is not None and len(bytes(said)) >= 4 else 0
    return float(min(max(level, WHITE_NITS), 10_000)) if level else PQ_PEAK_NITS
