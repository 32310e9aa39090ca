"""All findings against ground truth, beside the peers: duplicates, outliers, label issues; and
duplicates on sets that are made here.

    pip install "cleanlab[datalab]"
    python benchmarks/quality.py DATA

DATA is the folder of the development sets. The parts also run alone, with options.
"""

import duplicates
import image_sets
import label_issues
import outliers

if __name__ == "__main__":
    for part in (duplicates, image_sets, outliers, label_issues):
        print(f"\n# {part.__name__.replace('_', ' ')}\n")
        part.main()
