"""`hallo4 weights`: list, fetch, check and convert the files that come from elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import FlagCreatePairsOff, Positional, arg

from hallo4.cli.options import parse
from hallo4.cli.weights_convert import Convert, convert

if TYPE_CHECKING:
    from hallo4.weights.catalogue import WeightFile
    from hallo4.weights.check import Finding
    from hallo4.weights.fetch import FetchPlan

ASK_ABOVE_BYTES = 1_000_000_000


@dataclass(frozen=True)
class List:
    """Show the files that come from elsewhere: what for, from where, their terms, and if they are here."""

    names: Annotated[Positional[tuple[str, ...]], arg(metavar="[NAME ...]", help_behavior_hint="")] = ()
    """bundles or files; none: all"""
    json: FlagCreatePairsOff[bool] = False
    """for programs: a JSON array of objects"""


@dataclass(frozen=True)
class Fetch:
    """Fetch files, after showing publisher, terms and size. Stopped, the same command resumes.

    HF_TOKEN, HF_ENDPOINT and HF_HUB_OFFLINE of the Hugging Face hub count.
    """

    names: Annotated[Positional[tuple[str, ...]], arg(metavar="NAME ...", help_behavior_hint="")] = ()
    """bundles or files, as `hallo4 weights list` shows them"""
    output: Annotated[
        Path | None,
        arg(aliases=("-o",), metavar="DIR", help_behavior_hint="(default: in $HALLO4_WEIGHTS)"),
    ] = None
    """the folder that the files go to"""
    own: Annotated[
        Path | None, arg(name="from", metavar="FOLDER|TGZ", help_behavior_hint="(default: none)")
    ] = None
    """take the files that lie there, or in a .tgz, by hard link or copy, instead of fetching them"""
    yes: FlagCreatePairsOff[bool] = False
    """do not ask before more than 1 GB"""


@dataclass(frozen=True)
class Check:
    """Compare the files that are here with the published ones, by size and SHA-256.

    SyncNet, which publishes none, is also run on the film that its authors publish scores of, if example.avi
    lies beside it. Exit code 2 if a file that was asked for is missing, or any is not the published one.
    """

    names: Annotated[
        Positional[tuple[str, ...]], arg(metavar="[NAME | FOLDER ...]", help_behavior_hint="")
    ] = ()
    """bundles, files, or folders of files; none: all that is here"""


def run(words: Sequence[str]) -> None:
    """Parse the words after `hallo4 weights` and do it."""
    commands: dict[str, tuple[Any, Callable[[Any], None]]] = {
        "list": (List, _list),
        "fetch": (Fetch, _fetch),
        "check": (Check, _check),
        "convert": (Convert, convert),
    }
    options = parse(
        {name: command for name, (command, _) in commands.items()},
        list(words),
        prog="hallo4 weights",
        description=__doc__,
    )
    next(do for command, do in commands.values() if isinstance(options, command))(options)


def _list(options: List) -> None:
    from hallo4.weights.catalogue import BUNDLES, files_named
    from hallo4.weights.check import check_file

    names = options.names or tuple(BUNDLES)
    findings = {name: [check_file(file, hashed=False) for file in files_named(name)] for name in names}
    if options.json:
        import json

        print(
            json.dumps([_record(name, item) for name, items in findings.items() for item in items], indent=1)
        )
        return
    from rich.console import Console

    from hallo4.weights.places import weights_root

    for name, items in findings.items():
        rows = [(item.file.name, _size(item.file.size_bytes), _said_of(item)) for item in items]
        title = f"{name}: {BUNDLES[name].purpose}" if name in BUNDLES else name
        Console().print(_table(title, ("file", "size", "what it is, where it is published, its terms"), rows))
    _notes().print(f"files go to {weights_root()}; hallo4 weights fetch NAME brings them", markup=False)


def _fetch(options: Fetch) -> None:
    from hallo4.errors import FetchError, InputError
    from hallo4.outputs import refuse_output
    from hallo4.weights.catalogue import BUNDLES, files_named
    from hallo4.weights.fetch import plan_fetch, run_fetch
    from hallo4.weights.places import folder_of

    if not options.names:
        raise InputError(f"Name what to fetch: {', '.join(BUNDLES)}, or files of hallo4 weights list.")
    if options.output is not None:
        refuse_output(options.output)
    notes = _notes()
    files = list(dict.fromkeys(file for name in options.names for file in files_named(name)))
    notes.print("looking at what is here and what is offered")
    plan = plan_fetch(files, options.output, options.own)
    for finding in plan.here:
        notes.print(f"here: {finding.path}{_doubt(finding.state)}", markup=False)
    if plan.steps:
        notes.print(_plan_table(plan))
    _ask(plan, options.yes)
    run_fetch(plan, lambda step: notes.print(f"bringing {step.path}", markup=False))
    for folder in dict.fromkeys(folder_of(file, options.output) for file in files):
        print(folder)
    if plan.by_hand:
        named = "; ".join(f"{file.path} ({file.where}; terms: {file.terms})" for file in plan.by_hand)
        raise FetchError(
            f"No server of the catalogue offers {named}. Get what you want of it yourself, and give its "
            "folder with --from."
        )


def _check(options: Check) -> None:
    from rich.console import Console

    from hallo4.errors import CheckpointError
    from hallo4.weights.catalogue import FILES
    from hallo4.weights.check import check_file

    asked: list[tuple[WeightFile, Path | None]] = [pair for word in options.names for pair in _meant(word)]
    places = asked or [(file, None) for file in FILES.values()]
    findings = [(check_file(file, folder), folder) for file, folder in places]
    if not asked:
        findings = [(finding, folder) for finding, folder in findings if finding.state != "missing"]
    rows = [(f.file.name, f.state + _doubt(f.state), str(f.path)) for f, _ in findings]
    Console().print(_table("files from elsewhere", ("file", "is", "where"), rows))
    for finding, _ in findings:
        if finding.file.name == "syncnet" and finding.state in ("right", "unknown"):
            _check_syncnet(finding.path.parent)
    bad = [item for item in findings if item[0].state in ("wrong", "missing")]
    if bad:
        first, folder = bad[0]
        more = f" (and {len(bad) - 1} more)" if len(bad) > 1 else ""
        raise CheckpointError(
            f"{first.path}: {first.reason or 'is not there'}{more}. "
            + ("Move it away and fetch it again" if first.reason else "Fetch it")
            + f": hallo4 weights fetch {first.file.name}{f' -o {folder}' if folder else ''}."
        )


def _check_syncnet(folder: Path) -> None:
    """CheckpointError: SyncNet does not say of its authors' film what is published."""
    from hallo4.errors import CheckpointError
    from hallo4.evaluation.look.golden import EXAMPLE, syncnet_on_example

    if not (folder / EXAMPLE).is_file():
        _notes().print(f"SyncNet was not run: {EXAMPLE} of its authors is not beside it", markup=False)
        return
    golden = syncnet_on_example(folder)
    _notes().print(golden.line, markup=False)
    if not golden.near:
        raise CheckpointError(
            f"{golden.line}: these are other weights, or its face was cut otherwise. Get both files again, "
            f"or give {EXAMPLE} keypoints of DWPose beside it."
        )


def _meant(word: str) -> list[tuple[WeightFile, Path | None]]:
    """What a word after `check` asks for: a name of the catalogue, or every bundle that a folder holds files
    of."""
    from hallo4.errors import InputError
    from hallo4.weights.catalogue import BUNDLES, FILES, files_named
    from hallo4.weights.places import present

    if word in BUNDLES or word in FILES:
        return [(file, None) for file in files_named(word)]
    folder = Path(word)
    if not folder.is_dir():
        raise InputError(
            f"{word!r} is no folder and no name of the catalogue; bundles are {', '.join(BUNDLES)}. "
            "See hallo4 weights list."
        )
    held = [bundle for bundle in BUNDLES.values() if any(present(file, folder) for file in bundle.files)]
    if not held:
        raise InputError(
            f"{word}: holds no file of the catalogue. Give the folder that holds, for example, "
            f"{BUNDLES['hallo4'].files[0].path}."
        )
    return [(file, folder) for bundle in held for file in bundle.files]


def _ask(plan: FetchPlan, yes: bool) -> None:
    """Return, or InputError (no one can be asked), or Cancelled (the answer is no)."""
    import sys

    from hallo4.errors import Cancelled, InputError

    if yes or plan.download_bytes <= ASK_ABOVE_BYTES:
        return
    size = _size(plan.download_bytes)
    if not sys.stdin.isatty():
        raise InputError(f"{size} would be fetched, and there is no terminal to ask at. Add --yes to agree.")
    print(f"Fetch {size}? [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise Cancelled("nothing was fetched")


def _plan_table(plan: FetchPlan) -> Any:
    rows = []
    for step in plan.steps:
        source = step.own or getattr(step.source, "page", None) or step.source.url
        said = f"{step.file.purpose}\nfrom {source}\nterms: {step.file.terms}\nto {step.path}"
        rows.append((step.file.name, _size(step.size_bytes), said))
    title = f"to fetch: {_size(plan.download_bytes)}"
    return _table(title, ("file", "size", "what it is, its publisher, its terms"), rows)


def _table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Any:
    """A table that folds long words in a narrow terminal in the place of cutting them."""
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=escape(title), title_justify="left", show_lines=True)
    for column in columns:
        table.add_column(column, justify="right" if column == "size" else "left", overflow="fold")
    for row in rows:
        table.add_row(*map(escape, row))
    return table


def _notes() -> Any:
    """Where what is not the result is said: stderr, its lines never broken."""
    from rich.console import Console

    return Console(stderr=True, highlight=False, soft_wrap=True)


def _record(bundle: str, finding: Finding) -> dict[str, Any]:
    from dataclasses import asdict

    record = asdict(finding.file) | {"where": finding.file.where}
    return {"bundle": bundle, **record, "state": finding.state, "local_path": str(finding.path)}


def _said_of(finding: Finding) -> str:
    file = finding.file
    lines = [file.purpose, file.where, f"terms: {file.terms}"]
    if file.extra:
        lines.append(f"runs with: pip install 'hallo4[{file.extra}]'")
    if finding.state == "missing":
        lines.append("not here")
    else:
        lines.append(f"here: {finding.path}" + (f" ({finding.reason})" if finding.reason else ""))
    return "\n".join(lines)


def _doubt(state: str) -> str:
    return " (not compared: its SHA-256 is not known)" if state == "unknown" else ""


def _size(size_bytes: int | None) -> str:
    if size_bytes is None:
        return "unknown"
    for unit, bytes_per_unit in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size_bytes >= bytes_per_unit:
            return f"{size_bytes / bytes_per_unit:.1f} {unit}"
    return f"{size_bytes} B"
