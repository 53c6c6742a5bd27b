"""Paths and patterns that file locks speak of: one canonical form, and when two of them meet.

A pattern is a relative path whose segments may hold wildcards:

    *        any run of characters inside one segment, also none; names that begin with a dot too
    ?        one character (code point of the NFC form) inside one segment
    **       as a whole segment: any number of segments, also none
    [ ] { }  themselves, because file names contain them

What a canonical pattern stands for:

    src/app.py   no wildcard: that path and everything below it. Whether `src` is a file or a
                 directory is not known here, and who locks `src` meaning the directory must get it.
    src/         trailing slash: that path and everything below it; with wildcards too (`src/*/`)
    src/*        wildcards and no slash: exactly what it matches, so `src/a` but not `src/a/b`
    **           the whole project; `.`, `./` and `a/..` become this

`**` beside other characters (`src/**.py`) is refused: read as `*` it would lock less than it seems to.
Case counts. The names `.` and `..`, and names that are not NFC, are not excluded from what wildcards
match, so two patterns that have only such names in common are said to overlap.
"""

import re
import unicodedata
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Sequence
from itertools import takewhile
from typing import Generic, NamedTuple, TypeVar

MAX_CHARACTERS = 1000
MAX_BYTES = 2000
"""In UTF-8: an entry of a PostgreSQL index holds about 2,700 bytes."""
MAX_SEGMENTS = 64
MAX_WILDCARDS = 16

_LONGEST_DECOMPOSITION = 4  # code points that canonical decomposition makes of one
_UNPRINTABLE = {"Cc", "Cs", "Zl", "Zp"}  # controls, lone surrogates, line and paragraph separators
_HOME_OR_DRIVE = re.compile(r"~|[A-Za-z]:")

T = TypeVar("T")


class InvalidPath(ValueError):
    """The path cannot be used; the message is one sentence with the rule, and never the path."""


def normalise(path: str) -> str:
    """The canonical form, relative to the project: NFC, `.`, `..` and `//` resolved, case kept.

    `..` is resolved by name, without following links. A canonical form is its own canonical form.
    Raises InvalidPath.
    """
    text = _readable(path)
    _refuse_foreign_root(text)
    segments = _resolve(text)
    if not segments:
        return "**"
    is_directory = text.endswith(("/", "/.", "/..")) and segments[-1] != "**"
    canonical = "/".join(segments) + ("/" if is_directory else "")
    _refuse_foreign_root(canonical)
    _refuse_costly(segments)
    return canonical


def overlap(a: str, b: str) -> bool:
    """Whether some path belongs to both canonical patterns. Cost is polynomial, whatever they are."""
    return _patterns_meet(_parse(a), _parse(b))


def matches(pattern: str, path: str) -> bool:
    """Whether the canonical pattern stands for this one canonical path (and not only for paths below it).

    Wildcards in `path` are read as wildcards too, so a doubtful case is a match.
    """
    return _segments_meet(_parse(pattern).segments, path.rstrip("/").split("/"))


def root_of(canonical: str) -> str:
    """The leading segments without wildcards, each with its slash; empty when there are none.

    Two patterns overlap only where the root of one begins with the root of the other.
    """
    return _parse(canonical).root


def roots_above(root: str) -> list[str]:
    """The roots that `root` begins with, from the project's to itself."""
    return [root[:end] for end in (0, *(at + 1 for at, letter in enumerate(root) if letter == "/"))]


def root_after(root: str) -> str:
    """The first text, by code points, that follows everything which begins with `root` (not the empty one)."""
    return root[:-1] + "0"  # "0" follows "/"


class PathIndex(Generic[T]):
    """Values under canonical patterns, to ask again and again which of them a pattern overlaps."""

    def __init__(self, entries: Iterable[tuple[str, T]]) -> None:
        self._entries = [(_parse(path), value) for path, value in entries]
        order = sorted(range(len(self._entries)), key=lambda at: self._entries[at][0].root)
        self._order = order
        self._roots = [self._entries[at][0].root for at in order]

    def overlapping(self, path: str) -> list[T]:
        """The values whose pattern overlaps the canonical `path`, in the order they were given."""
        wanted = _parse(path)
        candidates = sorted(self._at_or_above(wanted.root) + self._below(wanted.root))
        entries = (self._entries[at] for at in candidates)
        return [value for pattern, value in entries if _patterns_meet(wanted, pattern)]

    def _at_or_above(self, root: str) -> list[int]:
        return [at for above in roots_above(root) for at in self._exactly(above)]

    def _exactly(self, root: str) -> list[int]:
        return self._order[bisect_left(self._roots, root) : bisect_right(self._roots, root)]

    def _below(self, root: str) -> list[int]:
        past = bisect_left(self._roots, root_after(root)) if root else len(self._roots)
        return self._order[bisect_right(self._roots, root) : past]


class _Pattern(NamedTuple):
    """A canonical pattern, taken apart."""

    root: str  # the leading segments without wildcards, each with its slash
    segments: tuple[str, ...]  # all of them; ends in `**` when everything below belongs to it
    is_tree: bool  # nothing but the root and everything below it


def _parse(canonical: str) -> _Pattern:
    segments = canonical.split("/")
    if not segments[-1]:
        segments[-1] = "**"
    elif "*" not in canonical and "?" not in canonical:
        segments.append("**")
    literal = list(takewhile(lambda segment: "*" not in segment and "?" not in segment, segments))
    root = "".join(segment + "/" for segment in literal)
    return _Pattern(root, tuple(segments), is_tree=segments == [*literal, "**"])


def _readable(path: str) -> str:
    if not path:
        raise InvalidPath("a path must not be empty; the whole project is '**'")
    if len(path) > MAX_CHARACTERS * _LONGEST_DECOMPOSITION:  # before work that grows with the length
        raise InvalidPath(f"a path has at most {MAX_CHARACTERS} characters")
    text = unicodedata.normalize("NFC", path)
    if len(text) > MAX_CHARACTERS:
        raise InvalidPath(f"a path has at most {MAX_CHARACTERS} characters")
    if len(text.encode("utf-8", "replace")) > MAX_BYTES:
        raise InvalidPath(f"a path has at most {MAX_BYTES} bytes in UTF-8")
    if any(unicodedata.category(character) in _UNPRINTABLE for character in text):
        raise InvalidPath("a path must not contain control characters, line separators or lone surrogates")
    if "\\" in text:
        raise InvalidPath("a path must not contain a backslash; segments are separated by '/'")
    return text


def _refuse_foreign_root(text: str) -> None:
    if text.startswith("/"):
        raise InvalidPath("a path must be relative to the project, not absolute")
    if _HOME_OR_DRIVE.match(text):
        raise InvalidPath("a path must be relative to the project and not begin with '~' or a drive letter")


def _resolve(text: str) -> list[str]:
    kept: list[str] = []
    for segment in text.split("/"):
        if segment == "..":
            _step_out(kept)
        elif segment == "**":
            kept += [segment] if kept[-1:] != ["**"] else []
        elif "**" in segment:
            raise InvalidPath("'**' must be a whole segment, as in 'src/**/*.py'")
        elif segment not in ("", "."):
            kept.append(segment)
    return kept


def _step_out(kept: list[str]) -> None:
    if not kept:
        raise InvalidPath("a path must stay inside the project")
    if kept[-1] == "**":
        raise InvalidPath("'..' must not follow '**', which has no one parent")
    kept.pop()


def _refuse_costly(segments: Sequence[str]) -> None:
    if len(segments) > MAX_SEGMENTS:
        raise InvalidPath(f"a path has at most {MAX_SEGMENTS} segments")
    wildcards = sum(1 if s == "**" else s.count("*") + s.count("?") for s in segments)
    if wildcards > MAX_WILDCARDS:
        raise InvalidPath(f"a path has at most {MAX_WILDCARDS} wildcards")


def _patterns_meet(a: _Pattern, b: _Pattern) -> bool:
    upper, lower = (a, b) if len(a.root) <= len(b.root) else (b, a)
    if not lower.root.startswith(upper.root):
        return False
    if upper.is_tree or (lower.is_tree and lower.root == upper.root):
        return True
    shared = upper.root.count("/")
    return _segments_meet(upper.segments[shared:], lower.segments[shared:])


def _segments_meet(a: Sequence[str], b: Sequence[str]) -> bool:
    def places(segment: str) -> int:
        return sum(1 << at for at, other in enumerate(b) if other != "**" and _names_meet(segment, other))

    return _share_a_word(a, b, "**", places)


def _names_meet(a: str, b: str) -> bool:
    if a == b or "*" in (a, b):
        return True
    if not _compatible_edges(a, b):
        return False
    where: dict[str, int] = {}
    for at, character in enumerate(b):
        where[character] = where.get(character, 0) | 1 << at
    any_one = where.get("?", 0)
    all_singles = (1 << len(b)) - 1 & ~where.get("*", 0)
    return _share_a_word(a, b, "*", lambda c: all_singles if c == "?" else where.get(c, 0) | any_one)


def _compatible_edges(a: str, b: str) -> bool:
    """False when the first or last characters alone, or the lengths, exclude a common name: most pairs."""
    if "*" not in a and "*" not in b and len(a) != len(b):
        return False
    return all(x == y or x in "*?" or y in "*?" for x, y in ((a[0], b[0]), (a[-1], b[-1])))


def _share_a_word(a: Sequence[str], b: Sequence[str], star: str, places: Callable[[str], int]) -> bool:
    """Whether two sequences of letters and stars (never two stars in a row) stand for a common word.

    Walks along `a`, keeping as a bit set the positions of `b` that can be reached with the same word.
    `places(letter)` is the bit set of the letters of `b` that the letter of `a` can be.
    """
    stars = sum(1 << at for at, letter in enumerate(b) if letter == star)
    everywhere = (2 << len(b)) - 1
    reached = 1
    for letter in a:
        reached |= (reached & stars) << 1  # a star of `b` may stand for nothing
        if letter == star:
            reached = everywhere & -(reached & -reached)  # swallows any part of `b`: all further positions
        else:
            reached = (reached & stars) | (reached & places(letter)) << 1
        if not reached:
            return False
    reached |= (reached & stars) << 1
    return bool(reached >> len(b))
