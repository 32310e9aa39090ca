"""What a user looks at: panels that read stored runs. No maths, no database detail."""

from .class_separability import ClassSeparability
from .why_this_sample import WhyThisSample

PANELS = (ClassSeparability, WhyThisSample)
