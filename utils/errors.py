"""What is meant for the user's eyes: the one exception, and what was left out instead of raising it."""

import sys


class UserError(Exception):
    """Bad input. The message says what was expected, what was found, in which file, and what to do.

    The command lines print it without a traceback and exit with status 2.
    """


def report_skipped(skipped: list[str] | None) -> None:
    """List the samples that --skip_bad left out, each once."""
    if skipped:
        messages = dict.fromkeys(skipped)
        print(f"left out {len(messages)} bad samples:", *messages, sep="\n  ", file=sys.stderr)
