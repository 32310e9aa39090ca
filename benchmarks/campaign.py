"""Attacks what is promised: damage, death, crowds and a long life, each for as long as one likes.

    python benchmarks/campaign.py damage [--tries 1000]
    python benchmarks/campaign.py death [--kills 50] [--cases outliers] [--ways kill,memory]

Prints a table, one row for each attack: how often it was tried, how often there was a result or
an error in plain words, how often a traceback was the interface, what was lost, and what hung; the
faults are listed below. Ends with 1 where there is one.
"""

from __future__ import annotations

import argparse
import faulthandler
import os
import signal
import sys

from attacks.base import print_table, surroundings

ONE_THREAD = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")


def main() -> None:
    options = _options()
    faulthandler.register(signal.SIGUSR1)
    if options.kind == "death":  # what is forked computes on one thread
        os.environ |= dict.fromkeys(ONE_THREAD, "1")
    with surroundings() as home:
        if options.kind == "damage":
            from attacks import damage

            tallies = damage.attack(options.tries, options.seed, home)
        if options.kind == "death":
            from attacks import death

            tallies = death.attack(
                options.ways.split(","), options.cases, options.kills, options.seed, home
            )
        done = print_table(tallies)
    sys.stdout.flush()
    # What hangs would be waited for.
    os._exit(1 if any(one.faults for one in done) else 0)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    kinds = parser.add_subparsers(dest="kind", required=True)
    damage = kinds.add_parser("damage", help="broken files, values, weights and parameters")
    damage.add_argument("--tries", type=int, default=1000, help="damaged files; values by it")
    death = kinds.add_parser("death", help="kill -9, no memory, no disk, no database")
    death.add_argument("--kills", type=int, default=50, help="of each case in each way")
    death.add_argument("--cases", default="", help="a part of the names of cases; all by default")
    death.add_argument("--ways", default="kill,memory,database,server,disk")
    for one in kinds.choices.values():
        one.add_argument("--seed", type=int, default=51)
    return parser.parse_args()


if __name__ == "__main__":
    main()
