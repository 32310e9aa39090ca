"""Image files that lie elsewhere: ``s3://``, ``gs://``, ``az://``, ``http://``, … through fsspec.

Readers of images want a path, some of them several times, so a remote file is copied into a
temporary one for as long as it is read. Credentials are what fsspec finds: environment variables,
the files of the cloud's own tools, ``~/.config/fsspec``.
"""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
import time
from collections.abc import Iterator
from typing import IO, Any

from ..errors import without_keys

# A scheme of a URL. FiftyOne makes an absolute path of what it does not know: of s3://bucket/a.jpg
# /current/folder/s3:/bucket/a.jpg. The first one counts: addresses may have others in their paths.
SCHEME = re.compile(r"(?:.*?/)??(?P<scheme>[a-z][a-z0-9+.\-]+):/{1,2}(?P<rest>[^/].*)", re.DOTALL)

# What is read. fsspec knows many more, and chains of them, some of which run what they find.
READ = (
    *("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "oss", "oci", "hf", "hdfs"),
    *("webhdfs", "http", "https", "ftp", "sftp", "ssh", "memory"),
)

# What web servers are asked by, and how they answer for what they do not have.
WEB = ("http", "https")
NOT_THERE = (404, 410)

# Bytes of a file at most: what Pillow's limit of pixels lets through is no larger.
LARGEST = 2**30

# Seconds after which a web server that sends nothing is given up, and any file that is not here.
SILENCE, LONGEST = 30, 600

# Bytes that are asked for at once.
PIECE = 2**20

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
    ending = re.search(r"\.\w{1,7}(?=\?|$)", url, re.ASCII)
    with tempfile.NamedTemporaryFile(suffix=ending[0] if ending else "") as copy:
        _fetch(url, copy)
        yield copy.name


def _fetch(url: str, copy: IO[bytes]) -> None:
    scheme = url.partition("://")[0]
    if scheme not in READ or "::" in url:
        raise RemoteFileError(f"a remote file of a kind that is not read: {scheme}")
    try:
        import fsspec
    except ImportError as error:
        raise RemoteFileError(INSTALL) from error
    try:
        with fsspec.open(url, "rb", **_settings(scheme)) as file:
            _copy(file, copy)
        copy.flush()
    except RemoteFileError:
        raise
    except FileNotFoundError as error:
        # fsspec says so of every web server that does not answer as it should.
        why: BaseException = error
        while scheme in WEB and isinstance(why, FileNotFoundError) and why.__cause__ is not None:
            why = why.__cause__
        if isinstance(why, FileNotFoundError) or getattr(why, "status", None) in NOT_THERE:
            raise RemoteFileError("remote file not found") from error
        raise RemoteFileError(_unread(why)) from error
    except (ImportError, ValueError) as error:
        # fsspec's own words name the package of a scheme, or say that there is none.
        text = without_keys(error)
        raise RemoteFileError(f"a remote file that fsspec cannot open: {text}") from error
    except Exception as error:  # of clients of all kinds
        raise RemoteFileError(_unread(error)) from error


def _unread(error: BaseException) -> str:
    text = without_keys(error).strip().partition("\n")[0] or type(error).__name__
    return f"the remote file cannot be read: {text}"


def _settings(scheme: str) -> dict[str, Any]:
    """What fsspec does not do by itself: to give up a web server, and not to trust its sizes."""
    if scheme not in WEB:
        return {}
    import aiohttp
    from fsspec.config import conf

    limits = aiohttp.ClientTimeout(total=LONGEST, sock_connect=SILENCE, sock_read=SILENCE)
    theirs = conf.get(scheme, {}).get("client_kwargs", {})
    # Read as it comes: of pieces that a server may make as large as it likes, each is in memory.
    return {"block_size": 0, "client_kwargs": {"timeout": limits, **theirs}}


def _copy(file: IO[bytes], copy: IO[bytes]) -> None:
    started, size = time.monotonic(), getattr(file, "size", None) or 0
    while size <= LARGEST and (piece := file.read(PIECE)):
        size = max(size, copy.tell() + len(piece))
        copy.write(piece)
        if time.monotonic() - started > LONGEST:
            raise RemoteFileError(f"the remote file takes longer than {LONGEST} seconds")
    if size > LARGEST:
        raise RemoteFileError(f"the remote file is larger than {LARGEST // 2**20:,} MiB")
