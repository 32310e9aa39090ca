"""Image files that lie elsewhere: ``s3://``, ``gs://``, ``az://``, ``http://``, … through fsspec.

Readers of images want a path, some of them several times, so a remote file is copied into a
temporary one for as long as it is read. Credentials are what fsspec finds: environment variables,
the files of the cloud's own tools, ``~/.config/fsspec``.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator

# A scheme of a URL. FiftyOne makes an absolute path of what it does not know: of s3://bucket/a.jpg
# /current/folder/s3:/bucket/a.jpg.
SCHEME = re.compile(r"(?:.*/)?(?P<scheme>[a-z][a-z0-9+.\-]+):/{1,2}(?P<rest>[^/].*)", re.DOTALL)

# What is read. fsspec knows many more, and chains of them, some of which run what they find.
READ = (
    *("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "oss", "oci", "hf", "hdfs"),
    *("webhdfs", "http", "https", "ftp", "sftp", "ssh", "memory"),
)

INSTALL = "a remote file, which needs a package: pip install fsspec"


class RemoteFileError(Exception):
    """A remote file that cannot be had; ``str()`` of it is a reason for people."""


def remote_url(path: str) -> str | None:
    """The address of a remote file, or None of a path on this machine."""
    if ":/" not in path or (found := SCHEME.fullmatch(path)) is None or os.path.exists(path):
        return None
    return f"{found['scheme']}://{found['rest']}"


@contextlib.contextmanager
def local_file(path: str) -> Iterator[str]:
    """A path on this machine of a file that may be remote; a copy is deleted afterwards.

    Raises:
        RemoteFileError: with the reason, if a remote file cannot be read
    """
    url = remote_url(path)
    if url is None:
        yield path
        return
    with tempfile.NamedTemporaryFile(suffix=os.path.splitext(url)[1][:8]) as copy:
        _fetch(url, copy)
        yield copy.name


def _fetch(url: str, copy) -> None:
    scheme = url.partition("://")[0]
    if scheme not in READ or "::" in url:
        raise RemoteFileError(f"a remote file of a kind that is not read: {scheme}")
    try:
        import fsspec
    except ImportError as error:
        raise RemoteFileError(INSTALL) from error
    try:
        with fsspec.open(url, "rb") as file:
            shutil.copyfileobj(file, copy)
        copy.flush()
    except FileNotFoundError as error:
        raise RemoteFileError("remote file not found") from error
    except (ImportError, ValueError) as error:
        # fsspec's own words name the package of a scheme, or say that there is none.
        raise RemoteFileError(f"a remote file that fsspec cannot open: {error}") from error
    except Exception as error:  # of clients of all kinds
        text = str(error).strip().partition("\n")[0] or type(error).__name__
        raise RemoteFileError(f"the remote file cannot be read: {text}") from error
