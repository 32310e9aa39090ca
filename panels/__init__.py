"""What a user looks at: panels that read stored runs. None has landed yet."""

PANELS = ()
