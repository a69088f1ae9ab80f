"""The command line: `dist-train run …`, `dist-train doctor`, or the same after `python -m launcher`."""

import sys

from launcher.command_line import Options, parse
from launcher.errors import LaunchError


def main(arguments: list[str] | None = None) -> int:
    """Runs the command that `arguments` (default: the process's own) ask for; returns the exit status."""
    options = parse(arguments)
    try:
        return dispatch(options)
    except LaunchError as error:
        print(f"dist-train: {error}", file=sys.stderr)
        return error.status


def dispatch(options: Options) -> int:
    """Imports only what the command needs: a start must not pay for the doctor."""
    if options.command == "doctor":
        from launcher.doctor import doctor

        return doctor(options.json)
    from launcher.run import run

    return run(options)


if __name__ == "__main__":
    sys.exit(main())
