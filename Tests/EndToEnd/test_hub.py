"""mcfs over the stand-in of the Hugging Face Hub."""

import os

import pytest

import mcfs as mcfs_helper
import trees


@pytest.fixture
def hub_mcfs(hub, mcfs):
    mcfs.environment["HF_ENDPOINT"] = hub.url
    return mcfs


@pytest.mark.parametrize(("reference", "folder"), [
    ("hf://org/model", "model"), ("hf://org/model@v1", "model-old"), ("hf://org/model@old%2Fbranch", "model-old"),
    ("hf://org/model@refs/pr/1", "model"), ("hf://org/names", "names"), ("hf://org/many", "many"),
    ("hf://datasets/org/data", "data"), ("hf://datasets/org/data/train", "data/train"), ("hf://spaces/org/app", "app"),
])
def test_a_mounted_repository_has_the_bytes_of_its_folder(hub, hub_mcfs, fuse, reference, folder):
    mountpoint = hub_mcfs.mount(reference, options=("--read-only",))
    name, *below = folder.split("/")
    trees.compare(os.path.join(hub.folders[name], *below), mountpoint, modes=False, times=False)


def test_each_file_is_resolved_once_and_read_from_the_content_host(hub, hub_mcfs, fuse):
    hub_mcfs.environment["HF_TOKEN"] = hub.token
    mountpoint = hub_mcfs.mount("hf://org/model", options=("--read-only",))
    trees.compare(hub.folders["model"], mountpoint, modes=False, times=False)
    resolved = [entry["path"] for entry in hub.requests if "/resolve/" in entry["path"]]
    assert len(resolved) == len(set(resolved))
    content = [entry for entry in hub.requests if entry["port"] == "content"]
    assert content and not any(entry["authorized"] for entry in content)
    hub.forget()
    trees.compare(hub.folders["model"], mountpoint, modes=False, times=False)
    assert not hub.requests


def test_signed_urls_that_expire_are_renewed_without_notice(hub, hub_mcfs, fuse):
    mountpoint = hub_mcfs.mount("hf://org/model", options=("--read-only",))
    name = "model-00001-of-00002.safetensors"
    with open(os.path.join(mountpoint, name), "rb") as file:
        file.read(1)
        hub.fault(expire_signatures=True)
        file.seek(-1, os.SEEK_END)
        file.read(1)
    path = os.path.join(hub.folders["model"], name)
    assert trees.first_difference(path, os.path.join(mountpoint, name)) is None


def test_a_mount_stays_at_its_commit_when_the_branch_moves(hub, hub_mcfs, fuse):
    mountpoint = hub_mcfs.mount("hf://org/model", options=("--read-only",))
    try:
        hub.fault(move_branch={"type": "model", "id": "org/model", "branch": "main", "commit": 0})
        trees.compare(hub.folders["model"], mountpoint, modes=False, times=False)
    finally:
        hub.fault(move_branch={"type": "model", "id": "org/model", "branch": "main", "commit": 1})


@pytest.mark.parametrize(("reference", "code", "part"), [
    ("hf://org/gated", mcfs_helper.UNAUTHORIZED, "request it at"),
    ("hf://org/disabled", mcfs_helper.UNAUTHORIZED, "disabled"),
    ("hf://org/private", mcfs_helper.NOT_FOUND, "HF_TOKEN"),
    ("hf://org/missing", mcfs_helper.NOT_FOUND, "HF_TOKEN"),
    ("hf://org/model@missing", mcfs_helper.NOT_FOUND, "no revision 'missing'"),
    ("hf://org/model/missing", mcfs_helper.NOT_FOUND, "there is no 'missing'"),
    ("hf://org", mcfs_helper.USAGE, "ORG/NAME"),
])
def test_a_refusal_names_its_remedy(hub_mcfs, reference, code, part):
    assert part in hub_mcfs.run("ls", reference, code=code).stderr


def test_a_token_opens_gated_and_private_repositories(hub, hub_mcfs, fuse):
    hub_mcfs.environment["HF_TOKEN"] = hub.token
    mountpoint = hub_mcfs.mount("hf://org/gated", "private=hf://org/private", options=("--read-only",))
    trees.compare(hub.folders["private"], os.path.join(mountpoint, "private"), modes=False, times=False)
    with open(os.path.join(mountpoint, "config.json"), "rb") as file:
        assert file.read() == b"{}\n"
