"""``@embedding/quality``: finds what is wrong with an image dataset, through embeddings."""


def register(plugin):
    """Registers the operators and panels with FiftyOne, which calls this when it loads the plugin.

    Args:
        plugin: FiftyOne's registration context
    """
    # Imported here, not above: FiftyOne runs this file again on every request, and test runners
    # import it without a parent package.
    from .operators import OPERATORS
    from .panels import PANELS

    for entry in (*OPERATORS, *PANELS):
        plugin.register(entry)
