"""What a user looks at: panels that read stored runs. No maths, no database detail."""

from .class_separability import ClassSeparability

PANELS = (ClassSeparability,)
