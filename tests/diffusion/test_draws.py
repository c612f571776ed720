"""Draws of pairs: keyed, shared, stratified (group 11, and the draws' part of group 7)."""

import math
from dataclasses import replace

import pytest
import torch

from hallo4.diffusion import PairDrawConfig, add_noise, pair_draw, pair_draws
from hallo4.diffusion.draws import PairDraw
from hallo4.errors import InputError

CONFIG = PairDrawConfig(seed=3, drop_rate=0.5)
SHAPE = (2, 3, 4, 4)


def same(a, b) -> bool:
    return all(torch.equal(getattr(a, name), getattr(b, name)) for name in ("sigma", "noise", "dropped"))


def test_group_11_a_pair_shares_its_draw_and_visits_differ():
    draw, again, later = (pair_draw(CONFIG, "ab", visit, SHAPE) for visit in (0, 0, 1))
    assert same(draw, again)
    assert not torch.equal(draw.noise, later.noise)
    assert draw.sigma != later.sigma
    winner, loser = torch.zeros(1, *SHAPE), torch.ones(1, *SHAPE)
    apart = add_noise(loser, draw.noise[None], draw.sigma[None]) - add_noise(
        winner, draw.noise[None], draw.sigma[None]
    )
    torch.testing.assert_close(apart, (1 - draw.sigma) * (loser - winner))  # nothing random is left


def test_group_7_draws_know_only_their_key():
    pairs, visits = ["x", "y", 7, "z"], [0, 5, 2, 0]
    forward = pair_draws(CONFIG, pairs, visits, SHAPE)
    torch.manual_seed(1)
    torch.rand(11)
    backward = pair_draws(CONFIG, pairs[::-1], visits[::-1], SHAPE)
    assert torch.equal(forward.noise, backward.noise.flip(0))
    assert torch.equal(forward.sigma, backward.sigma.flip(0))
    alone = pair_draw(CONFIG, "y", 5, SHAPE)
    assert same(alone, PairDraw(forward.sigma[1], forward.noise[1], forward.dropped[1]))
    for other in (replace(CONFIG, seed=4), replace(CONFIG, seed=33)):
        assert not torch.equal(pair_draw(other, "y", 5, SHAPE).noise, forward.noise[1])


def test_drawing_is_the_same_in_another_process():
    import multiprocessing

    with multiprocessing.get_context("spawn").Pool(1) as pool:
        told = pool.apply(_draw_as_lists)
    assert told == _draw_as_lists()


def _draw_as_lists() -> list:
    draw = pair_draw(CONFIG, "y", 5, SHAPE)
    return [draw.sigma.item(), draw.noise.flatten().tolist(), draw.dropped.item()]


def test_every_few_visits_cover_all_slices_of_sigma():
    config = replace(CONFIG, strata=4, distribution="uniform", sigma_range=(0.0, 1.0))
    sigma = torch.stack([pair_draw(config, 1, visit, (1,)).sigma for visit in range(12)]).view(3, 4)
    assert torch.equal((4 * sigma).floor().sort(1).values, torch.arange(4.0).expand(3, 4))
    first = [[pair_draw(config, pair, v, (1,)).sigma for v in range(4)] for pair in range(40)]
    order = {tuple(torch.tensor(row).argsort().tolist()) for row in first}
    assert len(order) > 10  # in another order for every pair


def test_the_first_visits_of_many_pairs_have_the_distribution_of_training():
    config = PairDrawConfig(seed=1, shift=3.0, mean=0.2, std=1.3, sigma_range=(0.0, 1.0))
    sigma = torch.stack([pair_draw(config, pair, 0, (1,)).sigma for pair in range(1000)]).double()
    time = sigma / (3.0 - 2.0 * sigma)
    uniform = torch.special.ndtr((torch.logit(time) - 0.2) / 1.3).sort().values
    assert (uniform - (torch.arange(1000) + 0.5) / 1000).abs().max() < 1.63 / math.sqrt(1000)


def test_the_range_and_the_dropout_are_kept():
    config = PairDrawConfig(sigma_range=(0.3, 0.6), drop_rate=0.25, std=3.0)
    draws = pair_draws(config, range(400), [0] * 400, (1,))
    assert draws.sigma.min() == pytest.approx(0.3)
    assert draws.sigma.max() == pytest.approx(0.6)
    assert draws.dropped.float().mean() == pytest.approx(0.25, abs=0.07)
    kept = pair_draw(replace(config, drop_rate=0.0), 0, 0, (5,))
    assert torch.equal(kept.noise, pair_draw(config, 0, 0, (5,)).noise)


@pytest.mark.parametrize(
    "bad", [{"sigma_range": (0.5, 0.5)}, {"strata": 0}, {"drop_rate": 1.5}, {"shift": 0.0}, {"std": 0.0}]
)
def test_impossible_draws_are_refused(bad):
    with pytest.raises(InputError, match=f"{next(iter(bad))} of a pair's draw is"):
        PairDrawConfig(**bad)
