"""One line of the doctor's report."""

from typing import NamedTuple

OK, WARN, FAIL = "OK", "WARN", "FAIL"


class Finding(NamedTuple):
    """What was found about one topic; `remedy` says what to do where the status is not OK."""

    status: str
    topic: str
    detail: str
    remedy: str = ""

    def __str__(self) -> str:
        line = f"{self.status:4}  {self.topic}: {self.detail}"
        return f"{line}. Remedy: {self.remedy}" if self.remedy else line
