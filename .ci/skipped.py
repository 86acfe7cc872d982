"""Say plainly which tests were skipped, and fail where none may be: with `--none`."""  # noqa: INP001 - a script

import sys
import xml.etree.ElementTree as ElementTree
from collections import Counter
from pathlib import Path


def main(report: Path, *, none_may_be: bool) -> int:
    skipped: Counter[tuple[str, str]] = Counter()
    for case in ElementTree.parse(report).iter("testcase"):  # noqa: S314 - pytest wrote it a moment ago
        reason = case.find("skipped")
        if reason is not None and reason.get("type") != "pytest.xfail":
            skipped[case.get("classname", "?"), reason.get("message", "")] += 1
    for (where, why), count in sorted(skipped.items()):
        sys.stderr.write(f"Skipped: {count} of {where}: {why}\n")
    if skipped and none_may_be:
        sys.stderr.write("Here nothing may be skipped.\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), none_may_be="--none" in sys.argv[2:]))
