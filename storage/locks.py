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

# The locks that this process holds, by name.
_held: dict[str, "Lock"] = {}

# How long to wait for another writer.
PATIENCE_SECONDS = 600


class Lock:
    """A lock that is held: it beats until it is released."""

    def __init__(self, locks: Collection, name: str, key: str) -> None:
        self._locks, self._name, self._key = locks, name, key
        self._ours = {"_id": name, "owner": uuid.uuid4().hex}
        self._server, self._restarted = None, False
        self._unsure: PyMongoError | None = None
        self._lost, self._done = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._beat, name="lock-heartbeat", daemon=True)

    def check(self) -> None:
        """Makes sure that the lock is still ours, and that all that was written is stored.

        Raises:
            UserError: if another writer has taken it, since this one was not heard of for
                ``ABANDONED_SECONDS``, or the database was started again meanwhile
        """
        if not self._lost.is_set():
            beat = {"$inc": {"beats": 1}}
            if not self._journaled().update_one(self._ours, beat).matched_count:
                self._lost.set()
            self._restarted = self._server != _server(self._locks)
        self._tell()

    def _tell(self) -> None:
        if self._restarted:
            raise UserError(
                f"The database was started again while {self._key!r} was written, and may have "
                "lost something of it; run it again"
            )
        if self._lost.is_set():
            raise UserError(
                f"Another operator has taken over the run {self._key!r}, because this one made "
                f"no progress for over {ABANDONED_SECONDS} seconds; run it again"
            )

    def _journaled(self) -> Collection:
        """Writes after all before it are in the journal, which a database that dies still has."""
        return self._locks.with_options(write_concern=JOURNALED)

    def _take(self, say: Callable[[str], None]) -> None:
        """Waits until the lock is free or abandoned, and says so."""
        mine = {**self._ours, "beats": 0}
        seen: dict[str, Any] | None = None
        has_said = False
        started = watched = time.monotonic()
        while True:
            self._server = _server(self._locks)
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
        while not self._done.wait(HEARTBEAT_SECONDS):
            try:
                if not self._locks.update_one(self._ours, {"$inc": {"beats": 1}}).matched_count:
                    self._lost.set()
                    return
            except PyMongoError as error:  # the next beat may come through
                logger.debug("A beat of the lock %r failed: %s", self._name, error)

    def _release(self) -> None:
        self._done.set()
        self._thread.join()
        try:
            if not self._journaled().delete_one(self._ours).deleted_count:
                self._lost.set()
            self._restarted = self._server != _server(self._locks)
        except PyMongoError as error:  # others will find it abandoned
            logger.debug("The lock %r could not be released: %s", self._name, error)
            self._unsure = error


def _server(locks: Collection) -> Any:
    """The process of a database that, when it is killed, forgets what it has just told is stored.

    That is the last tenth of a second. None of a replica set, the majority of which has it.
    """
    told = locks.database.client.admin.command("hello")
    if "setName" in told or "msg" in told:
        return None
    return told.get("topologyVersion", {}).get("processId")


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
            lock meanwhile, so that what is stored is theirs, or the database was started again
        PyMongoError: at the end, if the database does not say that all is stored
    """
    locks, name = dataset._sample_collection.database[COLLECTION], _name(dataset, key)
    lock = Lock(locks, name, key)
    lock._take(say)
    _held[name] = lock
    try:
        lock._thread.start()
        yield lock
    finally:
        del _held[name]
        lock._release()
    if lock._unsure is not None:
        raise lock._unsure
    lock._tell()


def check_stored(dataset: fo.Dataset, key: str) -> None:
    """Makes sure that what was written so far is stored, where this process holds a run's lock.

    What is written later may then rely on it, whatever becomes of the database.

    Raises:
        UserError: as ``Lock.check`` does
    """
    if (lock := _held.get(_name(dataset, key))) is not None:
        lock.check()


def _name(dataset: fo.Dataset, key: str) -> str:
    return f"{dataset._doc.id} {key}"
