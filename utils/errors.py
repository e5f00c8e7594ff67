"""The one exception that is meant for the user's eyes."""


class UserError(Exception):
    """Bad input. The message says what was expected, what was found, in which file, and what to do.

    The command lines print it without a traceback and exit with status 2.
    """
