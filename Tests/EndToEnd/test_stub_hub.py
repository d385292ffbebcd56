"""The stand-in of the Hub, judged by the Hub's own client."""

import os
import subprocess
import sys
import urllib.error
import urllib.request

import pytest
from huggingface_hub import HfApi, hf_hub_download, snapshot_download
from huggingface_hub import errors as hub_errors

import trees


@pytest.fixture
def download(hub, tmp_path):
    """snapshot_download into a folder of its own."""

    def run(repository, token=False, **options):
        target = str(tmp_path / "snapshot")
        return snapshot_download(repository, endpoint=hub.url, local_dir=target, token=token, max_workers=4, **options)

    return run


def compare_download(folder, target):
    import shutil

    shutil.rmtree(os.path.join(target, ".cache"), ignore_errors=True)
    trees.compare(folder, target, modes=False, times=False)


@pytest.mark.parametrize(("identity", "kind", "folder"), [
    ("org/model", "model", "model"), ("org/data", "dataset", "data"), ("org/app", "space", "app"),
    ("org/many", "model", "many"),
])
def test_a_snapshot_has_the_bytes_of_the_folder(hub, download, identity, kind, folder):
    compare_download(hub.folders[folder], download(identity, repo_type=kind))


def test_names_that_need_care_in_urls_arrive(hub, tmp_path):
    for name in trees.ODD_NAMES:
        path = hf_hub_download(
            "org/names", f"names/{name}", endpoint=hub.url, cache_dir=str(tmp_path / "cache"), token=False)
        with open(path, "rb") as file:
            assert file.read() == name.encode()


@pytest.mark.parametrize("revision", ["v1", "old/branch"])
def test_a_revision_gives_its_own_files(hub, download, revision):
    compare_download(hub.folders["model-old"], download("org/model", revision=revision))


def test_a_commit_is_a_revision(hub, download):
    api = HfApi(endpoint=hub.url, token=False)
    commit = api.model_info("org/model", revision="refs/pr/1").sha
    assert len(commit) == 40 and commit == api.model_info("org/model").sha
    compare_download(hub.folders["model"], download("org/model", revision=commit))


def test_the_tree_is_listed_over_all_pages(hub):
    entries = list(HfApi(endpoint=hub.url, token=False).list_repo_tree("org/many", recursive=True))
    files = {entry.path: entry for entry in entries if hasattr(entry, "blob_id")}
    assert len(files) == 250 and len(entries) == 257
    assert len([r for r in hub.requests if "/tree/" in r["path"]]) == 6


def test_the_tree_tells_digests_and_sizes(hub):
    entries = HfApi(endpoint=hub.url, token=False).list_repo_tree("org/model", recursive=True)
    files = {entry.path: entry for entry in entries if hasattr(entry, "blob_id")}
    large = files["model-00001-of-00002.safetensors"]
    path = os.path.join(hub.folders["model"], large.path)
    assert (large.lfs.sha256, large.lfs.size) == (trees.digest(path), os.path.getsize(path))
    small = os.path.join(hub.folders["model"], "config.json")
    git = subprocess.run(["git", "hash-object", "--no-filters", small], capture_output=True, text=True, check=True)
    assert files["config.json"].blob_id == git.stdout.strip() and files["config.json"].lfs is None


def test_a_folder_of_the_tree_is_listed_alone(hub):
    entries = HfApi(endpoint=hub.url, token=False).list_repo_tree("org/model", "tokenizer")
    assert [entry.path for entry in entries] == ["tokenizer/vocab.txt"]


@pytest.mark.parametrize(("identity", "token", "error"), [
    ("org/gated", False, hub_errors.GatedRepoError),
    ("org/gated", "hf_stranger", hub_errors.GatedRepoError),
    ("org/private", False, hub_errors.RepositoryNotFoundError),
    ("org/private", "hf_stranger", hub_errors.RepositoryNotFoundError),
    ("org/missing", False, hub_errors.RepositoryNotFoundError),
    ("org/disabled", False, hub_errors.DisabledRepoError),
    ("org/model", "hf_unknown", hub_errors.HfHubHTTPError),
    ("org/model", "hf_scopeless", hub_errors.HfHubHTTPError),
])
def test_refusals_are_those_of_the_hub(hub, identity, token, error):
    with pytest.raises(error) as raised:
        HfApi(endpoint=hub.url).get_hf_file_metadata(url=f"{hub.url}/{identity}/resolve/main/config.json", token=token)
    if error is hub_errors.HfHubHTTPError:
        assert type(raised.value) is error


def test_a_missing_file_and_a_missing_revision_are_told_apart(hub):
    api = HfApi(endpoint=hub.url, token=False)
    with pytest.raises(hub_errors.RevisionNotFoundError):
        api.model_info("org/model", revision="missing")
    with pytest.raises(hub_errors.EntryNotFoundError):
        api.get_hf_file_metadata(url=f"{hub.url}/org/model/resolve/main/missing")
    with pytest.raises(hub_errors.EntryNotFoundError):
        list(api.list_repo_tree("org/model", "missing"))


def test_access_to_a_gated_repository_can_be_asked_for(hub):
    api = HfApi(endpoint=hub.url)
    api.auth_check("org/gated", token=hub.token)
    with pytest.raises(hub_errors.GatedRepoError):
        api.auth_check("org/gated", token=False)


def test_a_reader_gets_gated_and_private_repositories(hub, download):
    compare_download(hub.folders["gated"], download("org/gated", token=hub.token))


def test_a_snapshot_in_a_cache_is_complete_offline(hub, tmp_path):
    cache = str(tmp_path / "cache")
    snapshot_download("org/model", endpoint=hub.url, cache_dir=cache, token=False)
    code = f"from huggingface_hub import snapshot_download as s; print(s('org/model', cache_dir={cache!r}))"
    offline = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | {"HF_HUB_OFFLINE": "1"}, capture_output=True, text=True, timeout=60)
    assert offline.returncode == 0, offline.stderr
    with open(os.path.join(offline.stdout.strip(), "config.json"), "rb") as file:
        assert file.read() == b'{"model_type": "test"}\n'


# What the client does not show: the strictness and the faults. Asked with a plain HTTP client.

class NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_):
        return None


def get(url, method="GET", **headers):
    """Status, headers and body; follows nothing."""
    opener = urllib.request.build_opener(NoRedirect)
    request = urllib.request.Request(url, headers={"Accept-Encoding": "identity"} | headers, method=method)
    try:
        with opener.open(request, timeout=30) as response:
            return response.status, response.headers, response.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read()


@pytest.fixture
def signed(hub):
    """Makes signed URLs of a large file."""
    url = f"{hub.url}/org/model/resolve/main/aligned.bin"
    return lambda: get(url)[1]["Location"]


def test_a_signed_url_serves_ranges_until_it_expires(hub, signed):
    url = signed()
    status, headers, body = get(url, Range="bytes=10-19")
    with open(os.path.join(hub.folders["model"], "aligned.bin"), "rb") as file:
        assert (status, body) == (206, file.read()[10:20])
    assert headers["Content-Range"] == f"bytes 10-19/{1 << 20}"
    hub.fault(expire_signatures=True)
    assert get(url)[0] == 403
    assert get(signed())[0] == 200
    hub.fault(signature_seconds=0)
    assert get(signed())[0] == 403


def test_a_token_sent_to_the_content_host_is_an_error(hub, signed):
    assert get(signed(), Authorization="Bearer hf_reader")[0] == 400
    assert "a token was sent" in hub.errors[0]
    hub.forget()


@pytest.mark.parametrize("path", [
    "/api/models/org/model/tree/main?unknown=1", "/api/models/org/model/revision/main?x=1", "/org/model/raw/main/config.json",
    "/org/model/resolve/main/config.json?x=1", "/org/model/resolve/main/../main/config.json", "/org//model/resolve/main/x",
    "/org/model/resolve/main/a[b]",
])
def test_what_no_client_should_ask_is_refused_and_recorded(hub, path):
    assert get(hub.url + path)[0] == 400
    assert len(hub.errors) == 1
    hub.forget()


@pytest.mark.parametrize("value", ["bytes=5-2", "bytes=-", "lines=1-2", "bytes=0-1,4-5", "bytes=x-2"])
def test_a_bad_range_is_refused(hub, signed, value):
    assert get(signed(), Range=value)[0] == 400
    hub.forget()


def test_a_range_beyond_the_end_is_416(hub, signed):
    assert get(signed(), Range=f"bytes={1 << 20}-")[0] == 416


def test_requests_are_recorded_with_their_bytes(hub, signed):
    url = signed()
    hub.forget()
    get(url, Range="bytes=0-99")
    entry, = hub.requests
    assert (entry["method"], entry["status"], entry["bytes"], entry["range"], entry["port"]) == (
        "GET", 206, 100, "bytes=0-99", "content")
    assert not entry["authorized"]
