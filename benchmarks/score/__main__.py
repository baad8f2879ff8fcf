"""`python -m benchmarks.score [--each] [--write] [--to DIRECTORY] [--only CATEGORY] [CORPUS]`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks.score import converters, corpus, report


def main() -> None:
    """Convert every document of a corpus with every converter and print how near they come."""
    parser = argparse.ArgumentParser(prog="make score", description=main.__doc__)
    parser.add_argument(
        "corpus", nargs="?", type=Path, default=corpus.CORPUS, help="a directory with a manifest.json"
    )
    parser.add_argument("--each", action="store_true", help="also print every document of ours")
    parser.add_argument("--write", action="store_true", help="put the table into docs/documents.md")
    parser.add_argument("--to", type=Path, help="keep what ours made in this directory")
    parser.add_argument("--only", choices=corpus.CATEGORIES, help="one category")
    asked = parser.parse_args()
    documents = corpus.read(asked.corpus)
    runs: dict[str, list[converters.Run]] = {}
    for category in corpus.CATEGORIES:
        chosen = [document for document in documents if document.category == category]
        if not chosen or asked.only not in {None, category}:
            continue
        runs[category] = []
        for name in converters.available():
            if not converters.reads(name, category):
                continue
            print(f"score: {name} converts {len(chosen)} {corpus.CATEGORIES[category]}", file=sys.stderr)
            run = converters.run(name, chosen)
            runs[category].append(run)
            if name == "ours" and asked.each:
                print(report.each(run))
            if name == "ours" and asked.to is not None:
                _keep(run, asked.to)
    print(report.table(runs))
    print(f"\n{report.warned(runs)}")
    print(f"\nMeasured with {report.versions(runs)}.")
    if asked.write:
        report.write(runs)


def _keep(run: converters.Run, directory: Path) -> None:
    for result in run.results:
        path = directory / f"{result.document.name}.md"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(result.markdown, encoding="utf-8")


if __name__ == "__main__":
    main()
