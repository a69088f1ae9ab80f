"""Which hosts take how many ranks."""

from dataclasses import dataclass

from launcher.errors import UsageError


@dataclass(frozen=True)
class Host:
    """A host name and the number of ranks it may take."""

    name: str
    slots: int


def parse_hosts(text: str) -> tuple[Host, ...]:
    """`a:4,b:4` as hosts; a name without a number takes one rank. Raises UsageError where it cannot be read."""
    return tuple(parse_host(entry.strip()) for entry in text.split(","))


def parse_host(entry: str) -> Host:
    name, colon, slots = entry.partition(":")
    if not name or (colon and not slots.isdecimal()) or (colon and int(slots) < 1):
        raise UsageError(f"--hosts: cannot read {entry!r}; write name:slots,name:slots as in a:4,b:4")
    return Host(name, int(slots) if colon else 1)


def check_slots(hosts: tuple[Host, ...], ranks: int) -> None:
    """Raises UsageError if `hosts` offer fewer slots than there are ranks."""
    slots = sum(host.slots for host in hosts)
    if hosts and slots < ranks:
        raise UsageError(f"--hosts offers {slots} slots for {ranks} ranks: add {ranks - slots} slots (name:slots) or lower -n to {slots}")


def ranks_per_host(hosts: tuple[Host, ...], ranks: int) -> list[int]:
    """How many ranks each used host gets when the hosts are filled in the given order."""
    filled: list[int] = []
    for host in hosts:
        filled.append(min(host.slots, ranks - sum(filled)))
    return [count for count in filled if count]
