"""The structure of the Rust code: no circles of imports among the files of a crate, and no file that is too long.

Cargo forbids circles among crates. Within a crate nothing does, and files that import each other can only be read
together. Re-exports (`pub use`) are followed to the file that defines the item.
"""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LONGEST = 500


def code_of(text: str) -> str:
    """The text without comments, strings and unit tests, which may use whatever they like."""
    text = re.sub(r"//[^\n]*|/\*.*?\*/", "", text, flags=re.S)
    text = re.sub(r'r#".*?"#|"(?:\\.|[^"\\])*"', '""', text, flags=re.S)
    return re.split(r"#\[cfg\(test\)\]\s*(?:pub(?:\([a-z]+\))?\s+)?mod \w+ \{", text)[0]


def leaves(tree: str) -> list[list[str]]:
    """The paths of a `use` tree, an alias taken for its path."""
    tree = tree.strip()
    head, brace, rest = tree.partition("{")
    prefix = [part.strip() for part in head.split("::") if part.strip()]
    if not brace:
        last = prefix[-1].split(" as ")[0] if prefix else ""
        return [[*prefix[:-1], last]] if prefix else []
    items, depth, start = [], 0, 0
    inner = rest[: rest.rindex("}")]
    for place, letter in enumerate(inner + ","):
        depth += (letter == "{") - (letter == "}")
        if letter == "," and depth == 0:
            items.append(inner[start:place])
            start = place + 1
    return [prefix + leaf for item in items if item.strip() for leaf in leaves(item)]


class Crate:
    """The files of a crate by their modules."""

    def __init__(self, source: Path) -> None:
        self.files: dict[tuple[str, ...], Path] = {}
        for path in sorted(source.rglob("*.rs")):
            parts = list(path.relative_to(source).with_suffix("").parts)
            if parts[-1] in ("mod", "lib", "main"):
                parts.pop()
            self.files.setdefault(tuple(parts), path)
        self.code = {module: code_of(path.read_text()) for module, path in self.files.items()}
        self.exports: dict[tuple[str, ...], dict[str, tuple[str, ...]]] = {}
        for module, code in self.code.items():
            found = self.exports.setdefault(module, {})
            for tree in re.findall(r"^\s*pub(?:\([^)]*\))? use ([^;]+);", code, flags=re.M):
                for leaf in leaves(tree):
                    found[leaf[-1]] = self.absolute(module, leaf)

    def absolute(self, module: tuple[str, ...], path: list[str]) -> tuple[str, ...]:
        """A path as it is written in a module, from the crate's root."""
        if path[0] == "crate":
            return tuple(path[1:])
        here = list(module)
        rest = list(path)
        is_relative = rest[0] in ("super", "self")
        while rest and rest[0] in ("super", "self"):
            if rest.pop(0) == "super":
                here = here[:-1]
        if is_relative or (*module, rest[0]) in self.files:
            return (*here, *rest)
        return ()

    def file_of(self, path: tuple[str, ...], seen: frozenset[tuple[str, ...]] = frozenset()) -> tuple[str, ...] | None:
        """The module that defines what a path names."""
        if not path or path in seen:
            return None
        for length in range(len(path), -1, -1):
            module = path[:length]
            if module not in self.files:
                continue
            rest = path[length:]
            if rest and (target := self.exports[module].get(rest[0])):
                return self.file_of((*target, *rest[1:]), seen | {path}) or module
            return module
        return None

    def imports(self, module: tuple[str, ...]) -> set[tuple[str, ...]]:
        """The modules whose items a module uses."""
        code = self.code[module]
        uses = [leaf for tree in re.findall(r"^\s*use ([^;]+);", code, flags=re.M) for leaf in leaves(tree)]
        body = re.sub(r"^\s*(?:pub(?:\([^)]*\))? )?use [^;]+;", "", code, flags=re.M)
        uses += [path.split("::") for path in re.findall(r"\b(?:crate|super)(?:::\w+)+", body)]
        for name in re.findall(r"\b([a-z_]\w*)::\w", body):
            if (*module, name) in self.files:
                uses.append(["self", name])
        found = {self.file_of(self.absolute(module, path)) for path in uses if path}
        return {target for target in found if target is not None and target != module}


def circles(arrows: dict[tuple[str, ...], set[tuple[str, ...]]]) -> list[list[tuple[str, ...]]]:
    """The strongly connected components of more than one module (Tarjan's algorithm)."""
    order: dict[tuple[str, ...], int] = {}
    lowest: dict[tuple[str, ...], int] = {}
    stack: list[tuple[str, ...]] = []
    found = []

    def visit(module: tuple[str, ...]) -> None:
        order[module] = lowest[module] = len(order)
        stack.append(module)
        for target in arrows[module]:
            if target not in order:
                visit(target)
                lowest[module] = min(lowest[module], lowest[target])
            elif target in stack:
                lowest[module] = min(lowest[module], order[target])
        if lowest[module] == order[module]:
            circle = []
            while True:
                circle.append(stack.pop())
                if circle[-1] == module:
                    break
            if len(circle) > 1:
                found.append(circle)

    for module in arrows:
        if module not in order:
            visit(module)
    return found


def main() -> int:
    failures = []
    for manifest in sorted(ROOT.rglob("Cargo.toml")):
        if "target" in manifest.relative_to(ROOT).parts or not (manifest.parent / "src").is_dir():
            continue
        crate = Crate(manifest.parent / "src")
        arrows = {module: crate.imports(module) for module in crate.files}
        name = manifest.parent.relative_to(ROOT)
        for circle in circles(arrows):
            failures.append(f"{name}: files that import each other:")
            for module in sorted(circle):
                targets = sorted("::".join(target) or "lib" for target in arrows[module] if target in circle)
                failures.append(f"    {'::'.join(module) or 'lib'} -> {', '.join(targets)}")
    for path in sorted(ROOT.rglob("*.rs")):
        name = path.relative_to(ROOT)
        length = len(path.read_text().splitlines())
        if name.parts[0] != "target" and length > LONGEST:
            failures.append(f"{name} has {length} lines, more than {LONGEST}")
    print("\n".join(failures) or "no circles, no file that is too long")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
