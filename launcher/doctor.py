"""`dist-train doctor`: what is installed, whether it works together, and the remedy where it does not."""

import json

from launcher.findings import FAIL, Finding
from launcher.machine_checks import machine_findings
from launcher.mpi_checks import mpi_findings
from launcher.python_checks import python_findings


def doctor(as_json: bool) -> int:
    """Prints all findings; returns 0 unless something fails (then 1)."""
    findings = [*python_findings(), *mpi_findings(), *machine_findings()]
    print(as_document(findings) if as_json else "\n".join(map(str, findings)))
    return int(any(finding.status == FAIL for finding in findings))


def as_document(findings: list[Finding]) -> str:
    return json.dumps({"findings": [finding._asdict() for finding in findings]}, indent=2)
