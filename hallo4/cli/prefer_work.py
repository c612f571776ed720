"""What each `hallo4 prefer` command does: call the preference room, and say what came of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from hallo4.cli import prefer_words as words
from hallo4.engine import open_engine
from hallo4.errors import InputError, OutputError
from hallo4.preference import PreferenceStore
from hallo4.whole import write_whole

_SAID = Console(stderr=True, highlight=False, soft_wrap=True)


def do(options: Any) -> None:
    """Do what the options of any command ask for."""
    _WORK[type(options)](options)


def _candidates(options: words.Candidates) -> None:
    from hallo4.preference.candidates import Variant, make_candidates
    from hallo4.preference.gold import make_gold

    store = PreferenceStore.create(options.store)
    if options.video is not None:
        _register(store, options)
        return
    scales = options.guidance_scales or (None,)
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    variants = [
        Variant(model, seed, options.steps, scale)
        for model in options.models
        for scale in scales
        for seed in seeds
    ]
    conditions = _conditions(store, options)
    with open_engine(options.workers, options.ray) as engine:
        make_candidates(store, conditions, variants, _step("clips"), engine=engine)
    if options.gold:
        made = make_gold(store, options.gold)
        _say(f"{len(made)} gold questions")
    print(options.store)


def _conditions(store: PreferenceStore, options: words.Candidates) -> list[Any]:
    from hallo4.evaluation.suites.generators import world_of
    from hallo4.preference.conditions import add_condition_of_files, add_world_condition

    if options.portrait is None:
        numbers = range(options.first_episode, options.first_episode + options.episodes)
        world = options.world or world_of(options.models)
        return [add_world_condition(store, n, options.seconds, options.size_px, world) for n in numbers]
    if options.audio is None:
        raise InputError("--portrait needs --audio: name the speech that the person is to say.")
    condition = add_condition_of_files(
        store, options.portrait, options.audio, options.motion, identity_id=options.identity
    )
    _say(f"condition {condition.condition_id}")
    return [condition]


def _register(store: PreferenceStore, options: words.Candidates) -> None:
    from hallo4.preference.candidates import GENERATED, register_video

    conditions = store.conditions()
    if options.condition not in conditions:
        known = ", ".join(list(conditions)[:5]) or "none yet"
        raise InputError(
            f"--video needs --condition with one that is in the store ({known}); found {options.condition}."
        )
    consent = options.consent or GENERATED
    clip = register_video(
        store, conditions[options.condition], options.video, options.system, consent=consent
    )
    print(store.folder / clip.path)


def _score(options: words.Score) -> None:
    from hallo4.preference.score import score_clips

    store = PreferenceStore.open(options.store)
    with open_engine(options.workers, options.ray) as engine:
        added = score_clips(store, _step("clips"), engine)
    _say(f"{added} scores added")
    print(options.store)


def _annotate(options: words.Annotate) -> None:
    from hallo4.studio.annotate import serve
    from hallo4.studio.study import default_study, read_study

    study = default_study() if options.study is None else read_study(options.study)

    def ready(links: Any) -> None:
        for folder, of in zip(options.stores, links, strict=True):
            if len(links) > 1:
                _say(f"{folder}")
            _say(f"raters:    {of.rate}")
            _say(f"organiser: {of.admin}")
            if study.platform.participant is not None:
                _say(f"to try it: {of.rate}&{study.platform.participant}=anybody")

    serve(
        *(options.stores, options.host, options.port, study, options.seed),
        public_url=options.public_url,
        workers=options.workers,
        on_ready=ready,
        say=_say,
    )


def _raters(options: words.RatersOf) -> None:
    from hallo4.outputs import refuse_output
    from hallo4.studio.raters import delete_rater, exclude_raters, raters_table
    from hallo4.studio.sheets import answer_sheet, payment_sheet

    sheets = ((options.payment, payment_sheet), (options.answers, answer_sheet))
    for out, _ in sheets:
        if out is not None:
            refuse_output(out, [options.store])
    store = PreferenceStore.open(options.store)
    for name in options.delete:
        _say(f"{name}: {delete_rater(store, name)} answers deleted")
    for line in exclude_raters(store, options.exclude, options.below_gold, options.reason):
        _say(line)
    for name in options.include:
        if not store.include(name):
            raise InputError(f"{name}: is not excluded. Name one who is.")
        _say(f"{name}: counts again")
    table = raters_table(store)
    Console().print(table)
    if not table.row_count:
        _say("no ratings yet: collect some with `hallo4 prefer annotate`")
    for out, make in sheets:
        if out is not None:
            _write(out, make(store))
    print(options.store)


def _write(path: Path, content: bytes) -> None:
    try:
        write_whole(path, content)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror}). Choose another place.") from error
    _say(f"wrote {path}")


def _pairs(options: words.Pairs) -> None:
    from hallo4.preference.audit import audit_pairs, require_sound
    from hallo4.preference.curate import Curation, curate
    from hallo4.preference.schema import AXES
    from hallo4.preference.trust import require_agreement

    store = PreferenceStore.open(options.store)
    curated = curate(
        store,
        Curation(
            evidence=options.evidence,
            min_raters=options.min_raters,
            axes=AXES if options.axis == "both" else (options.axis,),
            min_gap=options.min_gap,
            pareto=not options.any_axis,
            max_motion_difference=options.max_motion_difference,
            choose=options.choose,
            weights=options.weights,
            held_out_fraction=options.held_out,
            seed=options.seed,
            min_gold=options.min_gold or None,
            exclude=options.exclude_rater,
        ),
    )
    for name, why in curated.left_out.items():
        _say(f"left out, rater {name}: {why}")
    for reason, count in sorted(curated.dropped.items(), key=lambda item: -item[1]):
        _say(f"dropped, {reason}: {count}")
    if not curated.pairs:
        raise InputError(
            f"{options.store}: no pair passed; those in the store stay. Collect more ratings, or lower "
            "--min-raters or --min-gap."
        )
    for line in require_agreement(curated.agreement, options.min_alpha):
        _say(line)
    audit = audit_pairs(curated.pairs, store.clips(), store.conditions())
    if not options.allow_source_shortcut:
        require_sound(audit)
    if audit.motion.biased:
        _say("winners move less than losers: these pairs may teach stillness")
    if curated.of_unknown_motion:
        _say(f"{curated.of_unknown_motion} pairs have clips whose motion is not known")
    store.write_pairs(curated.pairs)
    held = sum(pair.split == "held_out" for pair in curated.pairs)
    _say(f"{len(curated.pairs)} pairs, {held} of them held out")
    print(options.store)


def _ship(options: words.Ship) -> None:
    from hallo4.preference.ship import ship
    from hallo4.preference.trust import trusted

    store = PreferenceStore.open(options.store)
    counting = trusted(store, options.min_gold or None)
    for name, why in counting.left_out.items():
        _say(f"left out, rater {name}: {why}")
    if any(rating.simulated for rating in counting.ratings):
        _say("some raters are SIMULATED: the verdict says nothing about people")
    verdict = ship(counting.ratings, store.clips(), options.new, options.old, options.reports)
    table = Table(title=f"{verdict.new} in the place of {verdict.old}", title_justify="left")
    for head in ("condition", "", "found"):
        table.add_column(head)
    for check in verdict.checks:
        table.add_row(
            check.name, {True: "passed", False: "FAILED", None: "not known"}[check.passed], check.found
        )
    Console().print(table)
    print("ships" if verdict.ships else "does not ship")
    if not verdict.ships:
        raise SystemExit(1)


def _report(options: words.Report) -> None:
    from hallo4.evaluation.report import require_writable, write_report
    from hallo4.evaluation.show.table import rich_table
    from hallo4.outputs import refuse_output
    from hallo4.preference.report import preference_report
    from hallo4.preference.report_views import report_grid, report_page

    refuse_output(options.output, [options.store])
    require_writable(options.output)
    report = preference_report(PreferenceStore.open(options.store))
    write_report(report, options.output, report_page(report))
    Console().print(rich_table(report_grid(report)))
    for note in report["notes"]:
        _say(f"note: {note}")
    print(options.output)


def _import(options: words.Import) -> None:
    from hallo4.outputs import refuse_output
    from hallo4.preference.exchange import import_data

    refuse_output(options.store, [options.source], for_store=True)
    store = PreferenceStore.create(options.store)
    found = import_data(store, options.source, options.format)
    for line in found.dropped:
        _say(f"dropped, {line}")
    _say(f"{found.records} records added, {len(found.dropped)} rows dropped")
    print(options.store)


def _export(options: words.Export) -> None:
    from hallo4.outputs import refuse_output
    from hallo4.preference.exchange import export_data

    refuse_output(options.output, [options.store])
    rows = export_data(PreferenceStore.open(options.store), options.output, options.format)
    _say(f"{rows} rows")
    print(options.output)


def _upgrade(options: words.Upgrade) -> None:
    from hallo4.studio.upgrade import upgrade

    made = upgrade(options.store)
    for line in made.dropped:
        _say(f"left out, {line}")
    _say(f"{made.records} records upgraded")
    print(options.store)


def _simulate(options: words.Simulate) -> None:
    from hallo4.preference.simulate import Simulation, simulate

    store = PreferenceStore.open(options.store)
    simulation = Simulation(
        raters=options.raters,
        kind=options.kind,
        noise_alignment=options.noise[0],
        noise_fidelity=options.noise[1],
        rater_bias=options.rater_bias,
        left_pull=options.left_pull,
        seed=options.seed,
    )
    added = simulate(store, simulation)
    _say(f"{added} SIMULATED ratings added: they say nothing about people")
    print(options.store)


def _say(line: str) -> None:
    _SAID.print(line, markup=False)


def _step(things: str) -> Any:
    return lambda done, total, _: _say(f"{done} of {total} {things}")


_WORK: dict[type, Any] = {
    words.Candidates: _candidates,
    words.Score: _score,
    words.Annotate: _annotate,
    words.RatersOf: _raters,
    words.Pairs: _pairs,
    words.Ship: _ship,
    words.Report: _report,
    words.Import: _import,
    words.Export: _export,
    words.Upgrade: _upgrade,
    words.Simulate: _simulate,
}
