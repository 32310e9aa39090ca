"""Names: what a run may be called, and which fields and saved views are its own."""

import datetime
import re

import fiftyone as fo
import fiftyone.core.utils as fou

from ..errors import UserError
from .ownership import owner_of, owner_of_view
from .paths import check_writable, frame_field
from .runs import Run, read_run

# Characters of the name of a saved view; labels in it may be of any length.
MAX_VIEW_NAME = 200


def check_name(parameter: str, name: str) -> None:
    """Refuses what cannot be the name of a field.

    Raises:
        UserError: that names the parameter
    """
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]{0,149}", name):
        raise UserError(
            f"{parameter}={name!r} cannot be the name of a field; use up to 150 letters, digits "
            "and underscores, starting with a letter"
        )


def is_used(dataset: fo.Dataset, path: str) -> bool:
    """Whether a dataset has a field, or undeclared attributes of patches, at a path."""
    if dataset.get_field(path) is not None:
        return True
    if "." not in path:
        return False
    collection = dataset._sample_collection
    if (inner := frame_field(dataset, path)) is not None:
        path, collection = inner, dataset._frame_collection
    return collection.find_one({path: {"$exists": True}}, {"_id": True}) is not None


def check_unclaimed(dataset: fo.Dataset, parameter: str, run: Run) -> None:
    """Refuses to write over fields and saved views that are not the plugin's.

    Fields and views that carry the mark of such a run are adopted: a clone, a merge or FiftyOne's
    own ``delete_run`` leaves them without it.

    Args:
        dataset: the dataset
        parameter: the parameter that chose the names, for the message
        run: the run that is about to write its fields

    Raises:
        UserError: that names the parameter and the field
    """
    before = read_run(dataset, run.key)
    if before is not None and before.operator != run.operator:
        raise UserError(
            f"{parameter}: the name {run.key!r} belongs to a run of {before.operator}; "
            "choose another name"
        )
    for path in run.fields:
        if not owns_field(dataset, run, path, before) and is_used(dataset, path):
            raise UserError(
                f"{parameter}: the dataset already has a field {path!r} that this plugin did not "
                "write and will not overwrite; choose another name"
            )
        check_writable(dataset, parameter, path)
    own = own_views(dataset, run, before)
    others = {fou.to_slug(name): name for name in dataset.list_saved_views() if name not in own}
    for name in run.views:
        # FiftyOne distinguishes saved views by letters and digits alone.
        if taken := others.get(fou.to_slug(name)):
            raise UserError(
                f"{parameter}: the dataset already has a saved view {taken!r} that this plugin "
                f"did not create, and {name!r} would have the same URL; choose another name"
            )


def owns_field(dataset: fo.Dataset, run: Run, path: str, stored: Run | None) -> bool:
    """Whether a field is a run's own: by its mark, or because the run remembers it.

    A field that is younger than the stored run and bears no mark is the user's, who has deleted the
    run's and made another one of that name.

    Args:
        dataset: the dataset
        run: the run
        path: of the field
        stored: the run as it is stored, or None
    """
    if owner_of(dataset, path) == (run.operator, run.key):
        return True
    if stored is None or path not in stored.fields:
        return False
    field = dataset.get_field(path)
    return field is None or not _is_younger(field.created_at, stored)


def own_views(dataset: fo.Dataset, run: Run, stored: Run | None) -> list[str]:
    """The saved views that are a run's own, by the rule of ``owns_field``."""
    return [
        view.name
        for view in dataset._doc.get_saved_views()
        if owner_of_view(view.name, view.description) == (run.operator, run.key)
        or (
            stored is not None
            and view.name in stored.views
            and not _is_younger(view.created_at, stored)
        )
    ]


def _is_younger(created_at: datetime.datetime | None, stored: Run) -> bool:
    """Whether something was made after a run was stored."""
    if created_at is None or stored.written_at is None:
        return False
    if created_at.tzinfo is None:
        created_at = created_at.replace(tzinfo=datetime.timezone.utc)
    return created_at > datetime.datetime.fromisoformat(stored.written_at)


def free_view_name(dataset: fo.Dataset, name: str) -> str:
    """A name for a saved view that FiftyOne distinguishes from all others: numbered if need be."""
    taken = {fou.to_slug(other) for other in dataset.list_saved_views()}
    name = name[:MAX_VIEW_NAME]
    number, free = 1, name
    while fou.to_slug(free) in taken:
        number += 1
        free = f"{name} ({number})"
    return free
