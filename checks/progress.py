"""How far an operator is: a bar in scripts, the App's progress, a delegated run's progress."""

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator

import fiftyone.core.utils as fou

# Seconds between two reports to the App or to a delegated run.
REPORT_EVERY = 0.5


class CanceledError(BaseException):
    """The work is not wanted any more; no check takes this for a fault of its own."""


class Progress:
    """Reports the stages of an operator.

    Args:
        report (None): called with a fraction between 0 and 1 and a line of text, at most twice a
            second; what it raises ends the work. Without it, bars are printed if
            ``fiftyone.config.show_progress_bars`` says so
    """

    def __init__(self, report: Callable[[float, str], None] | None = None) -> None:
        self._report = report

    def say(self, text: str) -> None:
        """Announces a stage that has no count."""
        if self._report is not None:
            self._report(0.0, text)

    @contextlib.contextmanager
    def stage(self, label: str, total: int, unit: str) -> Iterator[Callable[[int], None]]:
        """One stage with a count.

        Args:
            label: what is done, for example ``"Embedding"``
            total: how many there are to do
            unit: of what, in the plural

        Yields:
            a function to call with how many more are done
        """
        report = self._report
        if report is None:
            with fou.ProgressBar(total=total, iters_str=unit) as bar:
                yield bar.update
            return
        started = reported = time.monotonic()
        done = 0
        report(0.0, f"{label}: {total:,} {unit}")

        def update(count: int = 1) -> None:
            nonlocal done, reported
            done += count
            now = time.monotonic()
            if now - reported < REPORT_EVERY and done < total:
                return
            reported = now
            rate = done / max(now - started, 1e-9)
            left = duration((total - done) / max(rate, 1e-9))
            report(
                done / max(total, 1),
                f"{label}: {done:,} of {total:,} {unit} ({rate:,.0f}/s, {left} left)",
            )

        yield update

    @contextlib.contextmanager
    def share(self, label: str, total: int, unit: str) -> Iterator[Callable[[float], None]]:
        """One stage whose steps are reported as shares of the work.

        Yields:
            a function to call with the share that is done, in [0, 1]
        """
        with self.stage(label, total, unit) as advance:
            done = 0

            def report(share: float) -> None:
                nonlocal done
                reached = round(share * total)
                if reached > done:
                    advance(reached - done)
                    done = reached

            yield report


def duration(seconds: float) -> str:
    """Seconds as people say them: ``40 s``, ``3 min``, ``2.5 h``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def counted(count: int, noun: str) -> str:
    """A count with its noun: ``1 group``, ``1,200 groups``."""
    plural = f"{noun}es" if noun.endswith(("class", "box", "patch")) else f"{noun}s"
    return f"{count:,} {noun if count == 1 else plural}"


def percent(share: float | None) -> str:
    """A share as text: ``54 %``; ``unknown`` for None."""
    return "unknown" if share is None else f"{100 * share:.0f} %"


def counted_notes(notes: Iterable[str], noun: str) -> list[str]:
    """Notes on single images or patches as one sentence each, the most frequent first."""
    return [f"{count:,} {noun}: {note}" for note, count in Counter(notes).most_common()]
