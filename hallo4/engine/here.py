"""The engine that is this process: one record after the other."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from hallo4.engine.stage import ENDS_ALL, Item, Outcome, Result, Stage, computing_threads


class ThisProcess:
    """Opens a stage with its first record, and runs it here."""

    def map(self, stage: Stage[Item, Result], items: Iterable[Item]) -> Iterator[Outcome[Item, Result]]:
        """See `Engine.map`."""
        work = None
        for item in items:
            with computing_threads(stage.cpus):
                work = work or stage.open(stage.settings)
                try:
                    outcome = Outcome(item, work(item))
                except ENDS_ALL:
                    raise
                except Exception as error:
                    outcome = Outcome(item, error=error)
            yield outcome

    def __enter__(self) -> ThisProcess:
        return self

    def __exit__(self, *error: object) -> None:
        pass


THIS_PROCESS = ThisProcess()
"""What works where nothing else is asked for."""
