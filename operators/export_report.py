"""``export_report``: what was found, as one HTML page for people without the App, CSV and JSON."""

import datetime
import hashlib
import json
import os
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import fiftyone as fo
import fiftyone.operators.types as types

from ..checks.contents import COLUMNS
from ..checks.progress import Progress, duration
from ..checks.report import num_samples, plan_report, read_contents
from ..errors import UserError
from ..markup import code, markdown
from ..report.tables import GENERATOR, as_csv, as_json, as_rows
from .base import QualityOperator, chosen_target

PAGE, TABLE, DOCUMENT = "report.html", "findings.csv", "findings.json"
FILES = (PAGE, TABLE, DOCUMENT)

# What the form offers to report on.
WHOLE, SHOWN = "dataset", "view"


class ExportReport(QualityOperator):
    name = "export_report"
    label = "Quality: export report"
    description = (
        "Export the findings (duplicates, outliers, label issues, class separability, the "
        "visualization) as one self-contained HTML page with images, and as CSV and JSON"
    )
    icon = "description"

    def run(
        self,
        samples: Any,
        progress: Progress,
        *,
        path: str | None = None,
        run_keys: list | str | None = None,
        overwrite: bool = False,
    ) -> dict[str, Any]:
        """Writes ``report.html``, ``findings.csv`` and ``findings.json`` into a folder.

        The page needs no network and nothing beside it: images, figures and styles are inside.
        The dataset is only read. In the table, a text that a spreadsheet would execute begins with
        an apostrophe.

        Args:
            samples: a dataset, or a view: the findings on its samples are reported
            path (None): the folder, made if need be; by default ``<dataset>-quality-report`` in
                the current folder
            run_keys (None): the runs and visualizations to report; by default all finished
                runs of this plugin and the latest visualization
            overwrite (False): also replace files of these names that this operator did not write
                for this dataset, or that were changed since

        Returns:
            a dict with ``path``, ``files``, ``findings`` (counts by kind), ``runs``,
            ``left_out`` and ``stale`` (reasons by run), ``bytes`` and ``seconds``

        Raises:
            UserError: if there is nothing to report or the folder cannot be written; nothing is
                written then
        """
        # Imported here: it brings Pillow's codecs, which opening the App need not wait for.
        from ..report.page import images_of, plan_galleries, render
        from ..report.thumbnails import make_thumbnails

        started = time.monotonic()
        dataset = samples._root_dataset
        dataset.reload()
        wanted = [run_keys] if isinstance(run_keys, str) else run_keys
        runs, visualizations = plan_report(dataset, wanted)
        folder = _folder(dataset, path)
        _check_files(folder, dataset.name, overwrite)
        progress.say("Reading the findings")
        contents = read_contents(samples, runs, visualizations)
        galleries = plan_galleries(contents)
        images = images_of(galleries)
        with progress.share("Making thumbnails", len(images), "images") as report:
            thumbnails = make_thumbnails(images, report)
        progress.say("Writing the report")
        now = datetime.datetime.now(datetime.timezone.utc)
        rows = as_rows(contents, COLUMNS)
        texts = {
            PAGE: render(contents, galleries, thumbnails, f"{now:%Y-%m-%d %H:%M} UTC"),
            TABLE: as_csv(rows, COLUMNS),
        }
        sums = {name: _checksum(text.encode()) for name, text in texts.items()}
        texts[DOCUMENT] = as_json(contents, rows, now.isoformat(timespec="seconds"), sums)
        _write(folder, texts)
        kinds = Counter(finding.what for finding in contents.findings)
        return {
            "path": str(folder),
            "files": [str(folder / name) for name in FILES],
            "samples": contents.num_samples,
            "of_samples": contents.num_total,
            "findings": dict(kinds),
            "runs": [reported.run.key for reported in contents.runs]
            + [one.brain_key for one in contents.visualizations],
            "left_out": contents.left_out,
            "stale": contents.stale,
            "bytes": {name: len(text.encode()) for name, text in texts.items()},
            "seconds": round(time.monotonic() - started, 2),
        }

    def samples(self, ctx: Any) -> Any:
        """The dataset, unless what the grid shows was chosen; of a script, what it passes."""
        if "operator_uri" not in ctx.request_params:
            return chosen_target(ctx)
        return ctx.view if ctx.params.get("reported") == SHOWN else ctx.dataset

    def form(self, ctx: Any, samples: Any, inputs: types.Object) -> None:
        dataset = samples._root_dataset
        total, shown = num_samples(dataset), num_samples(ctx.view)
        if shown != total:
            choices = types.RadioGroup()
            choices.add_choice(WHOLE, label=f"The whole dataset ({total:,} samples)")
            choices.add_choice(SHOWN, label=f"What the grid shows ({shown:,} samples)")
            inputs.enum(
                "reported", choices.values(), default=WHOLE, view=choices, label="Report on"
            )
        about = f"Report on {num_samples(samples):,} of {total:,} samples"
        runs, visualizations = plan_report(dataset, None)
        inputs.str(
            "path",
            default=str(Path(fo.config.default_dataset_dir) / _folder_name(dataset)),
            label="Folder",
            description="On the machine that runs the App's server; created if it does not exist",
        )
        choices = types.DropdownView(multiple=True)
        for run in runs:
            choices.add_choice(run.key, label=f"{run.key} ({run.operator})")
        for run in visualizations:
            choices.add_choice(run.key, label=f"{run.key} (visualization)")
        inputs.list(
            "run_keys",
            types.String(),
            view=choices,
            label="Runs",
            description="The runs to report; all of them if none is chosen",
        )
        inputs.bool(
            "overwrite",
            default=False,
            label="Overwrite",
            description=f"Replace existing files {', '.join(FILES)} in that folder",
        )
        # The App sends the default a moment later: required=True would complain until then.
        if (path := ctx.params.get("path")) is not None:
            overwrite = bool(ctx.params.get("overwrite"))
            _check_files(_absolute(path.strip()), dataset.name, overwrite)
        wanted = ctx.params.get("run_keys") or None
        runs, plots = plan_report(dataset, wanted)
        keys = ", ".join(run.key for run in [*runs, *plots])
        inputs.view("plan", types.Notice(label=f"{about}: {', '.join(FILES)} will cover {keys}"))

    def from_form(self, given: dict[str, Any]) -> dict[str, Any]:
        path = (given.get("path") or "").strip()
        if not path:
            raise UserError("path= is required: the folder for the report")
        given.pop("reported", None)
        return {**given, "path": str(_absolute(path)), "run_keys": given.get("run_keys") or None}

    def summary(self, result: dict[str, Any]) -> str:
        lines = [
            f"**Report on {result['samples']:,} of {result['of_samples']:,} samples**, written to "
            f"{code(result['files'][0])}, which opens in any browser"
        ]
        lines += [f"- {what}s: {count:,}" for what, count in result["findings"].items()]
        lines.append(f"- all findings as a table in `{TABLE}`, with the runs in `{DOCUMENT}`")
        lines += [
            f"- skipped {code(key)}: {markdown(reason)}"
            for key, reason in result["left_out"].items()
        ]
        lines += [
            f"- out of date: {code(key)}: {markdown('; '.join(reasons))}"
            for key, reasons in result["stale"].items()
        ]
        size = result["bytes"][PAGE] / 1e6
        lines.append(f"- a page of {size:.1f} MB, {duration(result['seconds'])} in total")
        return "\n".join(lines)


def _folder_name(dataset: fo.Dataset) -> str:
    return f"{dataset.slug}-quality-report"


def _folder(dataset: fo.Dataset, path: str | None) -> Path:
    if path is None:
        return Path.cwd() / _folder_name(dataset)
    if not path:
        raise UserError("path= is empty; pass a folder")
    if "://" in path:
        raise UserError(f"path={path!r} is not a folder on this machine")
    return Path(os.path.expanduser(path)).absolute()


def _absolute(path: str) -> Path:
    """A folder that was typed in the App, where nobody knows the server's current folder."""
    folder = Path(os.path.expanduser(path))
    if "://" in path or not folder.is_absolute():
        raise UserError(f"path={path!r} is not an absolute path; begin it with / or ~")
    return folder


def _check_files(folder: Path, dataset: str, overwrite: bool) -> None:
    """Refuses a folder that is none, or whose files are not this operator's.

    Raises:
        UserError: with the way out
    """
    if os.path.exists(folder) and not folder.is_dir():
        raise UserError(f"path={str(folder)!r} is a file; name a folder")
    if overwrite:
        return
    present = [name for name in FILES if os.path.lexists(folder / name)]
    if not present:
        return
    way_out = "choose another folder, or pass overwrite=True"
    before = _earlier_report(folder)
    if before is not None and before.get("dataset") != dataset:
        raise UserError(
            f"path={str(folder)!r} already holds the report of the dataset "
            f"{before.get('dataset')!r}; {way_out}"
        )
    sums = before["files"] if before is not None else {}
    for name in present:
        ours = before is not None if name == DOCUMENT else _is_as_written(folder / name, sums)
        if not ours:
            raise UserError(
                f"path={str(folder)!r} contains a {name} that this plugin did not write or that "
                f"was changed since; {way_out}"
            )


def _earlier_report(folder: Path) -> dict[str, Any] | None:
    """The document of an earlier report, which has the checksums of its other files."""
    try:
        document = json.loads((folder / DOCUMENT).read_text("utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(document, dict) or document.get("generator") != GENERATOR:
        return None
    return document if isinstance(document.get("files"), dict) else None


def _is_as_written(file: Path, sums: Mapping[str, str]) -> bool:
    return file.is_file() and sums.get(file.name) == _checksum(file.read_bytes())


def _checksum(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def _write(folder: Path, texts: Mapping[str, str]) -> None:
    """Writes all files, each in one step, so that none is ever half a file.

    Raises:
        UserError: if the folder cannot be written
    """
    written = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            passing = folder / f".{name}.part"
            written.append(passing)
            # Recreated: where somebody has put a link, what it points at is not ours to write.
            passing.unlink(missing_ok=True)
            with open(passing, "x", encoding="utf-8", newline="") as file:
                file.write(text)
        for name in texts:
            os.replace(folder / f".{name}.part", folder / name)
    except OSError as error:
        for passing in written:
            passing.unlink(missing_ok=True)
        raise UserError(
            f"path={str(folder)!r} cannot be written ({error.strerror or error}); choose another "
            "folder"
        ) from error
