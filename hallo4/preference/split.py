"""Training and held-out pairs that have no person and no speech in common.

Conditions that share an identity or an audio, directly or through others, form one group, and a group is
never divided: what is held out is new in both respects (dpo.md 3.1).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping

from hallo4.errors import InputError
from hallo4.preference.schema import Condition, Pair


def groups(conditions: Iterable[Condition]) -> dict[str, str]:
    """Condition id -> the name of its group: the smallest condition id in it (union-find)."""
    parent: dict[str, str] = {}

    def root(node: str) -> str:
        while parent.setdefault(node, node) != node:
            parent[node] = node = parent[parent[node]]
        return node

    conditions = list(conditions)
    for condition in conditions:
        own = root(f"condition {condition.condition_id}")
        for shared in (f"identity {condition.identity_id}", f"audio {condition.audio_id}"):
            parent[root(shared)] = own
    smallest: dict[str, str] = {}
    for condition in sorted(conditions, key=lambda c: c.condition_id):
        smallest.setdefault(root(f"condition {condition.condition_id}"), condition.condition_id)
    return {c.condition_id: smallest[root(f"condition {c.condition_id}")] for c in conditions}


def hold_out(
    counts: Mapping[str, int], conditions: Mapping[str, Condition], fraction: float, seed: int = 0
) -> set[str]:
    """The conditions to hold out, so that about `fraction` of all pairs are theirs; `counts`: pairs of each
    condition.

    Groups are taken in an order hashed from `seed`, as long as they fit; the first one that fits is taken
    even if it is a little too large. InputError: everything hangs together, so nothing can be held out.
    """
    wanted = fraction * sum(counts.values())
    if wanted == 0:
        return set()
    group_of = groups(conditions[name] for name in counts)
    members: dict[str, list[str]] = {}
    for name, group in group_of.items():
        members.setdefault(group, []).append(name)
    if len(members) < 2:
        raise InputError(
            f"the {sum(counts.values())} pairs are all connected by an identity or a speech, so none "
            "can be held out without a leak. Add other people and speeches, or hold out 0."
        )
    size = {group: sum(counts[name] for name in names) for group, names in members.items()}
    held: set[str] = set()
    taken = 0
    for group in sorted(members, key=lambda g: hashlib.sha256(f"{seed} {g}".encode()).digest()):
        if taken + size[group] <= wanted + 0.5:
            held.update(members[group])
            taken += size[group]
    if not held:
        held.update(members[min(size, key=lambda g: (size[g], g))])
    return held


def check_no_leak(pairs: Iterable[Pair], conditions: Mapping[str, Condition]) -> None:
    """InputError if a person or a speech stands on both sides of the split."""
    seen: dict[str, dict[str, str]] = {}
    for pair in pairs:
        condition = conditions[pair.condition_id]
        for what in (f"identity {condition.identity_id}", f"audio {condition.audio_id}"):
            seen.setdefault(what, {})[pair.split] = pair.pair_id
    for what, splits in sorted(seen.items()):
        if len(splits) > 1:
            raise InputError(
                f"{what} is both in training (pair {splits['train']}) and held out "
                f"(pair {splits['held_out']}). Make the pairs again with `hallo4 prefer pairs`."
            )
