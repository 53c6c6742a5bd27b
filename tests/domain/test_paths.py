"""What a locked path means, and when two of them overlap."""

import itertools
import posixpath
import re
import time
import unicodedata

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from mcp_server.domain.paths import InvalidPath, PathIndex, matches, normalise, overlap, root_of, roots_above

# -- canonical forms ------------------------------------------------------------------------------------

CANONICAL = [
    ("src/app.py", "src/app.py"),
    ("./src/app.py", "src/app.py"),
    ("src//app.py", "src/app.py"),
    ("src/./app.py", "src/app.py"),
    ("src/old/../app.py", "src/app.py"),
    ("src/*/../app.py", "src/app.py"),
    ("Src/App.PY", "Src/App.PY"),
    ("src", "src"),
    ("src/", "src/"),
    ("src//", "src/"),
    ("src/.", "src/"),
    ("src/lib/..", "src/"),
    (".", "**"),
    ("./", "**"),
    ("src/..", "**"),
    ("**/", "**"),
    ("src/**/", "src/**"),
    ("src/**/**/*.py", "src/**/*.py"),
    ("app/[id]/{x}.tsx", "app/[id]/{x}.tsx"),
    ("...", "..."),
    (".env", ".env"),
    ("docs/~draft", "docs/~draft"),
    (" a b ", " a b "),
    ("cafe\u0301.md", "caf\u00e9.md"),
    ("\u1112\u1161\u11ab\u1100\u1173\u11af.md", "\ud55c\uae00.md"),
]

REFUSED = [
    ("", "empty"),
    ("/etc/passwd", "absolute"),
    ("//server/share", "absolute"),
    ("..", "inside the project"),
    ("../x", "inside the project"),
    ("src/../../x", "inside the project"),
    ("~/notes", "'~'"),
    ("~root", "'~'"),
    ("./~root", "'~'"),
    ("C:/x", "drive"),
    ("c:x", "drive"),
    ("a/../C:/x", "drive"),
    ("\u212a:/x", "drive"),  # the Kelvin sign, whose NFC is K
    ("src\\app.py", "backslash"),
    ("a\0b", "control"),
    ("a\nb", "control"),
    ("a\x7fb", "control"),
    ("a\u2028b", "line separators"),
    ("a\ud800b", "surrogates"),
    ("src/**.py", "whole segment"),
    ("a**b", "whole segment"),
    ("***", "whole segment"),
    ("src/**/../x", "follow"),
    ("a" * 1001, "1000 characters"),
    ("a/" * 64 + "a", "64 segments"),
    ("*a" * 17, "16 wildcards"),
    ("**/a/" * 17, "16 wildcards"),
    ("?" * 17, "16 wildcards"),
]


@pytest.mark.parametrize(("given_path", "canonical"), CANONICAL)
def test_a_path_has_one_canonical_form(given_path: str, canonical: str) -> None:
    assert normalise(given_path) == canonical
    assert normalise(canonical) == canonical


@pytest.mark.parametrize(("path", "rule"), REFUSED)
def test_a_path_that_cannot_be_used_is_refused_with_the_rule(path: str, rule: str) -> None:
    with pytest.raises(InvalidPath, match=re.escape(rule)):
        normalise(path)


def test_a_refusal_does_not_repeat_the_path() -> None:
    with pytest.raises(InvalidPath) as refusal:
        normalise("../hunter2")
    assert "hunter2" not in str(refusal.value)


@pytest.mark.parametrize("path", ["a" * 1000, "e\u0301" * 1000, "a/" * 64, "*a" * 16, "a/../" * 199 + "a"])
def test_a_path_at_the_limits_is_accepted(path: str) -> None:
    assert normalise(path)


def test_a_huge_path_is_refused_before_any_costly_work() -> None:
    began = time.perf_counter()
    with pytest.raises(InvalidPath):
        normalise("\u0316\u0301" * 1_000_000)  # NFC has to reorder these, in quadratic time
    assert time.perf_counter() - began < 0.5


def outcome(path: str) -> str | None:
    try:
        return normalise(path)
    except InvalidPath:
        return None


PARTS = st.sampled_from(
    ["", ".", "..", "...", "a", "A", "b*", "?", "*", "**", "a**b", "~", "C:", "e\u0301", "[x]", "\u212a:"]
)
PATHLIKE = st.lists(PARTS, max_size=8).map("/".join)
ANYTHING = st.text(st.characters(), max_size=40) | st.text("a./*?~:\\e\u0301\u212a", max_size=20) | PATHLIKE
FORMS = ANYTHING.map(lambda path: outcome(path) or "a")


@settings(max_examples=500)  # a millisecond each
@given(ANYTHING)
@example("./~")
@example("./C:")
def test_a_canonical_form_is_its_own_canonical_form(path: str) -> None:
    canonical = outcome(path)
    assert canonical is None or normalise(canonical) == canonical


@given(FORMS)
def test_a_canonical_form_has_neither_empty_nor_dot_segments_and_stays_inside(canonical: str) -> None:
    segments = canonical.removesuffix("/").split("/")
    assert not {"", ".", ".."} & set(segments)
    assert unicodedata.is_normalized("NFC", canonical)
    assert not re.search(r"[\\\0-\x1f]|^~|^[A-Za-z]:", canonical)


@given(ANYTHING)
def test_composed_and_decomposed_spellings_are_one_path(path: str) -> None:
    assert outcome(unicodedata.normalize("NFD", path)) == outcome(unicodedata.normalize("NFC", path))


@given(st.lists(st.sampled_from(["", ".", "..", "a", "b", "cd"]), min_size=1, max_size=8).map("/".join))
def test_dots_and_slashes_are_resolved_as_posix_resolves_them(path: str) -> None:
    assume(path and not path.startswith("/"))
    expected = posixpath.normpath(path)
    if expected.startswith(".."):
        with pytest.raises(InvalidPath):
            normalise(path)
    else:
        assert normalise(path).removesuffix("/") == {".": "**"}.get(expected, expected)


# -- overlap --------------------------------------------------------------------------------------------

OVERLAPPING = [
    ("src/app.py", "src/app.py"),
    ("src/", "src/app.py"),  # a directory is everything below it ...
    ("src/", "src/lib/deep/x.py"),
    ("src/", "src"),  # ... and itself
    ("src", "src/app.py"),  # nobody knows that `src` is not a directory
    ("src/", "src/*.py"),
    ("src", "*/app.py"),
    ("src", "*"),
    ("src/*.py", "src/app.py"),
    ("src/*.py", "src/test_*"),
    ("src/a*", "src/*a"),  # both match src/a
    ("a*b", "*ba*"),  # both match abab
    ("src/?.py", "src/*a.py"),
    ("src/**/*.py", "src/app.py"),  # ** may be no segment at all
    ("src/**/*.py", "src/a/b/c.py"),
    ("src/**", "src"),
    ("**/test", "src/**"),
    ("**/a/**", "**/b/**"),
    ("**/a/*", "**/a/*/c"),  # both match a/a/c
    ("src/*/", "src/lib/deep/x.py"),
    ("src/*/", "src"),
    ("**", "anything/at/all"),
    ("*", ".env"),
    ("app/[id].tsx", "app/[id].tsx"),
]

APART = [
    ("src/app.py", "src/app.pyc"),
    ("src/app.py", "src/App.py"),  # case counts
    ("src/", "src2/app.py"),
    ("src", "src2"),
    ("src/", "source/*.py"),
    ("src/*", "src/lib/x.py"),  # * stays inside one segment
    ("*", "src/*.py"),
    ("src/*.py", "src/*.ts"),
    ("src/*.py", "src/lib/*.py"),
    ("src/?.py", "src/ab.py"),
    ("src/?.py", "src/.py"),
    ("ab*", "a"),
    ("a*b", "b*a"),
    ("**/*.py", "**/*.ts"),
    ("**/a/*", "**/b/*"),
    ("app/[id].tsx", "app/i.tsx"),  # brackets are no wildcards
    ("app/{a,b}", "app/a"),
]


@pytest.mark.parametrize(("a", "b"), OVERLAPPING)
def test_paths_that_share_a_file_overlap(a: str, b: str) -> None:
    assert overlap(normalise(a), normalise(b))
    assert overlap(normalise(b), normalise(a))


@pytest.mark.parametrize(("a", "b"), APART)
def test_paths_that_share_no_file_do_not_overlap(a: str, b: str) -> None:
    assert not overlap(normalise(a), normalise(b))
    assert not overlap(normalise(b), normalise(a))


def language(canonical: str) -> re.Pattern[str]:
    """The reference: the same meaning as a regular expression, over paths whose segments end in a slash."""
    translate = {"*": "[^/]*", "?": "[^/]"}
    below = canonical.endswith("/") or not re.search(r"[*?]", canonical)
    text = ""
    for segment in canonical.removesuffix("/").split("/"):
        if segment == "**":
            text += "(?:[^/]+/)*"
        else:
            text += "".join(translate.get(c, re.escape(c)) for c in segment) + "/"
    return re.compile(text + ("(?:[^/]+/)*" if below else ""))


def words(longest: int) -> list[str]:
    return ["".join(letters) for n in range(1, longest + 1) for letters in itertools.product("ab", repeat=n)]


# Patterns of at most three segments of at most two characters that have a path in common have one of these:
# names of two characters suffice, and five segments (`a/a/a`, with all below it, and `**/b/b`).
PATHS = ["/".join(names) + "/" for n in range(1, 6) for names in itertools.product(words(2), repeat=n)]
SMALL_SEGMENTS = ["".join(s) for n in (1, 2) for s in itertools.product("ab*?", repeat=n)]  # also `**`
SMALL = st.tuples(
    st.lists(st.sampled_from(SMALL_SEGMENTS) | st.just("**"), min_size=1, max_size=3).map("/".join),
    st.sampled_from(["", "/"]),
).map(lambda parts: normalise("".join(parts)))


@settings(max_examples=500)  # a millisecond each
@given(SMALL, SMALL)
def test_overlap_is_what_enumeration_of_all_small_paths_finds(a: str, b: str) -> None:
    in_a, in_b = language(a).fullmatch, language(b).fullmatch
    assert overlap(a, b) == any(in_a(path) and in_b(path) for path in PATHS)


def test_overlap_inside_a_segment_is_what_enumeration_finds_for_every_pair_of_short_patterns() -> None:
    letters = [s for n in (1, 2, 3) for s in itertools.product("ab*?", repeat=n)]
    patterns = ["".join(s) for s in letters if "**" not in "".join(s)]
    names = words(4)  # two patterns of three with a common name have one of four characters
    matched = {p: {name for name in names if language(p).match(name + "/")} for p in patterns}
    for a, b in itertools.product(patterns, repeat=2):
        assert overlap("x?/" + a, "?y/" + b) == bool(matched[a] & matched[b]), (a, b)


@settings(max_examples=500)  # a millisecond each
@given(SMALL, st.sampled_from(PATHS))
def test_a_pattern_matches_exactly_the_paths_it_stands_for(pattern: str, path: str) -> None:
    assert matches(pattern, path.removesuffix("/")) == bool(language(pattern).fullmatch(path))


def test_a_directory_is_asked_for_with_or_without_its_slash() -> None:
    assert matches("src/*", "src/lib/")
    assert matches("src/*", "src/lib")
    assert not matches("src/*", "src/")


@given(FORMS | SMALL, FORMS | SMALL)
def test_overlap_is_symmetric(a: str, b: str) -> None:
    assert overlap(a, b) == overlap(b, a)


@given(FORMS)
def test_every_path_overlaps_itself_and_the_whole_project(canonical: str) -> None:
    assert overlap(canonical, canonical)
    assert overlap(canonical, "**")


HOSTILE = [
    ("*a" * 15 + "*", "*a" * 15 + "*b"),
    ("*a" * 15 + "a" * 900 + "b", "a" * 999),
    ("*a" * 15 + "a" * 900 + "b", "*" + "a" * 900 + "*ca" * 14 + "*"),
    ("**/a/" * 15 + "b", "a/" * 63 + "a*"),
    ("**/*a/" * 8 + "b", "**/a*/" * 8 + "c"),
    ("**/" + "ab*ba/" * 15 + "aaaaaaaaa/" * 48, "**/" + "a*a/" * 15 + "aaaaaaaaa/" * 47 + "b"),
]


@pytest.mark.parametrize(("a", "b"), HOSTILE)
def test_patterns_made_to_be_slow_are_answered_at_once(a: str, b: str) -> None:
    a, b = normalise(a), normalise(b)
    began = time.perf_counter()
    overlap(a, b), overlap(b, a)
    assert time.perf_counter() - began < 0.25  # a few milliseconds on an idle machine


# -- many at once ---------------------------------------------------------------------------------------


@settings(max_examples=500)  # a millisecond each
@given(st.lists(SMALL | FORMS, max_size=12), SMALL)
def test_the_index_finds_what_asking_one_by_one_finds_in_the_same_order(held: list[str], wanted: str) -> None:
    found = PathIndex((path, at) for at, path in enumerate(held)).overlapping(wanted)
    assert found == [at for at, path in enumerate(held) if overlap(wanted, path)]


@given(FORMS | SMALL, FORMS | SMALL)
def test_patterns_overlap_only_where_one_root_begins_with_the_other(a: str, b: str) -> None:
    one, other = root_of(a), root_of(b)
    if overlap(a, b):
        assert one in roots_above(other) or other in roots_above(one)


def test_the_index_looks_above_and_below_and_not_at_neighbours_that_sort_between() -> None:
    held = ["a", "a/b/c", "a/b", "a/b-c", "a/b/\U0010ffff", "a/b0", "a/*", "**/z", "a/b/*.py", "x"]
    index = PathIndex((path, path) for path in held)
    assert index.overlapping("a/b/") == ["a", "a/b/c", "a/b", "a/b/\U0010ffff", "a/*", "**/z", "a/b/*.py"]


def test_fifty_paths_are_asked_of_five_thousand_locks_at_once() -> None:
    held = [f"src/package{n % 50}/module{n % 500}/file{n}.py" for n in range(5000)]
    wanted = [f"src/package{n}/module{n}/file{n * 7}.py" for n in range(49)] + ["src/package3/"]
    began = time.perf_counter()
    index = PathIndex((path, path) for path in held)
    found = [index.overlapping(path) for path in wanted]
    assert time.perf_counter() - began < 0.5  # some 15 ms on an idle machine
    assert len(found[-1]) == 100


def test_a_path_is_limited_in_bytes_too_so_that_every_store_can_index_it():
    assert normalise("ü" * 1000) == "ü" * 1000
    with pytest.raises(InvalidPath, match="bytes"):
        normalise("한" * 700)
