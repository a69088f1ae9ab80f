"""What a user can get wrong, as one exception that carries the exit status."""


class LaunchError(Exception):
    """A job cannot start; the message names the cause and the remedy. `status` is the exit status of `dist-train`."""

    def __init__(self, message: str, status: int = 1) -> None:
        super().__init__(message)
        self.status = status


class UsageError(LaunchError):
    """The command line asks for something impossible: exit status 2, as for an unknown option."""

    def __init__(self, message: str) -> None:
        super().__init__(message, status=2)
