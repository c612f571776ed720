"""The pages of files: what stands in reports, preference stores, jobs and models, from their records."""

from __future__ import annotations

import dataclasses
import inspect
import re
import types
from pathlib import PurePath
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from hallo4.evaluation import report, stored
from hallo4.models import PortraitDiT, PortraitUNet, TinyVideoAutoencoder
from hallo4.pipelines.adapter import AdapterConfig
from hallo4.pipelines.model_info import ModelInfo
from hallo4.pipelines.reach import TrainedOn
from hallo4.preference import schema
from hallo4.ranges import Range
from hallo4.studio.make import job_folder, settings

_WORDS = {
    int: "whole number", float: "number", str: "text", bool: "true or false", type(None): "null",
    Any: "anything", dict: "object", PurePath: "path",
}  # fmt: skip
_NOT_SAID = (inspect.Parameter.empty, dataclasses.MISSING)


def files_page() -> str:
    """Reports, stores and jobs."""
    return "\n\n".join(
        [
            "# Report and store files",
            "Generated from the records that read and write these files. All are UTF-8 JSON; in `.jsonl` "
            "files every line is an object of its own. A file that a command reads may be written by hand or "
            "by another program; what does not fit is refused with the field's name.",
            "## Reports of hallo4 evaluate",
            "What has to stand in a report to be used again by `compare` and by pages; more may stand there. "
            "[What the metrics mean](../metrics.md).",
            _record("A row, one of every clip and system", report.Row),
            _record("REPORT.json of evaluate world, besides schema and kind", stored._World),
            _record("REPORT.json of evaluate videos, likewise", stored._Videos),
            "## Preference store",
            "A folder with one file per kind of record; lines are only ever appended. Each line also holds "
            f"`schema_version`, now {schema.SCHEMA_VERSION}. "
            "[How a store comes to be](../preference_data.md).",
            _record("conditions.jsonl", schema.Condition),
            _record("clips.jsonl", schema.Clip),
            _record("ratings.jsonl", schema.Rating),
            _record("scores.jsonl", schema.MachineScore),
            _record("gold.jsonl", schema.GoldAnswer),
            _record("pairs.jsonl", schema.Pair),
            "## Jobs of the studio",
            "`FOLDER/jobs/ID/`. [The studio](../studio.md).",
            _record("request.json", job_folder.Request),
            _record("The body of request.json", settings.JobBody),
            _record("The settings of the body", settings.Settings),
            _record("outcome.json", job_folder.Outcome),
        ]
    )


def model_folder_page() -> str:
    """`model.json` and the configurations of the parts."""
    from hallo4.pipelines import model_folder

    tree = inspect.getdoc(model_folder).split("\n\n")[1]
    return "\n\n".join(
        [
            "# Model folder",
            "Generated from the classes that read it. A model is a folder; nothing in it is a pickle, every "
            "tensor must be there with its own shape, and nothing else may be.",
            f"```text\n{inspect.cleandoc(tree)}\n```",
            _record("model.json", ModelInfo),
            _record("trained_on in model.json", TrainedOn),
            _record("adapter/config.json", AdapterConfig),
            "## config.json of the parts",
            "The arguments of the class that `_class_name` names. Those of released parts "
            "(`AutoencoderKLWan`, wav2vec2, umT5) are those of diffusers and transformers.",
            _arguments("dit/config.json: PortraitDiT", PortraitDiT),
            _arguments("unet/config.json: PortraitUNet", PortraitUNet),
            _arguments("autoencoder/config.json: TinyVideoAutoencoder", TinyVideoAutoencoder),
        ]
    )


def _record(title: str, kind: type) -> str:
    """A dataclass or pydantic model: its text, and a definition per field."""
    hints = get_type_hints(kind, include_extras=True)
    if dataclasses.is_dataclass(kind):
        defaults = {field.name: _default(field) for field in dataclasses.fields(kind)}
    else:
        defaults = {
            name: dataclasses.MISSING if field.is_required() else field.default
            for name, field in kind.model_fields.items()
        }
    entries = [_definition(name, said(hints[name]), default) for name, default in defaults.items()]
    return "\n\n".join([f"### {title}", _prose(kind.__doc__), *entries])


def _arguments(title: str, kind: type) -> str:
    """The arguments of a class that is made from its configuration."""
    hints = get_type_hints(kind.__init__, include_extras=True)
    parameters = list(inspect.signature(kind.__init__).parameters.values())[1:]
    entries = [_definition(one.name, said(hints.get(one.name, Any)), one.default) for one in parameters]
    return "\n\n".join([f"### {title}", _prose(kind.__doc__.partition("\n\n")[0]), *entries])


def _default(field: dataclasses.Field) -> Any:
    made = field.default_factory
    return field.default if made is dataclasses.MISSING else made()


def _definition(name: str, kind: str, default: Any) -> str:
    ends = "" if default in _NOT_SAID else f"; default `{_shown(default)}`"
    return f"`{name}`\n: {kind}{ends}"


def _shown(value: Any) -> str:
    known = {None: "null", True: "true", False: "false"}
    if isinstance(value, bool) or value is None:
        return known[value]
    return str(list(value)) if isinstance(value, tuple) else repr(value).replace("'", '"')


def said(hint: Any) -> str:
    """A type in words of JSON."""
    origin, inside = get_origin(hint), get_args(hint)
    if origin is Annotated:
        limits = [str(extra) for extra in hint.__metadata__ if isinstance(extra, Range)]
        limits += [found for extra in hint.__metadata__ if (found := _field_limits(extra))]
        return ", ".join([said(inside[0]), *limits])
    if origin is Literal:
        return "one of " + ", ".join(f"`{choice}`" for choice in inside)
    if origin in (Union, types.UnionType):
        return " or ".join(said(one) for one in inside)
    if origin in (tuple, list):
        kinds = [one for one in inside if one is not Ellipsis]
        counted = f"{len(kinds)} x " if origin is tuple and Ellipsis not in inside and len(kinds) > 1 else ""
        return f"list of {counted}({said(kinds[0])})" if kinds else "list"
    if origin is dict:
        return f"object: {said(inside[0])} → ({said(inside[1])})"
    if dataclasses.is_dataclass(hint) or hasattr(hint, "model_fields"):
        return f"object `{hint.__name__}`"
    return _WORDS.get(hint, getattr(hint, "__name__", str(hint)))


def _field_limits(extra: Any) -> str:
    """What a pydantic field says of numbers and lengths."""
    names = {"ge": "at least {}", "gt": "above {}", "le": "at most {}", "max_length": "up to {} letters"}
    limits = [
        text.format(f"{value:g}")
        for one in getattr(extra, "metadata", ())
        for name, text in names.items()
        if (value := getattr(one, name, None)) is not None
    ]
    return ", ".join(limits)


def _prose(text: str | None) -> str:
    """A docstring as Markdown."""
    parts = inspect.cleandoc(text or "").split("`")
    return "`".join(
        re.sub(r"([*_<>\[\]$|])", r"\\\1", part) if number % 2 == 0 else part
        for number, part in enumerate(parts)
    )
