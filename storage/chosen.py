"""Samples or patches that a user names: by a saved view, a tag, or their ids."""

from collections.abc import Collection, Sequence

from fiftyone.core.patches import PatchesView

from ..errors import UserError
from .target import Target


def read_chosen(
    target: Target, named: str | Sequence[str], ids: Sequence[str], parameter: str
) -> list[bool]:
    """Which samples or patches are meant by a saved view, a tag or a list of ids.

    Patches are meant by their own ids and tags, or by those of their samples.

    Args:
        target: the samples or patches
        named: the name of a saved view, a tag, or ids
        ids: what is asked about
        parameter: the parameter that named them, for messages

    Returns:
        whether it is meant, for each id

    Raises:
        UserError: if there is no such view or tag, or nothing here is meant
    """
    if not isinstance(named, str):
        meant = _with_ids(target, set(map(str, named)), ids)
        what = "ids"
    elif target.dataset.has_saved_view(named):
        meant = _with_ids(target, _ids_of_view(target, named), ids)
        what = f"saved view {named!r}"
    else:
        meant = _tagged(target, named, ids)
        what = f"tag or saved view {named!r}"
    if not any(meant):
        views = ", ".join(map(repr, target.dataset.list_saved_views())) or "none"
        raise UserError(
            f"{parameter}: none of these {target.noun} matches the {what}; pass a tag, a list "
            f"of ids, or a saved view (there are: {views})"
        )
    return meant


def _ids_of_view(target: Target, name: str) -> set[str]:
    view = target.dataset.load_saved_view(name)
    if isinstance(view, PatchesView) and target.patches_field is None:
        return set(view.values("frame_id" if target.is_frames else "sample_id"))
    return set(view.values("id"))


def _with_ids(target: Target, named: Collection[str], ids: Sequence[str]) -> list[bool]:
    label_ids = target.label_ids(ids)
    samples = (target.sample_ids[id_] for id_ in ids)
    return [
        bool({id_, label, sample}.intersection(named))
        for id_, label, sample in zip(ids, label_ids, samples)
    ]


def _tagged(target: Target, tag: str, ids: Sequence[str]) -> list[bool]:
    tags = target.of_samples.values("tags")
    meant = [tag in (tags[target.sample_ids[id_]][0] or ()) for id_ in ids]
    if target.patches_field is None:
        return meant
    own = target.values("tags")
    return [of_sample or tag in (own[id_][0] or ()) for id_, of_sample in zip(ids, meant)]
