"""The reference as a table (group 12): the same numbers, keyed, and refused when anything changed."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from hallo4.diffusion import PairDrawConfig, PreferenceLossConfig
from hallo4.errors import CheckpointError, InputError
from hallo4.training import (
    AdapterConfig,
    AdapterOff,
    PairBatch,
    Table,
    add_lora,
    build_table,
    pair_step,
    predict,
    reference_errors,
    table_stamp,
    tensors_hash,
)

CONFIG = PreferenceLossConfig(beta=200.0)
DRAW = PairDrawConfig(seed=5, strata=2)
PAIRS, DRAWS = 5, 2


@pytest.fixture
def world(toolbox):
    """(model with a trained adapter, its reference, make_batch, stamp, table)."""
    model = add_lora(toolbox.make_dit(), AdapterConfig(rank=3))
    reference, pairs = AdapterOff(model), toolbox.make_pairs(PAIRS)

    def make_batch(rows, visits):
        return PairBatch(**toolbox.make_batch(pairs, rows, visits % DRAWS) | {"visits": visits})

    def errors_of(batch):
        return reference_errors(model, batch, predict, reference, CONFIG)

    stamp = table_stamp(model, tensors_hash({"winner": pairs["winner"]}), DRAW, CONFIG)
    progress = []
    table = build_table(
        make_batch,
        errors_of,
        PAIRS,
        DRAWS,
        3,
        stamp,
        on_progress=lambda done, all_: progress.append((done, all_)),
    )
    assert progress == [(3, 10), (6, 10), (9, 10), (10, 10)]
    toolbox.disturb(model)
    return model, reference, make_batch, stamp, table


def test_group_12_the_table_says_what_the_reference_says(world):
    model, reference, make_batch, _, table = world
    batch = make_batch(torch.tensor([4, 0, 2]), torch.tensor([0, 3, 6]))  # draws 0, 1, 0
    online = pair_step(model, batch, predict, reference, CONFIG)
    looked_up = pair_step(model, batch, predict, table, CONFIG)
    assert float(looked_up[0].detach()) == pytest.approx(float(online[0].detach()), rel=1e-5)
    torch.testing.assert_close(looked_up[1].winner_reference, online[1].winner_reference)
    torch.testing.assert_close(looked_up[1].loser_reference, online[1].loser_reference)


def test_group_12_the_table_holds_errors_of_frames_too(world, toolbox):
    model, reference, make_batch, stamp, _ = world
    labels = torch.tensor([[1, -1]])

    def labelled(rows, visits):
        return replace(make_batch(rows, visits), frame_labels=labels.expand(len(rows), 2))

    def errors_of(batch):
        return reference_errors(model, batch, predict, reference, CONFIG)

    table = build_table(labelled, errors_of, PAIRS, DRAWS, 4, stamp)
    assert table.values.shape == (PAIRS, DRAWS, 2, 2)
    batch = labelled(torch.tensor([3, 1]), torch.tensor([1, 0]))
    online = pair_step(model, batch, predict, reference, CONFIG)[1]
    torch.testing.assert_close(
        pair_step(model, batch, predict, table, CONFIG)[1].logit, online.logit, rtol=1e-3, atol=1e-3
    )


def test_a_table_does_not_run_the_model(world):
    _, _, make_batch, _, table = world

    def never():
        raise AssertionError("the model was asked")

    batch = make_batch(torch.tensor([1]), torch.tensor([1]))
    assert torch.equal(table.errors(never, batch), table.values[1, 1][:, None])


def test_saving_and_loading_keep_every_bit(world, tmp_path):
    *_, stamp, table = world
    path = tmp_path / "a" / "table.safetensors"
    table.save(path)
    loaded = Table.load(path, stamp)
    assert torch.equal(loaded.values, table.values)
    assert torch.equal(loaded.sigma, table.sigma)
    assert loaded.draws == DRAWS
    assert [p.name for p in path.parent.iterdir()] == ["table.safetensors"]


def test_group_12_another_reference_number_format_data_or_draw_is_refused(world, toolbox, tmp_path):
    model, _, _, stamp, table = world
    table.save(path := tmp_path / "table.safetensors")
    data = stamp["data"]
    now = table_stamp(model, data, DRAW, CONFIG)
    assert now == stamp  # training the adapter is no change of the reference
    never_adapted = table_stamp(toolbox.make_dit(), data, DRAW, CONFIG)
    assert never_adapted["reference weights"] == stamp["reference weights"]
    with torch.no_grad():
        model.blocks[1].ffn.net[2].bias[0] += 1e-3
    with pytest.raises(InputError, match=r"made with another reference weights\. Delete it"):
        Table.load(path, table_stamp(model, data, DRAW, CONFIG))
    with torch.autocast("cpu", torch.bfloat16):
        half = table_stamp(model, data, DRAW, CONFIG) | {"reference weights": stamp["reference weights"]}
    with pytest.raises(InputError, match="another number format"):
        Table.load(path, half)
    with pytest.raises(InputError, match="another data and draw"):
        Table.load(path, stamp | {"data": "other", "draw": "other"})
    other_draw = table_stamp(model, data, replace(DRAW, shift=3.0), CONFIG)
    assert other_draw["draw"] != stamp["draw"]


def test_draws_and_pairs_that_are_not_in_the_table_are_refused(world):
    _, _, make_batch, _, table = world
    batch = make_batch(torch.tensor([1]), torch.tensor([1]))
    with pytest.raises(InputError, match=r"draw visit v as pair_draw\(\.\.\., v % 2"):
        table.errors(None, replace(batch, sigma=batch.sigma + 1e-3))
    with pytest.raises(InputError, match="Pair 5 is not in the reference table of 5"):
        table.errors(None, replace(batch, pairs=torch.tensor([5])))
    with pytest.raises(InputError, match="needs the batch's pairs and visits"):
        table.errors(None, replace(batch, visits=None))


def test_files_that_are_no_table_are_refused(world, tmp_path):
    *_, stamp, table = world
    with pytest.raises(CheckpointError, match="no such file"):
        Table.load(tmp_path / "none.safetensors", stamp)
    path = tmp_path / "table.safetensors"
    table.save(path)
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(CheckpointError, match="Delete it"):
        Table.load(path, stamp)
    table.save(path)
    tensors = load_file(path)
    save_file({"errors": tensors["errors"]}, path, metadata={"stamp": json.dumps(stamp)})
    with pytest.raises(CheckpointError, match="Cannot read"):
        Table.load(path, stamp)


def test_the_hash_sees_every_bit_name_shape_and_type():
    first = {"a": torch.arange(6.0), "b": torch.zeros(2, dtype=torch.bfloat16)}
    others = [
        {"a": torch.arange(6.0).nextafter(torch.tensor(9.0)), "b": first["b"]},
        {"a": torch.arange(6.0).view(2, 3), "b": first["b"]},
        {"a": first["a"], "c": first["b"]},
        {"a": first["a"], "b": first["b"].half()},
    ]
    assert tensors_hash(first) == tensors_hash(dict(reversed(first.items())))
    assert len({tensors_hash(t) for t in [first, *others]}) == 5
