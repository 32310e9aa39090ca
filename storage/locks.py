"""One writer at a time for each run, also across processes: the App's server and a script, say."""

import contextlib
import datetime
import threading
import time
import uuid
from collections.abc import Iterator

import fiftyone as fo
from pymongo.errors import DuplicateKeyError

from ..errors import UserError

# Held while a dataset is reloaded, or its runs and fields are read or changed: FiftyOne hands all
# threads of a process the same object, which must not change under their hands.
guard = threading.RLock()

COLLECTION = "embedding_quality.locks"

# A writer says that it is alive this often; a lock that is this old belongs to a killed process.
HEARTBEAT_SECONDS, ABANDONED_SECONDS = 5, 30

# How long to wait for another writer.
PATIENCE_SECONDS = 600


@contextlib.contextmanager
def writing(dataset: fo.Dataset, key: str) -> Iterator[None]:
    """Waits for whoever writes this run at present, and keeps others from it.

    Raises:
        UserError: if the other writer takes too long
    """
    locks = dataset._sample_collection.database[COLLECTION]
    name, owner = f"{dataset._doc.id} {key}", uuid.uuid4().hex
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        now = datetime.datetime.now(datetime.timezone.utc)
        oldest = now - datetime.timedelta(seconds=ABANDONED_SECONDS)
        locks.delete_one({"_id": name, "since": {"$lt": oldest}})
        try:
            locks.insert_one({"_id": name, "since": now, "owner": owner})
            break
        except DuplicateKeyError:
            if time.monotonic() > deadline:
                raise UserError(
                    f"The run {key!r} is being written by another operator; try again when that "
                    "is done, or choose another run_key"
                ) from None
            time.sleep(0.1)
    done = threading.Event()

    def stay_alive() -> None:
        while not done.wait(HEARTBEAT_SECONDS):
            now = datetime.datetime.now(datetime.timezone.utc)
            locks.update_one({"_id": name, "owner": owner}, {"$set": {"since": now}})

    heartbeat = threading.Thread(target=stay_alive, name="lock-heartbeat", daemon=True)
    heartbeat.start()
    try:
        yield
    finally:
        done.set()
        heartbeat.join()
        locks.delete_one({"_id": name, "owner": owner})
