"""What a user looks at: panels that read stored runs. No maths, no database detail."""

from .class_separability import ClassSeparability
from .dataset_quality import DatasetQuality
from .why_this_sample import WhyThisSample

PANELS = (DatasetQuality, WhyThisSample, ClassSeparability)
