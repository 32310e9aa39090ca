"""Attacks what is promised: damage, death, crowds and a long life, each for as long as one likes.

    python benchmarks/campaign.py damage [--tries 1000]
    python benchmarks/campaign.py death [--kills 50] [--cases audit,find_outliers] [--ways kill]
    python benchmarks/campaign.py crowds [--processes 8] [--seconds 600]
    python benchmarks/campaign.py life [--calls 200]
    python benchmarks/campaign.py network

Prints a table, one row for each attack: how often it was tried, how often there was a result or
an error in plain words, how often a traceback was the interface, what was lost, and what hung; the
faults are listed below. Ends with 1 where there is one.
"""

from __future__ import annotations

import argparse
import faulthandler
import importlib
import os
import signal
import sys

from attacks.base import print_table, surroundings

ONE_THREAD = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")


def main() -> None:
    options = _options()
    faulthandler.register(signal.SIGUSR1)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # its database ends with it
    if options.kind in ("death", "crowds"):  # what is forked computes on one thread
        os.environ |= dict.fromkeys(ONE_THREAD, "1")
    kind = vars(options).pop("kind")
    with surroundings() as home:
        attack = importlib.import_module(f"attacks.{kind}").attack
        done = print_table(attack(home=home, **vars(options)))
    sys.stdout.flush()
    # What hangs would be waited for.
    os._exit(1 if any(one.faults for one in done) else 0)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    kinds = parser.add_subparsers(dest="kind", required=True)
    damage = kinds.add_parser("damage", help="broken files, values, weights and parameters")
    damage.add_argument("--tries", type=int, default=1000, help="damaged files; calls by it")
    damage.add_argument("--kinds", default="files,values,parameters,weights")
    death = kinds.add_parser("death", help="kill -9, no memory, no disk, no database")
    death.add_argument(
        "--kills", type=int, default=50, help="of each case; in all by server and disk"
    )
    death.add_argument("--cases", default="", help="some, with commas between; all by default")
    death.add_argument("--ways", default="kill,memory,database,server,disk")
    crowds = kinds.add_parser("crowds", help="many processes and the App on one dataset")
    crowds.add_argument("--processes", type=int, default=8)
    crowds.add_argument("--seconds", type=float, default=600)
    life = kinds.add_parser("life", help="many operators in one process")
    life.add_argument("--calls", type=int, default=200)
    kinds.add_parser("network", help="what is asked for beyond this machine, and who listens")
    for kind, one in kinds.choices.items():
        if kind != "network":
            one.add_argument("--seed", type=int, default=51)
    return parser.parse_args()


if __name__ == "__main__":
    main()
