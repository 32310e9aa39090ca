"""One writer at a time for each run, also across processes: the App's server and a script, say."""

import contextlib
import datetime
import threading
import time
from collections.abc import Iterator

import fiftyone as fo
from pymongo.errors import DuplicateKeyError

from ..errors import UserError

# Held while a dataset is reloaded, or its runs and fields are read or changed: FiftyOne hands all
# threads of a process the same object, which must not change under their hands.
guard = threading.RLock()

COLLECTION = "embedding_quality.locks"

# A lock this old belongs to a process that was killed: writing takes seconds, a graph a minute.
ABANDONED_SECONDS = 300

# How long to wait for another writer: until it has to be dead.
PATIENCE_SECONDS = ABANDONED_SECONDS + 60


@contextlib.contextmanager
def writing(dataset: fo.Dataset, key: str) -> Iterator[None]:
    """Waits for whoever writes this run at present, and keeps others from it.

    Raises:
        UserError: if the other writer takes too long
    """
    locks = dataset._sample_collection.database[COLLECTION]
    name = f"{dataset._doc.id} {key}"
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        now = datetime.datetime.now(datetime.timezone.utc)
        oldest = now - datetime.timedelta(seconds=ABANDONED_SECONDS)
        locks.delete_one({"_id": name, "since": {"$lt": oldest}})
        try:
            locks.insert_one({"_id": name, "since": now})
            break
        except DuplicateKeyError:
            if time.monotonic() > deadline:
                raise UserError(
                    f"The run {key!r} is being written by another operator; try again when that "
                    "is done, or choose another run_key"
                ) from None
            time.sleep(0.1)
    try:
        yield
    finally:
        locks.delete_one({"_id": name})
