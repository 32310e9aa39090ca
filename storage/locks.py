"""One writer at a time for each run, also across processes: the App's server and a script, say.

The lock is a document in the database. Its owner counts up its beats, and whoever waits for it
watches them: a count that stands still by the waiter's own clock is a killed process's. No two
clocks are compared, and a laptop that sleeps stops all of them.
"""

import contextlib
import logging
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import fiftyone as fo
from pymongo.collection import Collection
from pymongo.errors import DuplicateKeyError, PyMongoError
from pymongo.write_concern import WriteConcern

from ..errors import UserError

logger = logging.getLogger(__name__)

# Held while a dataset is reloaded, or its runs and fields are read or changed: FiftyOne hands all
# threads of a process the same object, which must not change under their hands.
guard = threading.RLock()

COLLECTION = "embedding_quality.locks"

# A writer says that it is alive this often. One that has not been heard of for so long is dead: it
# may lose several beats, to a busy machine or a database that is away.
HEARTBEAT_SECONDS, ABANDONED_SECONDS = 2, 20

JOURNALED = WriteConcern(j=True)

# How long to wait for another writer.
PATIENCE_SECONDS = 600


class Lock:
    """A lock that is held: it beats until it is released."""

    def __init__(self, locks: Collection, name: str, key: str) -> None:
        self._locks, self._name, self._key = locks, name, key
        self._owner = uuid.uuid4().hex
        self._lost, self._done = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._beat, name="lock-heartbeat", daemon=True)

    def check(self) -> None:
        """Makes sure that the lock is still ours, as far as the last beat knows.

        Raises:
            UserError: if another writer has taken it, since this one was not heard of for
                ``ABANDONED_SECONDS``
        """
        if self._lost.is_set():
            raise UserError(
                f"Another operator has taken over the run {self._key!r}, because this one made "
                f"no progress for over {ABANDONED_SECONDS} seconds; run it again"
            )

    def _take(self, say: Callable[[str], None]) -> None:
        """Waits until the lock is free or abandoned, and says so."""
        mine = {"_id": self._name, "owner": self._owner, "beats": 0}
        seen: dict[str, Any] | None = None
        has_said = False
        started = watched = time.monotonic()
        while True:
            try:
                self._locks.insert_one(mine)
                return
            except DuplicateKeyError:
                now = self._locks.find_one({"_id": self._name})
            if now == mine:  # an insert whose answer was lost
                return
            # Whoever else takes it over meanwhile changes it: only one of them finds this one.
            if now != seen or now is None:
                seen, watched = now, time.monotonic()
            elif (
                time.monotonic() - watched > ABANDONED_SECONDS
                and self._locks.replace_one(now, mine).matched_count
            ):
                return
            if not has_said and time.monotonic() - started > 1:
                say(f"Waiting for another operator that is writing {self._key!r}")
                has_said = True
            if time.monotonic() - started > PATIENCE_SECONDS:
                raise UserError(
                    f"The run {self._key!r} is being written by another operator; try again when "
                    "it has finished, or choose another run_key"
                )
            time.sleep(0.1)

    def _beat(self) -> None:
        ours = {"_id": self._name, "owner": self._owner}
        while not self._done.wait(HEARTBEAT_SECONDS):
            try:
                if not self._locks.update_one(ours, {"$inc": {"beats": 1}}).matched_count:
                    self._lost.set()
                    return
            except PyMongoError as error:  # the next beat may come through
                logger.debug("A beat of the lock %r failed: %s", self._name, error)

    def _release(self) -> None:
        self._done.set()
        self._thread.join()
        try:
            ours = {"_id": self._name, "owner": self._owner}
            # What was written is in the journal before anybody learns that it was: the database
            # writes that ten times a second, and may be killed.
            if not self._locks.with_options(write_concern=JOURNALED).delete_one(ours).deleted_count:
                self._lost.set()
        except PyMongoError as error:  # others will find it abandoned
            logger.debug("The lock %r could not be released: %s", self._name, error)


@contextlib.contextmanager
def writing(
    dataset: fo.Dataset, key: str, say: Callable[[str], None] = logger.info
) -> Iterator[Lock]:
    """Waits for whoever writes this run at present, and keeps others from it.

    Args:
        dataset: the dataset
        key: of the run
        say (logger.info): called with a message when it waits

    Yields:
        the lock: ``check()`` it before a step that cannot be repeated

    Raises:
        UserError: if the other writer takes too long; at the end, if another writer has taken the
            lock meanwhile, so that what is stored is theirs
    """
    locks = dataset._sample_collection.database[COLLECTION]
    lock = Lock(locks, f"{dataset._doc.id} {key}", key)
    lock._take(say)
    try:
        lock._thread.start()
        yield lock
    finally:
        lock._release()
    lock.check()
