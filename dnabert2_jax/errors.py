"""The one error and the one warning that are meant for people; all else that is raised is a fault of ours."""


class UserError(Exception):
    """The input or the request is wrong, and the person who made it can mend it.

    The message is one sentence that names the file, the place in it, and the remedy. The command line
    prints it without a traceback and leaves with exit status 2.
    """


class InputWarning(UserWarning):
    """The input is usable, and was not taken exactly as it is written; said once per file.

    The command line prints it in one line.
    """
