"""Import time against NumPy's: median of 20 interleaved fresh processes each.

python benchmarks/startup.py
"""

import json
import os
import statistics
import subprocess
import sys
import time

STATEMENTS = {"python": "pass", "numpy": "import numpy", "dist_train": "import dist_train"}
REPEATS = 20
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}  # as installed packages run


def seconds(statement: str) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", statement], check=True, env=ENVIRONMENT)
    return time.perf_counter() - start


def main() -> None:
    for statement in STATEMENTS.values():
        seconds(statement)  # writes the bytecode, warms the file cache
    times: dict[str, list[float]] = {name: [] for name in STATEMENTS}
    for _ in range(REPEATS):
        for name, statement in STATEMENTS.items():
            times[name].append(seconds(statement))
    medians = {name: statistics.median(values) for name, values in times.items()}
    for name, value in medians.items():
        print(f"{name:12} {value * 1e3:7.1f} ms")
    ratio = (medians["dist_train"] - medians["python"]) / (medians["numpy"] - medians["python"])
    whole = medians["dist_train"] / medians["numpy"]
    print(f"import dist_train / import numpy: {ratio:.2f} (processes without the interpreter's own start), {whole:.2f} (whole processes)")
    print(json.dumps({"milliseconds": {name: value * 1e3 for name, value in medians.items()}, "ratio": ratio}))


if __name__ == "__main__":
    main()
