"""The file tree of the README, made from each file's first sentence.

`python tests/readme_tree.py` brings it up to date.
"""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("rlscale", "envs", "agents", "experiments")
BEGIN, END = "<!-- tree -->\n```text\n", "```\n<!-- end of tree -->"
WIDTH = 34


def first_sentence(path: Path) -> str:
    """The first sentence of a module's docstring, on one line."""
    text = (ast.get_docstring(ast.parse(path.read_text())) or "").split("\n\n")[0].replace("\n", " ")
    return text.split(". ")[0].rstrip(".")


def tree() -> str:
    """One line per file."""
    lines = []
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*.py"), key=lambda p: (p.parent, p.name)):
            if path.name == "__init__.py" and path.stat().st_size == 0:
                continue
            name = path.relative_to(ROOT).as_posix()
            lines.append(f"{name:<{WIDTH}} {first_sentence(path)}")
    return "\n".join(lines) + "\n"


def with_tree(readme: str) -> str:
    """The README text with a fresh tree."""
    head, _, rest = readme.partition(BEGIN)
    _, _, tail = rest.partition(END)
    return head + BEGIN + tree() + END + tail


if __name__ == "__main__":
    path = ROOT / "README.md"
    path.write_text(with_tree(path.read_text()))
