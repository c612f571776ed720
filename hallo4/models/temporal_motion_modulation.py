"""Temporal motion modulation: conditions at frame rate meet latents at a rho-th of it, none dropped.

One rule says which frames a latent frame sees. Causally (T = rho*k + 1, the video autoencoder's rule) the
first frame is repeated rho-1 times in front, then every rho frames form a group: group 0 holds frame 0
alone, group g holds frames rho*(g-1)+1 .. rho*g. Without the causal repeat (T = rho*k, backbones that do
not compress time) group g holds frames rho*g .. rho*(g+1)-1, and rho = 1 is the identity.

The paper defines redistribution as `C[T, D] -> C[T', rho*D]`; the released weights use it in two forms, and
so do we: skeleton frames are folded into channels, audio frames into the token axis.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from hallo4.errors import ShapeError

Axis = Literal["channel", "token"]


def latent_frame_count(frames: int, rho: int, causal: bool = True) -> int:
    """How many groups `frames` video frames make: k+1 for rho*k + 1 (causal), k for rho*k.

    Raises ShapeError with the nearest lengths that fit.
    """
    rule = f"{rho}k+1" if causal else f"a multiple of {rho}"
    extra = 1 if causal else 0
    shortest = 1 if causal else rho
    if frames >= shortest and (frames - extra) % rho == 0:
        return (frames - extra) // rho + extra
    below = (frames - extra) // rho * rho + extra
    nearest = f"{below} or {below + rho}" if below >= shortest else f"{shortest}"
    raise ShapeError(
        f"{frames} frames cannot be grouped by {rho}: the count must be {rule}; trim or pad to {nearest}"
    )


def group_frames(frames: Tensor, rho: int, dim: int = 1, causal: bool = True) -> Tensor:
    """Split axis `dim` of length T into two, [F, rho]: the frames that each latent frame sees.

    `frames` [..., T, ...] -> [..., F, rho, ...]; causally F = k+1 for T = rho*k + 1 and the first frame
    fills all rho sub-slots of group 0. Raises ShapeError for any other T.
    """
    dim = dim % frames.ndim
    groups = latent_frame_count(frames.shape[dim], rho, causal)
    if causal and rho > 1:
        first = frames.narrow(dim, 0, 1)
        frames = torch.cat([*[first] * (rho - 1), frames], dim=dim)
    return frames.unflatten(dim, (groups, rho))


def ungroup_frames(groups: Tensor, dim: int = 1, causal: bool = True) -> Tensor:
    """Inverse of `group_frames`: [..., F, rho, ...] (`dim` is the axis of F) -> [..., T, ...].

    Causally the first rho-1 sub-slots, where `group_frames` put copies of frame 0, are dropped.
    """
    dim = dim % groups.ndim
    rho = groups.shape[dim + 1]
    frames = groups.flatten(dim, dim + 1)
    return frames.narrow(dim, rho - 1, frames.shape[dim] - rho + 1) if causal else frames


def kept_slots(rho: int, expansion: int | None) -> list[int]:
    """Which of the rho sub-slots survive an expansion of `expansion`: evenly spread, always with the last.

    rho = 4: expansion 1 -> [3], 2 -> [1, 3], 3 -> [0, 1, 3], 4 or None -> all. Raises ShapeError outside
    1..rho.
    """
    expansion = rho if expansion is None else expansion
    if not 1 <= expansion <= rho:
        raise ShapeError(f"expansion {expansion} is not possible with rho {rho}: choose 1 to {rho}")
    return [(slot + 1) * rho // expansion - 1 for slot in range(expansion)]


def redistribute(
    conditions: Tensor, rho: int, axis: Axis = "channel", expansion: int | None = None, causal: bool = True
) -> Tensor:
    """Regroup condition tokens from frame rate to latent rate and widen them by `expansion`.

    `conditions` [B, T, N, D] -> [B, F, N, e*D] with axis="channel", [B, F, e*N, D] with axis="token"; e =
    `expansion` (None: rho, nothing is dropped). Sub-frames stay in temporal order: slice i of the channels,
    or block i of the tokens, belongs to the i-th kept sub-slot. e < rho keeps that many of the rho frames
    (`kept_slots`) and exists for the ablation of the paper (audio at 1x, 2x, 4x).

    Source: proportional feature expansion of the Hallo4 paper (section on temporal motion modulation); rho
    = 4 equals the released `pose_proj.py:82-118` (channel) and `audio_proj.py:36-67` (token).
    Raises ShapeError for a frame count that does not fit, an unknown axis or an impossible expansion.
    """
    if axis not in ("channel", "token"):
        raise ShapeError(f"redistribution axis {axis!r} is unknown: use 'channel' or 'token'")
    slots = kept_slots(rho, expansion)
    groups = group_frames(conditions, rho, dim=1, causal=causal)  # B F rho N D
    if len(slots) < rho:
        groups = groups[:, :, slots]
    if axis == "token":
        return groups.flatten(2, 3)
    return groups.transpose(2, 3).flatten(3, 4)
