"""Files as they are shown to outsiders: named within the dataset's folder, never where that lies.

A report is handed to people outside. Folders show who made it, on which machine and beside what
else; they are omitted everywhere: files, parameters, and reasons that name a file.
"""

import os
import re
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import without_keys
from ..pictures.remote import remote_url

if TYPE_CHECKING:
    from ..checks.contents import Contents

# Stands for a folder that is not shown.
HIDDEN = "…/"

# Folders with which full paths begin on common systems, here or on the machine of a run. A label
# such as "/m/01g317" is none.
_TOPS = (
    "home", "Users", "root", "mnt", "media", "data", "datasets", "srv", "tmp", "var", "opt", "usr",
    "private", "Volumes", "workspace", "content", "scratch", "nfs",
)  # fmt: skip

# A full path in a sentence: between quotes with whatever it holds, or else up to a space.
_FULL = r"(?:~?/|[A-Za-z]:[\\/]|\\\\|\w+://)"
_IN_TEXT = re.compile(
    rf"(?<=')({_FULL}[^'\n]+)(?=')"
    rf'|(?<=")({_FULL}[^"\n]+)(?=")'
    rf"|(?<=`)({_FULL}[^`\n]+)(?=`)"
    rf"|(?<![\w./\\~])({_FULL}[^\s'\"`,;()<>]+)"
)


def name_of(path: str, folder: str | None) -> str:
    """A file as it is named within the folder of all files, or else without any folder.

    >>> name_of("/home/me/cats/train/a.png", "/home/me/cats")
    'train/a.png'
    >>> name_of("/home/me/weights.pt", "/home/me/cats")
    '…/weights.pt'

    Of an address no password and no signature is left:

    >>> name_of("/work/https:/me:secret@host/cats/a.png?sig=1f2e", "/work/https:/me:secret@host")
    'cats/a.png'
    """
    if remote_url(path) is not None:
        path = without_keys(path.partition("?")[0])
        folder = folder and without_keys(folder)
    if folder and path.startswith((f"{folder}/", f"{folder}\\")):
        return path[len(folder) + 1 :]
    if not re.match(_FULL, path):
        return path
    return HIDDEN + re.split(r"[\\/]", path.rstrip("/\\"))[-1]


def without_folders(contents: "Contents") -> "Contents":
    """What a report shows, with files named within the dataset's folder."""
    folder = contents.folder
    return replace(
        contents,
        runs=tuple(
            replace(
                reported,
                run=replace(reported.run, facts=in_value(reported.run.facts, folder)),
                findings=tuple(
                    replace(
                        finding,
                        filepath=name_of(finding.filepath, folder),
                        values=in_value(finding.values, folder),
                    )
                    for finding in reported.findings
                ),
            )
            for reported in contents.runs
        ),
        visualizations=tuple(
            replace(one, facts=in_value(one.facts, folder)) for one in contents.visualizations
        ),
        left_out=in_value(contents.left_out, folder),
        stale=in_value(contents.stale, folder),
    )


def in_value(value: Any, folder: str | None) -> Any:
    """A text, or all texts of lists, dicts and dataclasses, in which no full path is left."""
    if isinstance(value, str):
        return _in_text(value, folder)
    if isinstance(value, tuple):
        return tuple(in_value(one, folder) for one in value)
    if isinstance(value, list):  # of the database too, which are of a class of their own
        return [in_value(one, folder) for one in value]
    if is_dataclass(value) and not isinstance(value, type):
        names = [one.name for one in fields(value)]
        return replace(value, **{name: in_value(getattr(value, name), folder) for name in names})
    if hasattr(value, "items"):
        return {_in_text(str(key), folder): in_value(one, folder) for key, one in value.items()}
    return value


def _in_text(text: str, folder: str | None) -> str:
    if _is_full(text) and "\n" not in text:
        return name_of(text, folder)
    text = without_keys(text)
    if folder:
        folder = without_keys(folder)
        text = text.replace(f"{folder}/", "").replace(f"{folder}\\", "")
        text = re.sub(rf"{re.escape(folder)}(?![\w.-])", HIDDEN.rstrip("/"), text)
    text = re.sub(rf"{re.escape(str(Path.home()))}(?=[\\/])", "~", text)
    return _IN_TEXT.sub(lambda found: _without_folder(found[0], folder), text)


def _without_folder(path: str, folder: str | None) -> str:
    return name_of(path, folder) if _is_full(path) else path


def _is_full(path: str) -> bool:
    """Whether a text is a path of this machine, or of one like it."""
    if not path.startswith("/"):
        return re.match(_FULL, path) is not None
    top = path[1:].partition("/")[0]
    return top in _TOPS or ("/" in path[1:] and os.path.isdir(f"/{top}"))
