"""Rewrite the file tree of architecture.md: what every file's docstring says first (`make file-tree`)."""

import ast
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "architecture.md"
START, END = "<!-- file tree: made by `make file-tree` -->", "<!-- end of the file tree -->"
ORDER = [
    *("types.py", "errors.py", "lazy.py", "version.py", "media", "motion", "world", "weights", "pose"),
    *("sync", "models", "diffusion"),
    *("pipelines", "data", "training", "evaluation", "preference", "studio", "recipes", "cli"),
]
"""Reading order, as in docs/architecture.md; what is not named here comes last."""


def what_it_says_first(path: Path) -> str:
    """The first sentence of a module's docstring, on one line."""
    docstring = ast.get_docstring(ast.parse(path.read_text())) or ""
    paragraph = " ".join(docstring.split("\n\n")[0].split()).removesuffix("::").strip()
    sentence, _, _ = paragraph.partition(". ")
    return sentence.rstrip(".:")


def tree() -> str:
    """The tree as a fenced block, rooms in reading order, the files of a room by name."""
    package = ROOT / "hallo4"
    rooms = [path.parent for path in package.glob("*/__init__.py")]
    ground = [path for path in package.glob("*.py") if path.name != "__init__.py"]
    entries = sorted(
        [*ground, *rooms],
        key=lambda path: (ORDER.index(path.name) if path.name in ORDER else len(ORDER), path.name),
    )
    lines = ["hallo4/"]
    for entry in entries:
        if entry.is_file():
            lines.append(f"  {entry.name:<34}  {what_it_says_first(entry)}")
            continue
        lines.append(f"  {entry.name + '/':<34}  {what_it_says_first(entry / '__init__.py')}")
        files = sorted(path for path in entry.rglob("*.py") if path.name != "__init__.py")
        lines += [
            f"    {path.relative_to(entry).as_posix():<32}  {what_it_says_first(path)}" for path in files
        ]
    return "\n".join(["```text", *(line.rstrip() for line in lines), "```"])


def with_tree(text: str) -> str:
    """The page's text with the tree between its two marks."""
    before, _, rest = text.partition(START)
    _, _, after = rest.partition(END)
    return f"{before}{START}\n\n{tree()}\n\n{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(with_tree(PAGE.read_text()))
