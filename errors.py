"""The one exception for what the user can fix.

Its message is shown as it stands, in the App, in scripts and in delegated runs, so it names the
input at fault and the way out. Anything else that is raised is a defect of the plugin.
"""

import re


class UserError(ValueError):
    """Something in the input that the user can fix; the message says what and how."""


_ADDRESS = re.compile(
    r"(\b[a-z][a-z0-9+.\-]+:/{1,2})(?:[^\s'\"<>]*@)?([^\s?'\"<>]*)(?:\?[^\s'\"<>]*)?", re.I
)


def without_keys(error: object) -> str:
    """What another library says, with addresses that have lost passwords and signatures.

    It is stored with a run, and shown to everybody who sees the dataset or a report.

    >>> without_keys("401, url='https://me:secret@host/a.jpg?X-Amz-Signature=1f2e'")
    "401, url='https://host/a.jpg'"
    """
    return _ADDRESS.sub(r"\1\2", str(error))
