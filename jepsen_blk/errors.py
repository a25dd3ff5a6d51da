"""One error hierarchy, so that a broken lab or a bad specification is never mistaken for a finding.

A finding (the storage lost a write) is a verdict, never an exception. What is raised is either
the user's to mend (`UserError`, exit code 254) or a fault of the lab or of the tester itself
(`LabError`, `InternalError`, exit code 255). Every message is one line that names the thing and
the remedy; the CLI prints it without a traceback.
"""

EXIT_PASS = 0
EXIT_FAIL = 1
EXIT_UNKNOWN = 2
EXIT_USER = 254
EXIT_INTERNAL = 255


class JepsenBlkError(Exception):
    """Base of all errors raised on purpose; `exit_code` is what the process ends with."""

    exit_code = EXIT_INTERNAL


class UserError(JepsenBlkError):
    """Something the user gave or owns is wrong: an argument, a file, a device, a missing package."""

    exit_code = EXIT_USER


class SpecError(UserError):
    """The test specification is missing, malformed, or asks for something unknown."""


class HistoryError(UserError):
    """A history, journal or interchange file is malformed; the message carries file and place."""


class LabError(JepsenBlkError):
    """The lab failed: a node, QEMU, the storage server or the guest did not do its part."""


class InternalError(JepsenBlkError):
    """The tester contradicts itself; a bug of ours."""
