"""The files of a git revision, without running anything that its repository names.

Whoever may write into a project's folder writes its `.git/config`, too, and that can name programs: filters, a
checker of signatures, a way to fetch what is missing. So the repository is only asked which commit is meant, and
git then reads its objects through a directory of our own, with a configuration of our own. Nor may the repository
lead elsewhere: what lies there is not the project's.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, NamedTuple

from mcp_server.domain.errors import Invalid, Unavailable

GIT_SECONDS = 120
CHECKERS = ("gpg.program", "gpg.openpgp.program", "gpg.x509.program", "gpg.ssh.program")
"""What `$Format:%G?$` in a file would run: without them it says that nothing was checked."""


class _Meant(NamedTuple):
    """`tree` is the commit, or the folder in it that the project is."""

    tree: str
    objects: str
    form: str
    tags: str


def archive(root: str, ref: str, file: IO[bytes]) -> None:
    """A tar of the revision's files. Raises Invalid for what is no revision, and Unavailable without git."""
    meant = _meant(root, ref)
    with tempfile.TemporaryDirectory(prefix="quaymaster-git-") as folder:
        own = {
            **_settled(),
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_ATTR_NOSYSTEM": "1",
            "GIT_DIR": folder,
            "GIT_OBJECT_DIRECTORY": meant.objects,
        }
        _said(["init", "--quiet", "--bare", "--template=", f"--object-format={meant.form}"], own)
        (Path(folder) / "packed-refs").write_bytes(os.fsencode(meant.tags))
        nobody = [word for name in CHECKERS for word in ("-c", f"{name}=false")]
        plain = ["-c", f"core.attributesFile={os.devnull}", *nobody]
        _said([*plain, "archive", "--format=tar", "--end-of-options", meant.tree], own, file)


def _meant(root: str, ref: str) -> _Meant:
    """By the repository itself, asked with the operator's settings: they say whose repositories are trusted."""

    def ask(*words: str) -> str:
        return os.fsdecode(_said(["-C", root, *words], _settled()))

    commit = ask("rev-parse", "--verify", "--end-of-options", f"{ref}^{{commit}}").strip()
    form, own, common, inside = ask(
        "rev-parse",
        "--show-object-format",
        "--absolute-git-dir",
        "--path-format=absolute",
        "--git-common-dir",
        "--show-prefix",
    ).split("\n")[:4]
    objects = os.path.join(common, "objects")
    _require_ours(
        Path(root).parents[inside.count("/") - 1] if inside else Path(root), Path(own), Path(common)
    )
    # For files that name the version by `$Format:%(describe:tags)$`.
    tags = ask("for-each-ref", "--format=%(objectname) %(refname)", "refs/tags")
    return _Meant(f"{commit}:{inside}" if inside else commit, objects, form, tags)


def _require_ours(top: Path, own: Path, common: Path) -> None:
    """The repository lies in the project's folder, or knows that folder as a worktree of its own. Raises Invalid."""
    top, own, common = top.resolve(), own.resolve(), common.resolve()
    inside = own == common and own in (top, top / ".git")
    if not inside and not (own.parent == common / "worktrees" and _known(own) == top / ".git"):
        raise Invalid(
            "the project's .git leads to a repository elsewhere",
            next="Build from the repository's own folder, or from one that 'git worktree add' made.",
        )
    objects = common / "objects"
    borrowed = (objects / "info" / "alternates").exists() or objects.is_symlink()
    if borrowed or any(
        os.path.islink(os.path.join(folder, name))
        for folder, folders, files in os.walk(objects)
        for name in (*folders, *files)
    ):
        raise Invalid(
            "the project's repository borrows objects from elsewhere",
            next="Give it objects of its own: 'git repack -a -d', then remove .git/objects/info/alternates.",
        )


def _known(own: Path) -> Path | None:
    """The `.git` of the worktree whose directory in the repository this is."""
    try:
        return Path((own / "gitdir").read_text().strip()).resolve()
    except (OSError, ValueError):
        return None


def _settled() -> Mapping[str, str]:
    """This process's environment without git's own variables; nothing is fetched, whatever is missing."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    return {
        **kept,
        "LC_ALL": "C",
        "GIT_ALLOW_PROTOCOL": "",
        "GIT_NO_LAZY_FETCH": "1",
        "GIT_OPTIONAL_LOCKS": "0",
    }


def _said(words: list[str], environ: Mapping[str, str], file: IO[bytes] | None = None) -> bytes:
    try:
        done = subprocess.run(
            ["git", *words],
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=file or subprocess.PIPE,
            stderr=subprocess.PIPE,
            timeout=GIT_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(f"git cannot be run ({type(error).__name__})") from error
    if done.returncode:
        why = done.stderr.decode(errors="replace").strip()[-200:]
        raise Invalid(f"git has no such revision in the project's path{f': {why}' if why else ''}")
    return done.stdout or b""
