"""What the reference says, computed beforehand: K draws for each pair, then no pass through it any more.

    pairs x K draws --reference_errors--> errors [pairs, K, 2], sigma [pairs, K] --save--> table.safetensors
    training: visit v of a pair uses draw v mod K and reads its row

Saves the reference's time only where pairs are visited much more often than K times, and its memory where all
weights are trained (dpo.md section 2.2). A table is of one reference, number format, data and kind of draw;
its stamp says which, and loading refuses another.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from hallo4.diffusion.draws import PairDrawConfig
from hallo4.diffusion.pair_loss import PreferenceLossConfig
from hallo4.errors import CheckpointError, InputError, OutputError
from hallo4.input_file import check_regular
from hallo4.json_file import parse_json
from hallo4.training.pair_batch import PairBatch
from hallo4.whole import whole_file


@dataclass(frozen=True)
class Table:
    """A `Reference` that reads: `values` [n, K, 2] (or [n, K, 2, F]) errors of winner and loser, `sigma`
    [n, K].

    `stamp`: see `table_stamp`.
    """

    values: Tensor
    sigma: Tensor
    stamp: Mapping[str, str]

    @property
    def draws(self) -> int:
        """K. Visit v of a pair has to use draw v mod K."""
        return self.sigma.shape[1]

    def errors(self, measure: Callable[[], Tensor], batch: PairBatch) -> Tensor:
        """See `Reference`. InputError for a pair that is not in the table, or another draw than the
        table's."""
        if batch.pairs is None or batch.visits is None:
            raise InputError("A reference table needs the batch's pairs and visits: give both.")
        rows, draws = batch.pairs.cpu(), batch.visits.cpu() % self.draws
        if len(rows) and not 0 <= int(rows.min()) <= int(rows.max()) < len(self.sigma):
            raise InputError(
                f"Pair {int(rows.max())} is not in the reference table of {len(self.sigma)} pairs: make it "
                "again."
            )
        if not torch.equal(self.sigma[rows, draws], batch.sigma.float().cpu()):
            raise InputError(
                "A batch has other noise levels than the reference table: draw visit v as "
                f"pair_draw(..., v % {self.draws}, ...), with the settings of the table."
            )
        return self.values[rows, draws].transpose(0, 1).to(batch.sigma.device)

    def save(self, path: Path) -> None:
        """Write the table to `path` (safetensors, the stamp as JSON in its header) atomically;
        OutputError."""
        path = Path(path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            tensors = {"errors": self.values.contiguous(), "sigma": self.sigma.contiguous()}
            with whole_file(path) as temporary:
                save_file(tensors, temporary, metadata={"stamp": json.dumps(dict(self.stamp))})
        except (OSError, SafetensorError) as error:
            raise OutputError(
                f"Cannot write the reference table {path}: {error}. Free the disk or choose another folder."
            ) from error

    @classmethod
    def load(cls, path: Path, stamp: Mapping[str, str]) -> Table:
        """The table in `path`; InputError, with names, when it was made for another `stamp`.

        CheckpointError when the file is missing or damaged.
        """
        check_regular(path, "a reference table", CheckpointError)
        try:
            with safe_open(path, "pt") as file:
                found = parse_json((file.metadata() or {})["stamp"], "stamp", dict[str, str])
                table = cls(file.get_tensor("errors"), file.get_tensor("sigma"), found)
        except (OSError, SafetensorError, KeyError, ValueError, InputError) as error:
            raise CheckpointError(
                f"Cannot read the reference table {path}: {error}. Delete it to make it again."
            ) from error
        other = sorted(name for name in {*stamp, *found} if stamp.get(name) != found.get(name))
        if other:
            raise InputError(
                f"The reference table {path} was made with another {' and '.join(other)}. Delete it to "
                "make it again, or go back to what it was made with."
            )
        return table


def build_table(
    make_batch: Callable[[Tensor, Tensor], PairBatch],
    errors_of: Callable[[PairBatch], Tensor],
    pairs: int,
    draws: int,
    batch_size: int,
    stamp: Mapping[str, str],
    on_progress: Callable[[int, int], None] | None = None,
) -> Table:
    """Compute the errors of draws 0..`draws`-1 of all `pairs`; progress as (done, in all).

    `make_batch(pairs [b], visits [b])`: the batch that training would make; `errors_of(batch)`: [2, b] or
    [2, b, F], `reference_errors`. Choose `draws` as the draws' `strata`.
    """
    rows = torch.arange(pairs).repeat_interleave(draws)
    visits = torch.arange(draws).repeat(pairs)
    errors, sigmas = [], []
    for start in range(0, len(rows), batch_size):
        part = slice(start, start + batch_size)
        batch = make_batch(rows[part], visits[part])
        errors.append(errors_of(batch).transpose(0, 1).float().cpu())
        sigmas.append(batch.sigma.float().cpu())
        if on_progress is not None:
            on_progress(min(start + batch_size, len(rows)), len(rows))
    shape = (pairs, draws)
    return Table(torch.cat(errors).unflatten(0, shape), torch.cat(sigmas).unflatten(0, shape), dict(stamp))


def table_stamp(
    model: nn.Module, data: str, draw: PairDrawConfig, config: PreferenceLossConfig, adapter: str = "dpo"
) -> dict[str, str]:
    """What a table depends on, as short strings: weights, number format, data, draw, prediction.

    `model`: the one that is trained; its adapter `adapter` does not count. `data`: a fingerprint of pairs,
    conditions and loss weights, such as `tensors_hash`. The number format is the one in use here and now:
    call this, like the measuring, under the autocast of training.
    """
    weights = {name: value for name, value in model.state_dict().items() if f".{adapter}." not in name}
    weights = {name.replace(".base_layer.", "."): value for name, value in weights.items()}
    formats = sorted({str(p.dtype).removeprefix("torch.") for p in weights.values()})
    device = next(model.parameters()).device.type
    if torch.is_autocast_enabled(device):
        formats.append(f"autocast to {torch.get_autocast_dtype(device)}".replace("torch.", ""))
    return {
        "reference weights": tensors_hash(weights),
        "number format": ", ".join(formats),
        "data": data,
        "draw": hashlib.blake2b(json.dumps(asdict(draw)).encode(), digest_size=16).hexdigest(),
        "prediction": config.prediction,
    }


def tensors_hash(tensors: Mapping[str, Tensor]) -> str:
    """32 hexadecimal digits that change when a name, shape, type or bit of `tensors` changes."""
    digest = hashlib.blake2b(digest_size=16)
    for name in sorted(tensors):
        value = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {value.dtype} {list(value.shape)};".encode())
        digest.update(value.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
