"""What may be written after `dist-train`."""

import argparse
from dataclasses import dataclass

EXAMPLES = """examples:
  dist-train run -n 4 train.py --epochs 3
  dist-train run -n 8 --hosts alpha:4,beta:4 --tag-output -m project.train
  dist-train run -n 2 --dry-run train.py
  dist-train doctor
"""


@dataclass(frozen=True)
class Options:
    """The command line, parsed. `program` is the script (or module) and its arguments."""

    command: str
    ranks: int = 1
    hosts: str | None = None
    threads: int | None = None
    tag_output: bool = False
    dry_run: bool = False
    module: bool = False
    mpirun: str | None = None
    json: bool = False
    program: tuple[str, ...] = ()


def parse(arguments: list[str] | None = None) -> Options:
    """The options in `arguments`; ends the process with status 2 and a message where they make no sense."""
    parser = build_parser()
    values = vars(parser.parse_args(arguments))
    options = Options(**(values | {"program": tuple(values.get("program", ()))}))
    if options.command == "run" and not options.program:
        parser.error("run: name the script to start, as in `dist-train run -n 2 train.py`")
    return options


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="dist-train",
        description="Start a training script on several MPI ranks, or find out why that fails.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="run|doctor")
    add_run(commands.add_parser("run", help="start a script on N ranks", allow_abbrev=False))
    add_doctor(commands.add_parser("doctor", help="check this installation", allow_abbrev=False))
    return parser


def add_run(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("-n", "--ranks", type=positive, default=1, metavar="N", help="number of ranks (default 1: no MPI needed)")
    add("--hosts", metavar="A:4,B:4", help="hosts and the number of ranks each may take; default: this machine")
    add("--threads", type=positive, metavar="T", help="BLAS and OpenMP threads per rank (default: cores / local ranks)")
    add("--tag-output", action="store_true", help="put the rank before each line of output")
    add("--dry-run", action="store_true", help="print the command instead of running it")
    add("--mpirun", metavar="PATH", help="take this mpirun instead of the one that belongs to mpi4py")
    add("-m", "--module", action="store_true", help="the program is a module, as in `python -m`")
    add("program", nargs=argparse.REMAINDER, metavar="script.py args…", help="what every rank runs")


def add_doctor(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print the findings as one JSON document")


def positive(text: str) -> int:
    """A whole number of at least 1."""
    try:
        number = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a whole number, got {text!r}") from None
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {number}")
    return number
