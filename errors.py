"""The one exception for what the user can fix.

Its message is shown as it stands, in the App, in scripts and in delegated runs, so it names the
input at fault and the way out. Anything else that is raised is a defect of the plugin.
"""


class UserError(ValueError):
    """Something in the input that the user can fix; the message says what and how."""
