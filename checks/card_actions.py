"""What the cards of "Dataset quality" lead to: groups, tags, what was solved."""

import dataclasses
from typing import Any

import fiftyone as fo
from fiftyone import ViewField as F

from ..errors import UserError
from ..storage.few import path_of
from ..storage.locks import writing
from ..storage.ownership import owner_of
from ..storage.runs import Run, read_run, write_run
from ..storage.separability import tag
from .caption_issues import CAPTION_ISSUES
from .clusters import CLUSTERS
from .duplicates import DUPLICATES
from .label_issue_columns import LABEL_ISSUES
from .outliers import OUTLIERS
from .overview import SOLVED

# Labels that explain a finding, or are none. The App shows every new field of labels on each image.
EXPLAINING = {
    LABEL_ISSUES.name: ("probe", "neighbors"),
    CLUSTERS.name: ("cluster", "topic"),
}


def grid_labels(dataset: fo.Dataset) -> list[str]:
    """The labels to show in the grid after an audit: the user's, and what was suggested.

    Empty where the user has set which fields the App shows by default.
    """
    if dataset.app_config.active_fields is not None:
        return []
    shown = []
    for path in fo.DatasetAppConfig.default_active_fields(dataset).paths:
        operator, key = owner_of(dataset, path) or ("", "")
        if path not in [f"{key}_{name}" for name in EXPLAINING.get(operator, ())]:
            shown.append(path)
    return shown


def shown_fields(run: Run) -> list[str]:
    """The fields that show a run's findings in the grid: its labels, and what was found."""
    columns = {
        LABEL_ISSUES.name: ("suggested",),
        DUPLICATES.name: ("kind", "change"),
        OUTLIERS.name: ("reason",),
        CAPTION_ISSUES.name: ("score",),
    }
    about = run.facts.about
    labels = about.patches_field or run.facts.label_field
    # The findings on patches are attributes of theirs, which the App shows with them.
    own = [f"{run.key}_{name}" for name in columns.get(run.operator, ())]
    return [name for name in (labels, *([] if about.patches_field else own)) if name]


def groups_view(dataset: fo.Dataset, run: Run) -> Any:
    """The duplicates of a run, group by group in FiftyOne's own way, the representative first.

    Raises:
        UserError: if they are patches, which FiftyOne does not group
    """
    if run.facts.about.patches_field is not None or run.facts.about.frames:
        raise UserError("Only whole images can be shown in groups; use the run's saved view")
    group = path_of(dataset, run.facts.about, f"{run.key}_group")
    if dataset.get_field(group) is None:
        raise UserError(f"The run {run.key!r} was deleted")
    grouped = dataset.match(F(group) != None)  # noqa: E711
    return grouped.group_by(group, order_by=f"{run.key}_keep", reverse=True)


def tag_view(dataset: fo.Dataset, view_name: str, add: bool) -> tuple[str, int]:
    """Tags what a saved view of a run shows, or takes the tag away; again, it changes nothing.

    Returns:
        the tag, and how many samples or patches are shown

    Raises:
        UserError: if the view no longer exists, or shows nothing
    """
    if not dataset.has_saved_view(view_name):
        raise UserError(f"The saved view {view_name!r} no longer exists")
    view = dataset.load_saved_view(view_name)
    count = len(view)
    if not count:
        raise UserError(f"The saved view {view_name!r} shows nothing")
    name = view_name.replace(": ", "_").replace(" ", "_")
    tag(view, name, add=add)
    return name, count


def mark_solved(dataset: fo.Dataset, run_key: str, kind: str, solved: bool) -> None:
    """Marks a finding of a run as solved, or opens it again; the next run opens it, too.

    Raises:
        UserError: if the run no longer exists
    """
    with writing(dataset, run_key):
        run = read_run(dataset, run_key)
        if run is None:
            raise UserError(f"The run {run_key!r} was deleted")
        kinds = set(run.facts.special.get(SOLVED) or ()) - {kind}
        special = {**run.facts.special, SOLVED: sorted(kinds | {kind} if solved else kinds)}
        facts = dataclasses.replace(run.facts, special=special)
        # When it was found does not change by that.
        write_run(dataset, dataclasses.replace(run, facts=facts), written_at=run.written_at)
