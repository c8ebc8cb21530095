"""What the documents hold of the code: the README's file tree, and the table of features in ARCHITECTURE.md.

`python tests/readme_tree.py` brings both up to date.
"""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("rlscale", "envs", "agents", "experiments")
BEGIN, END = "<!-- tree -->\n```text\n", "```\n<!-- end of tree -->"
FEATURES_BEGIN, FEATURES_END = "<!-- features -->\n", "<!-- end of features -->"
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


def with_features(architecture: str) -> str:
    """The architecture text with a fresh table of features."""
    from rlscale.features import FEATURES

    rows = "".join(f"| `{name}` | {unit} | {low:g} to {high:g} |\n" for name, unit, low, high in FEATURES)
    head, _, rest = architecture.partition(FEATURES_BEGIN)
    _, _, tail = rest.partition(FEATURES_END)
    return f"{head}{FEATURES_BEGIN}| feature | unit or meaning | range |\n|---|---|---|\n{rows}{FEATURES_END}{tail}"


if __name__ == "__main__":
    for name, refresh in (("README.md", with_tree), ("ARCHITECTURE.md", with_features)):
        path = ROOT / name
        path.write_text(refresh(path.read_text()))
