"""Print one of the README's two commands, so that what is tested is what is written."""

import re
import sys
from pathlib import Path

wanted = sys.argv[1]
text = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
found = re.search(rf"<!-- command: {wanted} -->\s*```(?:sh|bash)\n(.*?)\n```", text, re.S)
if found is None:
    sys.exit(f"README.md has no command {wanted!r}")
print(found[1])
