"""The portrait world: endless procedural portraits that speak and move, with everything that is true about
them."""

from hallo4.world.episode import Episode, act, make_episode
from hallo4.world.files import write_episode
from hallo4.world.identity import Identity, sample_identity
from hallo4.world.truth import Truth

__all__ = ["Episode", "Identity", "Truth", "act", "make_episode", "sample_identity", "write_episode"]
