"""All findings against ground truth, beside the peers: duplicates, outliers, label issues; and
duplicates on sets that are made here.

    pip install -e ".[bench]"
    python benchmarks/quality.py DATA [--seeds 0 7]

DATA is the folder of the development sets. The sets that are made here are made once for each seed.
The parts also run alone, with options.
"""

import argparse
import sys
from pathlib import Path

import duplicates
import image_sets
import label_issues
import outliers
from common import require_peers

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 7])
    options = parser.parse_args()
    require_peers("datasets")
    for part in (duplicates, image_sets, outliers, label_issues):
        print(f"\n# {part.__name__.replace('_', ' ')}\n")
        seeds = ["--seeds", *map(str, options.seeds)] if part is image_sets else []
        sys.argv[1:] = [str(options.data), *seeds]
        part.main()
