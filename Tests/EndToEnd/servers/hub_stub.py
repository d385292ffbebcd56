"""A strict stand-in of the Hugging Face Hub. Standard library only.

    python hub_stub.py DESCRIPTION.json

Serves the routes that readers of a Hub use: revision, tree (paged), paths-info, refs, auth-check, resolve, resolve-cache.
Small files are answered by the Hub itself (after a relative redirect, as the real one does), large ones (LFS) by a second
port, the content host, through a signed URL that expires. Whatever a careful client does not do is answered with 400
and recorded as an error: unknown routes and queries, unencoded paths, bad ranges, a token sent to the content host.

The description:

  {"tokens": {"hf_reader": {}, "hf_scopeless": {"scope": false}},
   "page_size": 100,
   "repositories": [
     {"type": "model", "id": "org/name",
      "private": false, "gated": false, "disabled": false, "readers": ["hf_reader"],
      "commits": [{"folder": "/path", "large": ["*.safetensors"], "branches": ["main"], "tags": ["v1"]}]}]}

A commit's files come from a `folder` or from `files` (path: text). `readers` are the tokens that may read a private or
gated repository. Own keys of POST /_faults (see recording.py for the rules):

  expire_signatures  true: all signed URLs so far are refused from now on
  signature_seconds  how long new ones live (default 3600)
  wrong_commit       true: X-Repo-Commit names another commit
  bind_method        true: a signed URL is good only for the method that it was made for
  direct             true: large files are answered by the Hub itself
  move_branch        {"type", "id", "branch", "commit": index}: a branch moves
"""

import fnmatch
import hashlib
import hmac
import json
import os
import re
import sys
import time
import urllib.parse

from recording import BadRequest, Content, Recorder, RecordingHandler, RecordingServer, run

TYPES = ("model", "dataset", "space")
SECRET = os.urandom(16)


def quoted(text, safe=""):
    return urllib.parse.quote(text, safe=safe)


class File:
    def __init__(self, content, is_large, date):
        self.content = content
        self.is_large = is_large
        self.size = content.size
        self.sha256 = hashlib.sha256()
        git = hashlib.sha1(b"blob %d\0" % self.size)
        for piece in content.pieces(0, self.size):
            self.sha256.update(piece)
            git.update(piece)
        self.sha256 = self.sha256.hexdigest()
        self.oid = git.hexdigest()
        self.date = date
        if is_large:
            pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{self.sha256}\nsize {self.size}\n".encode()
            self.pointer_size = len(pointer)
            self.oid = hashlib.sha1(b"blob %d\0" % len(pointer) + pointer).hexdigest()

    @property
    def etag(self):
        return self.sha256 if self.is_large else self.oid


class Commit:
    def __init__(self, description, identity):
        self.date = description.get("date", "2024-02-03T04:05:06.000Z")
        self.files = {}
        patterns = description.get("large", ["*.safetensors", "*.bin"])

        def add(path, content):
            is_large = any(fnmatch.fnmatch(path, pattern) for pattern in patterns)
            self.files[path] = File(content, is_large, self.date)

        for path, text in description.get("files", {}).items():
            add(path, Content(text.encode()))
        if folder := description.get("folder"):
            for parent, _, names in os.walk(folder):
                for name in names:
                    path = os.path.join(parent, name)
                    add(os.path.relpath(path, folder), Content(path=path))
        listing = "".join(f"{path}\0{file.oid}\0" for path, file in sorted(self.files.items()))
        self.id = hashlib.sha1(f"commit {identity} {listing}".encode()).hexdigest()

    def entries(self, folder, recursive):
        """What `tree` lists, sorted; None where there is no such folder."""
        prefix = folder + "/" if folder else ""
        found = {}
        for path, file in self.files.items():
            if not path.startswith(prefix):
                continue
            parts = path[len(prefix):].split("/")
            for depth in range(1, len(parts)):
                if recursive or depth == 1:
                    found.setdefault(prefix + "/".join(parts[:depth]), None)
            if recursive or len(parts) == 1:
                found[path] = file
        if not found and folder:
            return None
        return [self.entry(path, file) for path, file in sorted(found.items())]

    def entry(self, path, file):
        if file is None:
            return {"type": "directory", "oid": hashlib.sha1(path.encode()).hexdigest(), "size": 0, "path": path}
        entry = {"type": "file", "oid": file.oid, "size": file.size, "path": path}
        if file.is_large:
            entry["lfs"] = {"oid": file.sha256, "size": file.size, "pointerSize": file.pointer_size}
        return entry


class Repository:
    def __init__(self, description):
        self.type = description.get("type", "model")
        if self.type not in TYPES:
            raise ValueError(f"unknown type {self.type}")
        self.id = description["id"]
        self.is_private = description.get("private", False)
        self.gated = description.get("gated", False)
        self.is_disabled = description.get("disabled", False)
        self.readers = set(description.get("readers", []))
        self.commits = []
        self.branches, self.tags = {}, {}
        for number, commit in enumerate(description.get("commits", [])):
            made = Commit(commit, f"{self.type} {self.id} {number}")
            self.commits.append(made)
            for branch in commit.get("branches", ["main"]):
                self.branches[branch] = made
            for tag in commit.get("tags", []):
                self.tags[tag] = made

    def commit(self, revision):
        if revision in self.branches:
            return self.branches[revision]
        if revision in self.tags:
            return self.tags[revision]
        return next((commit for commit in self.commits if commit.id == revision), None)

    @property
    def path(self):
        return ("" if self.type == "model" else self.type + "s/") + self.id


class Hub:
    """The repositories and the state that both ports share."""

    def __init__(self, description):
        self.tokens = description.get("tokens", {})
        self.page_size = description.get("page_size", 100)
        self.repositories = {}
        for repository in map(Repository, description.get("repositories", [])):
            self.repositories[repository.type, repository.id] = repository
        self.epoch = 0
        self.reset_faults()

    def reset_faults(self):
        self.signature_seconds = 3600
        self.wrong_commit = False
        self.bind_method = False
        self.direct = False

    def set_faults(self, faults):
        if faults.pop("expire_signatures", False):
            self.epoch += 1
        if move := faults.pop("move_branch", None):
            repository = self.repositories[move["type"], move["id"]]
            repository.branches[move["branch"]] = repository.commits[move["commit"]]
        for name in ("signature_seconds", "wrong_commit", "bind_method", "direct"):
            if name in faults:
                setattr(self, name, faults.pop(name))
        if faults:
            raise ValueError(f"unknown faults: {sorted(faults)}")

    def signature(self, sha256, expires, method):
        bound = method if self.bind_method else "any"
        text = f"{sha256} {expires} {self.epoch} {bound}"
        return hmac.new(SECRET, text.encode(), hashlib.sha256).hexdigest()

    def content(self, sha256):
        for repository in self.repositories.values():
            for commit in repository.commits:
                for file in commit.files.values():
                    if file.is_large and file.sha256 == sha256:
                        return file
        return None


class Refused(Exception):
    def __init__(self, status, code, message):
        self.status, self.code, self.message = status, code, message


class HubHandler(RecordingHandler):
    port_name = "hub"

    @property
    def hub(self):
        return self.server.hub

    def set_own_faults(self, faults):
        self.hub.set_faults(faults)

    def reset_own_faults(self):
        self.hub.reset_faults()

    def respond(self):
        length = int(self.headers.get("Content-Length") or 0)
        self.body = self.rfile.read(length)
        self.check_target()
        target = urllib.parse.urlsplit(self.path)
        self.query = urllib.parse.parse_qs(target.query, keep_blank_values=True, strict_parsing=bool(target.query))
        # Encoded slashes must stay apart from those that part the path.
        segments = target.path[1:].split("/")
        try:
            for segment in segments:
                if segment in (".", "..") or (segment == "" and len(segments) > 1):
                    raise BadRequest("the path holds an empty segment, '.' or '..'")
            self.route(target.path, [urllib.parse.unquote(segment, errors="strict") for segment in segments])
        except UnicodeDecodeError:
            raise BadRequest("the path is not UTF-8") from None
        except Refused as refused:
            headers = [("X-Error-Message", refused.message)]
            if refused.code:
                headers.append(("X-Error-Code", refused.code))
            self.answer_json(refused.status, {"error": refused.message}, headers)

    def route(self, path, segments):
        if segments[0] == "api":
            return self.route_api(path, segments[1:])
        repository, rest = self.take_repository(segments)
        if len(rest) >= 3 and rest[0] == "resolve":
            self.allow_methods("GET", "HEAD")
            self.allow_query()
            return self.resolve(repository, rest[1], "/".join(rest[2:]))
        raise BadRequest("no such route")

    def route_api(self, path, segments):
        if segments == ["agent-harnesses"]:
            self.allow_methods("GET")
            return self.answer_json(200, {})
        if segments[0] == "resolve-cache" and len(segments) >= 6:
            self.allow_methods("GET", "HEAD")
            self.allow_query("etag")
            repository = self.find(segments[1], segments[2] + "/" + segments[3])
            commit = self.readable(repository, segments[4], must_be_open=True)
            return self.serve(repository, commit, "/".join(segments[5:]))
        if len(segments) < 3:
            raise BadRequest("no such route")
        repository = self.find(segments[0], segments[1] + "/" + segments[2])
        rest = segments[3:]
        if rest == []:
            rest = ["revision", "main"]
        if rest[0] == "revision" and len(rest) == 2:
            self.allow_methods("GET")
            self.allow_query("blobs")
            return self.revision(repository, self.readable(repository, rest[1]))
        if rest == ["refs"]:
            self.allow_methods("GET")
            return self.refs(repository)
        if rest == ["auth-check"]:
            self.allow_methods("GET")
            self.allow_query()
            self.check_access(repository, must_be_open=True)
            return self.answer_json(200, {})
        if rest[0] == "tree" and len(rest) >= 2:
            self.allow_methods("GET")
            self.allow_query("recursive", "expand", "limit", "cursor")
            return self.tree(repository, self.readable(repository, rest[1]), path, "/".join(rest[2:]))
        if rest[0] == "paths-info" and len(rest) == 2:
            self.allow_methods("POST")
            return self.paths_info(self.readable(repository, rest[1]))
        if rest[0] == "xet-read-token":
            raise Refused(404, None, "not stored with Xet")
        raise BadRequest("no such route")

    def allow_methods(self, *methods):
        if self.command not in methods:
            raise BadRequest(f"the route does not take {self.command}")

    def allow_query(self, *names):
        for name in self.query:
            if name not in names:
                raise BadRequest(f"unknown query '{name}'")

    def switch(self, name):
        value = self.query.get(name, ["false"])[-1].lower()
        if value not in ("true", "false", "1", "0"):
            raise BadRequest(f"'{name}' is neither true nor false")
        return value in ("true", "1")

    # Who may see what

    @property
    def token(self):
        """None where there is none."""
        value = self.headers.get("Authorization")
        if value is None:
            return None
        if not value.startswith("Bearer "):
            raise BadRequest("Authorization is not 'Bearer TOKEN'")
        token = value[len("Bearer "):]
        if token not in self.hub.tokens:
            raise Refused(401, None, "Invalid credentials in Authorization header")
        return token

    def take_repository(self, segments):
        type_name = "models"
        if segments[0] in ("datasets", "spaces"):
            type_name, segments = segments[0], segments[1:]
        if len(segments) < 2:
            raise BadRequest("no such route")
        return self.find(type_name, segments[0] + "/" + segments[1]), segments[2:]

    def find(self, type_name, identity):
        if type_name[:-1] not in TYPES or not type_name.endswith("s"):
            raise BadRequest(f"unknown type of repository '{type_name}'")
        token = self.token
        repository = self.hub.repositories.get((type_name[:-1], identity))
        if repository is None or (repository.is_private and token not in repository.readers):
            # The Hub does not tell a stranger whether it exists.
            if token is None:
                raise Refused(401, "RepoNotFound", "Invalid username or password.")
            raise Refused(404, "RepoNotFound", "Repository not found")
        return repository

    def check_access(self, repository, must_be_open):
        token = self.token
        if repository.is_disabled:
            raise Refused(403, None, "Access to this resource is disabled.")
        if token is not None and not self.hub.tokens[token].get("scope", True):
            raise Refused(403, None, "The token has not the required scope")
        if must_be_open and repository.gated and token not in repository.readers:
            message = f"Access to {repository.type} {repository.id} is restricted."
            raise Refused(401 if token is None else 403, "GatedRepo", message)

    def readable(self, repository, revision, must_be_open=False):
        self.check_access(repository, must_be_open)
        commit = repository.commit(revision)
        if commit is None:
            raise Refused(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return commit

    # Metadata

    def revision(self, repository, commit):
        with_blobs = self.switch("blobs")
        siblings = []
        for path, file in sorted(commit.files.items()):
            sibling = {"rfilename": path}
            if with_blobs:
                sibling |= {"size": file.size, "blobId": file.oid}
                if file.is_large:
                    sibling["lfs"] = {"sha256": file.sha256, "size": file.size, "pointerSize": file.pointer_size}
            siblings.append(sibling)
        self.answer_json(200, {
            "_id": "0" * 24, "id": repository.id, "sha": commit.id, "siblings": siblings, "gated": repository.gated,
            "private": repository.is_private, "disabled": repository.is_disabled, "lastModified": commit.date,
            "createdAt": commit.date, "tags": [], "downloads": 0, "likes": 0,
        })

    def refs(self, repository):
        self.allow_query("include_prs")
        self.check_access(repository, must_be_open=False)

        def listed(kind, references):
            return [{"name": name, "ref": f"refs/{kind}/{name}", "targetCommit": commit.id} for name, commit in references.items()]

        self.answer_json(200, {
            "branches": listed("heads", repository.branches), "tags": listed("tags", repository.tags), "converts": []})

    def tree(self, repository, commit, path, folder):
        entries = commit.entries(folder, self.switch("recursive"))
        if entries is None:
            raise Refused(404, "EntryNotFound", f'"{folder}" does not exist')
        if self.switch("expand"):
            for entry in entries:
                entry["lastCommit"] = {"id": commit.id, "title": "a commit", "date": commit.date}
                entry["securityFileStatus"] = {"status": "unscanned"}
        size = self.hub.page_size
        if "limit" in self.query:
            size = min(size, int(self.query["limit"][-1]))
        start = int(self.query.get("cursor", ["0"])[-1])
        if not 0 <= start <= len(entries):
            raise BadRequest("bad cursor")
        headers = []
        if start + size < len(entries):
            query = {name: values[-1] for name, values in self.query.items() if name != "cursor"}
            following = urllib.parse.urlencode(query | {"cursor": start + size})
            headers.append(("Link", f'<http://{self.headers["Host"]}{path}?{following}>; rel="next"'))
        self.answer_json(200, entries[start : start + size], headers)

    def paths_info(self, commit):
        if self.headers.get("Content-Type", "").startswith("application/json"):
            wanted = json.loads(self.body)["paths"]
        else:
            wanted = urllib.parse.parse_qs(self.body.decode())["paths"]
        known = {entry["path"]: entry for entry in commit.entries("", True)}
        self.answer_json(200, [known[path] for path in wanted if path in known])

    # Files

    def commit_header(self, commit):
        return ("X-Repo-Commit", hashlib.sha1(b"another").hexdigest() if self.hub.wrong_commit else commit.id)

    def file(self, commit, path):
        file = commit.files.get(path)
        if file is None:
            raise Refused(404, "EntryNotFound", "Entry not found")
        return file

    def resolve(self, repository, revision, path):
        commit = self.readable(repository, revision, must_be_open=True)
        file = self.file(commit, path)
        if self.headers.get("If-None-Match") == f'"{file.etag}"':
            return self.answer(304, [("ETag", f'"{file.etag}"'), self.commit_header(commit)], b"")
        if file.is_large and not self.hub.direct:
            expires = int(time.time()) + self.hub.signature_seconds
            signature = self.hub.signature(file.sha256, expires, self.command)
            location = f"{self.server.content_url}/blobs/{file.sha256}?Expires={expires}&Signature={signature}&Key-Pair-Id=K1"
            return self.answer(302, [
                ("Location", location), ("ETag", f'"{file.oid}"'), ("X-Linked-Etag", f'"{file.sha256}"'),
                ("X-Linked-Size", str(file.size)), self.commit_header(commit)], b"Found. Redirecting\n")
        kind = repository.type + "s"
        location = f"/api/resolve-cache/{kind}/{quoted(repository.id, '/')}/{commit.id}/{quoted(path, '/')}"
        self.answer(307, [
            ("Location", f"{location}?etag={quoted(chr(34) + file.etag + chr(34))}"),
            ("X-Linked-Size", str(file.size)), ("X-Linked-Etag", f'"{file.etag}"'), self.commit_header(commit)],
            b"Temporary Redirect\n")

    def serve(self, repository, commit, path):
        file = self.file(commit, path)
        if "Range" in self.headers and self.headers.get("Accept-Encoding") != "identity":
            raise BadRequest("a range without Accept-Encoding: identity")
        self.answer_content(file.content, [
            ("ETag", f'"{file.etag}"'), self.commit_header(commit), ("Content-Type", "application/octet-stream")])


class ContentHandler(RecordingHandler):
    """The host of the large files."""

    port_name = "content"

    def respond(self):
        self.check_target()
        hub = self.server.hub
        if self.command not in ("GET", "HEAD"):
            raise BadRequest(f"the route does not take {self.command}")
        if "Authorization" in self.headers:
            raise BadRequest("a token was sent to the content host")
        target = urllib.parse.urlsplit(self.path)
        query = dict(urllib.parse.parse_qsl(target.query))
        name = re.fullmatch(r"/blobs/([0-9a-f]{64})", target.path)
        if not name or set(query) != {"Expires", "Signature", "Key-Pair-Id"} or not query["Expires"].isdigit():
            raise BadRequest("no such route or query")
        signature = hub.signature(name[1], query["Expires"], self.command)
        if int(query["Expires"]) <= time.time() or not hmac.compare_digest(signature, query["Signature"]):
            return self.answer(403, [("Content-Type", "application/xml")], b"<Error><Code>AccessDenied</Code></Error>")
        file = hub.content(name[1])
        if file is None:
            return self.answer(404, [], b"")
        # Not the SHA-256, as on the real content hosts.
        etag = hashlib.md5(file.sha256.encode()).hexdigest()
        self.answer_content(file.content, [("ETag", f'"{etag}"'), ("Content-Type", "application/octet-stream")])


def servers(description):
    """The Hub and its content host, not started."""
    recorder = Recorder()
    hub = RecordingServer(HubHandler, recorder)
    content = RecordingServer(ContentHandler, recorder)
    hub.hub = content.hub = Hub(description)
    hub.content_url = content.url
    return {"url": hub, "content_url": content}


if __name__ == "__main__":
    with open(sys.argv[1], encoding="utf-8") as file:
        run(servers(json.load(file)))
