"""All comparisons, one after the other on one machine: `python -m benchmarks [name …]`."""

from __future__ import annotations

import importlib
import logging
import sys

import structlog
import uvloop

NAMES = (
    "drain", "submit", "bulk", "live", "resume", "rebuild", "dispatch", "claims", "push", "emp", "documents",
)  # fmt: skip


def main() -> None:
    """Run the named comparisons, or all, and print floors, ours and ratios as one table."""
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR),
        cache_logger_on_first_use=True,  # as a worker has it
    )
    names = sys.argv[1:] or NAMES
    unknown = set(names) - set(NAMES)
    if unknown:
        sys.exit(f"there is no benchmark {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}")
    print(f"{'what':52} {'unit':>6} {'floor':>12} {'ours':>12} {'ratio':>7}  goal")
    for name in names:
        module = importlib.import_module(f"benchmarks.bench_{name}")
        for row in uvloop.run(module.measure()):
            goal = row.get("goal")
            wanted = "" if goal is None else f"≤ {-goal:g}" if goal < 0 else f"≥ {goal:g}"
            floor = "" if row["raw"] is None else f"{row['raw']:12,.1f}"
            ratio = "" if row["ratio"] is None else f"{row['ratio']:7.2f}"
            print(f"{row['what']:52} {row['unit']:>6} {floor:>12} {row['ours']:12,.1f} {ratio:>7}  {wanted}")


if __name__ == "__main__":
    main()
