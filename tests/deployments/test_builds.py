"""Images from a project's own files."""

from __future__ import annotations

import asyncio
import base64
import io
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from mcp_server.adapters.sources.archives import ProjectSources
from mcp_server.domain.errors import Invalid
from tests.deployments.conftest import Harbour


async def names(root: Path, dockerfile: str = "Dockerfile") -> dict[str, tarfile.TarInfo]:
    async with ProjectSources().directory(str(root), dockerfile) as pieces:
        data = b"".join([piece async for piece in pieces])
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return {entry.name: entry for entry in tar}


async def test_the_archive_has_no_secrets_no_git_and_nothing_from_outside(tmp_path: Path):
    root = tmp_path / "app"
    (root / "src").mkdir(parents=True)
    (root / ".git").mkdir()
    (root / ".git" / "config").write_text("x")
    for name in (
        "Dockerfile",
        "src/a.py",
        ".env",
        ".env.local",
        "src/.env.production",
        ".envrc",
        ".env.example",
    ):
        (root / name).write_text("x")
    (tmp_path / "secret").write_text("s")
    (root / "out").symlink_to(tmp_path / "secret")
    (root / "away").symlink_to(tmp_path)
    found = await names(root)
    assert set(found) == {"Dockerfile", "src", "src/a.py", ".env.example", "out", "away"}
    assert found["out"].issym()
    assert found["away"].issym()
    assert {entry.uid for entry in found.values()} == {0}
    link = tmp_path / "link"
    link.symlink_to(root)
    with pytest.raises(Invalid):
        await names(link)


async def test_what_dockerignore_names_is_not_in_the_archive_but_what_the_build_needs_is(tmp_path: Path):
    root = tmp_path.resolve() / "app"
    for name in (
        "keys/db.json",
        "a.pem",
        "src/b.pem",
        "src/a.py",
        "docs/x.md",
        "docs/keep.md",
        "deploy/Dockerfile",
    ):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("x")
    (root / ".dockerignore").write_text(
        "# what stays\nkeys\n**/*.pem\ndocs/*\n!docs/keep.md\ndeploy\n.dockerignore\n"
    )
    found = await names(root, "deploy/Dockerfile")
    assert set(found) == {".dockerignore", "deploy/Dockerfile", "docs", "docs/keep.md", "src", "src/a.py"}
    (root / "deploy" / "Dockerfile.dockerignore").write_text("*\n!src/a.py\n")
    assert set(await names(root, "deploy/Dockerfile")) == {".dockerignore", "deploy/Dockerfile", "src/a.py"}
    (root / "deploy" / "Dockerfile.dockerignore").write_text("[b-a]\n")
    with pytest.raises(Invalid, match=r"\[b-a\]"):
        await names(root, "deploy/Dockerfile")


async def test_what_is_built_from_a_path_a_revision_or_an_archive_can_be_deployed(harbour: Harbour):
    root = harbour.folder / "code"
    root.mkdir()
    base = harbour.image("demo")
    (root / "Dockerfile").write_text(f"FROM {base}\nENV VERSION=built\n")
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org", "-C", str(root)]
    for command in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "one"]):
        subprocess.run([*git, *command], check=True, timeout=30)
    (root / "Dockerfile").write_text("FROM nothing-like-this\nRUN x\n")
    async with harbour.server() as desk:
        await desk.done("create_project", {"name": harbour.project, "path": str(root)})
        broken = await desk.call("build_image", {"project": harbour.project, "version": "a"})
        assert broken.is_error
        built = await desk.done("build_image", {"project": harbour.project, "version": "b", "ref": "HEAD"})
        assert (built["status"], built["image"]) == ("done", f"quaymaster/{harbour.project}:b")
        up = await desk.done("deploy_project", harbour.deploy() | {"image": built["image"]})
        assert (up["status"], up["image_id"]) == ("success", built["image_id"])
        await desk.done("promote", {"project": harbour.project})
        assert harbour.version() == "built"
        for ref in ("-x", "--output=/tmp/x", "a..b", "nothing", "HEAD; id"):
            refused = await desk.call("build_image", {"project": harbour.project, "ref": ref})
            assert (refused.structured_content or {})["code"] == "INVALID", ref
        for content in ("ü", "no base64!"):
            ill = await desk.call("build_image", {"project": harbour.project, "archive_content": content})
            assert (ill.structured_content or {}).get("fields", {}).keys() == {"archive_content"}
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w:gz") as tar:
            data = f"FROM {base}\nENV VERSION=sent\n".encode()
            entry = tarfile.TarInfo("Dockerfile")
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
        sent = base64.b64encode(packed.getvalue()).decode()
        arguments = {"project": harbour.project, "version": "c", "archive_content": sent}
        assert (await desk.done("build_image", arguments))["status"] == "done"
        # Another source under the version of a build whose outcome nobody has asked for is a build of its own.
        begun = {"project": harbour.project, "version": "d", "ref": "HEAD", "wait_seconds": 0}
        running = await desk.done("build_image", begun)
        assert (running["status"], "version='d'" in running["next"]) == ("running", True)
        async with asyncio.timeout(60):
            while any(key.startswith("build-") for key in desk.house.hosting.works._running):
                await asyncio.sleep(0.05)
        other = await desk.done("build_image", arguments | {"version": "d"})
        assert (other["status"], other["image_id"] == built["image_id"]) == ("done", False)


def repository(root: Path, files: dict[str, str]) -> Callable[..., str]:
    """One commit with a tag; what is returned runs git there."""

    def git(*words: str, given: str | None = None) -> str:
        who = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-C", str(root)]
        done = subprocess.run(
            ["git", *who, *words], input=given, capture_output=True, text=True, check=True, timeout=30
        )
        return done.stdout.strip()

    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    git("init", "-q")
    git("add", ".")
    git("commit", "-q", "-m", "one")
    git("tag", "-a", "v1.2", "-m", "v1.2")
    return git


async def revision(root: Path, ref: str) -> dict[str, str]:
    async with ProjectSources().revision(str(root), ref) as pieces:
        data = b"".join([piece async for piece in pieces])
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        opened = {entry.name: tar.extractfile(entry) for entry in tar if entry.isfile()}
        return {name: file.read().decode() for name, file in opened.items() if file is not None}


SIGNATURE = "gpgsig -----BEGIN PGP SIGNATURE-----\n \n abc\n -----END PGP SIGNATURE-----\n"


async def test_nothing_that_a_repositorys_configuration_names_is_run(tmp_path: Path):
    """Whoever may write into a project's folder is not the server's user."""
    ran = tmp_path / "ran"
    program = tmp_path / "program"
    program.write_text(f'#!/bin/sh\necho "$0 $*" >> {ran}\nexit 1\n')
    program.chmod(0o755)
    attributes = "a.txt filter=one\nb.txt filter=two\nc.txt export-subst\n"
    files = {".gitattributes": attributes, "a.txt": "a", "b.txt": "b", "c.txt": "$Format:%G?$"}
    git = repository(tmp_path / "app", files)
    told = git("cat-file", "commit", "HEAD").replace("\n\n", f"\n{SIGNATURE}\n", 1) + "\n"
    git("update-ref", "refs/heads/signed", git("hash-object", "-t", "commit", "-w", "--stdin", given=told))
    # A commit whose tree is not here, and a way to fetch it.
    lost = git("commit-tree", "-m", "lost", "HEAD^{tree}").strip()
    (tmp_path / "app" / ".git" / "refs" / "heads" / "lost").write_text(f"{lost[::-1]}\n")
    for name, value in {
        "filter.one.smudge": f"{program}",
        "filter.two.process": f"{program}",
        "gpg.program": f"{program}",
        "core.fsmonitor": f"{program}",
        "core.repositoryformatversion": "1",
        "extensions.partialClone": "origin",
        "remote.origin.promisor": "true",
        "remote.origin.url": str(tmp_path / "app"),
        "remote.origin.uploadpack": f"{program}",
    }.items():
        git("config", name, value)
    (tmp_path / "app" / ".git" / "info").mkdir(exist_ok=True)
    (tmp_path / "app" / ".git" / "info" / "attributes").write_text("* filter=one\n")
    found = await revision(tmp_path / "app", "signed")
    assert (found["a.txt"], found["b.txt"]) == ("a", "b")
    with pytest.raises(Invalid):
        await revision(tmp_path / "app", "lost")
    assert not ran.exists()


async def test_a_revision_is_that_of_the_projects_folder_and_names_its_version(tmp_path: Path):
    version = "$Format:%H %(describe:tags=true)$"
    files = {"x.txt": "x", "app/.gitattributes": "v.txt export-subst\n", "app/Dockerfile": "FROM x\n"}
    git = repository(tmp_path / "top", {**files, "v.txt": version, ".gitattributes": "v.txt export-subst\n"})
    assert set(await revision(tmp_path / "top" / "app", "HEAD")) == {".gitattributes", "Dockerfile"}
    whole = await revision(tmp_path / "top", "v1.2")
    assert whole["v.txt"] == f"{git('rev-parse', 'HEAD')} v1.2"
    (tmp_path / "none").mkdir()
    with pytest.raises(Invalid, match="not a git repository"):
        await revision(tmp_path / "none", "HEAD")


async def test_a_repository_that_leads_elsewhere_is_not_read_and_a_worktree_of_it_is(tmp_path: Path):
    git = repository(tmp_path / "theirs", {"secret.txt": "theirs"})
    head = git("rev-parse", "HEAD")
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / ".git").symlink_to(tmp_path / "theirs" / ".git")
    with pytest.raises(Invalid, match="elsewhere"):
        await revision(mine, "HEAD")
    (mine / ".git").unlink()
    (mine / ".git").write_text(f"gitdir: {tmp_path}/theirs/.git\n")
    with pytest.raises(Invalid, match="elsewhere"):
        await revision(mine, "HEAD")
    forged = tmp_path / "forged"
    forged.mkdir()
    (forged / "HEAD").write_text(f"{head}\n")
    (forged / "commondir").write_text(f"{tmp_path}/theirs/.git\n")
    (forged / "gitdir").write_text(f"{mine}/.git\n")
    (mine / ".git").write_text(f"gitdir: {forged}\n")
    with pytest.raises(Invalid, match="elsewhere"):
        await revision(mine, "HEAD")
    (mine / ".git").unlink()
    own = repository(mine, {"a.txt": "mine"})
    (mine / ".git" / "refs" / "heads" / "x").write_text(f"{head}\n")
    (mine / ".git" / "objects" / "info" / "alternates").write_text(f"{tmp_path}/theirs/.git/objects\n")
    with pytest.raises(Invalid, match="borrows"):
        await revision(mine, "x")
    (mine / ".git" / "objects" / "info" / "alternates").unlink()
    assert await revision(mine, "HEAD") == {"a.txt": "mine"}
    own("worktree", "add", "-q", str(tmp_path / "beside"), "v1.2")
    assert await revision(tmp_path / "beside", "HEAD") == {"a.txt": "mine"}
