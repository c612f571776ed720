"""The formats that preference data can be exchanged in, by name.

::

    store --export--> videoreward: a folder with data.csv and videos/      store <--import-- data.csv
                      pickapic:    one .parquet                                              .parquet
                      parquet:     a folder with a .parquet per table                        the folder
                      jsonl:       a folder with a .jsonl per table                          the folder
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from hallo4.outputs import refuse_output
from hallo4.preference.foreign import Imported
from hallo4.preference.lines import export_lines, import_lines
from hallo4.preference.parquet import export_parquet, import_parquet
from hallo4.preference.pickapic import export_pickapic, import_pickapic
from hallo4.preference.store import PreferenceStore
from hallo4.preference.videoreward import export_videoreward, import_videoreward

Format = Literal["videoreward", "pickapic", "parquet", "jsonl"]


def export_data(store: PreferenceStore, out: Path, kind: Format) -> int:
    """Write a store in a format of others; returns the rows. Errors: see the format's own module.

    OutputError too: `out` is, or lies in, a store.
    """
    refuse_output(out, [store.folder])
    return {
        "videoreward": export_videoreward,
        "pickapic": export_pickapic,
        "parquet": export_parquet,
        "jsonl": export_lines,
    }[kind](store, out)


def import_data(store: PreferenceStore, source: Path, kind: Format) -> Imported:
    """Add the data of a format of others to a store. Errors: see the format's own module."""
    with store.sole_writer_of("clips"):
        if kind == "videoreward":
            return import_videoreward(store, source)
        if kind == "pickapic":
            return import_pickapic(store, source)
        if kind == "jsonl":
            return import_lines(store, source)
        return Imported(records=import_parquet(store, source))
