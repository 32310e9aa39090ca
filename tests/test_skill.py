"""The companion skill: FiftyOne lists it, and its steps run as they are written."""

import re

import fiftyone as fo
import fiftyone.plugins as fop
import numpy as np
import pytest


@pytest.mark.slow
def test_the_steps_run_word_for_word(photos):
    (skill,) = fop.list_skills(plugin="@embedding/quality")
    assert skill.name == "audit-image-dataset" and "duplicates" in skill.description
    for index, sample in enumerate(photos):
        flower = sample["name"] in {f"photo-{number}" for number in range(12, 24)}
        sample["ground_truth"].label = "flower" if flower else "temple"
        sample["camera"] = "left" if index % 2 else "right"
        sample.tags = ["test" if sample["name"] == "mirror" else "train"]
        sample.save()
    photos.set_values("clip", [vector[:64] for vector in photos.values("cnn")])
    photos.name = f"{photos.name}-skill"
    blocks = re.findall(r"```python\n(.*?)```", skill.content, flags=re.DOTALL)
    assert len(blocks) == 7
    names: dict = {}
    for block in blocks:
        # The App has tests of its own.
        if "launch_app" in block:
            continue
        exec(block.replace("NAME", photos.name), names)
        names.setdefault("ids", photos.limit(3).values("id"))
    assert names["result"]["comparison"]["verdict"]
    assert len(names["redundant"]) == len(photos.match_tags("duplicates_remove")) >= 6
    assert np.isfinite(photos.values("outliers_score")).all()
    assert photos.count_values("label_issues_flagged").keys() <= {True, False}
    assert isinstance(photos, fo.Dataset)
