"""All findings against ground truth, beside the peers: duplicates, outliers, label issues; and
duplicates on sets that are made here.

    pip install -e ".[bench]"
    python benchmarks/quality.py DATA

DATA is the folder of the development sets. The parts also run alone, with options.
"""

import duplicates
import image_sets
import label_issues
import outliers
from common import require_peers

if __name__ == "__main__":
    require_peers("datasets")
    for part in (duplicates, image_sets, outliers, label_issues):
        print(f"\n# {part.__name__.replace('_', ' ')}\n")
        part.main()
