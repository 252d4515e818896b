"""A small Hugging Face Hub on 127.0.0.1, in memory, for tests with the real clients.

It implements what huggingface_hub 2.4 requests when Xet is disabled. The clients read `HF_ENDPOINT`
at import, so run them in a subprocess with `LoopbackHub.environment`.
"""

import base64
import hashlib
import json
import os
import re
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path, PurePosixPath
from typing import Any, Literal, Self
from urllib.parse import parse_qs, unquote

import yaml

Files = dict[str, bytes]
Failure = int | Literal["drop"]  # a status, or the connection is closed midway
USER = "loopback"  # whose tokens these are, and who owns a repo created without an owner


def is_lfs(path: str, size: int) -> bool:
    return path.endswith((".safetensors", ".parquet")) and size > 0


def content_oid(path: str, content: bytes) -> str:
    """The ETag, by which the client sees whether a file has changed."""
    if is_lfs(path, len(content)):
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(b"blob %d\0%s" % (len(content), content)).hexdigest()


def tree_entries(files: Files) -> dict[str, dict[str, Any]]:
    """Every folder and file as the API lists it, by path."""
    folders = {str(parent) for path in files for parent in PurePosixPath(path).parents} - {"."}
    entries: dict[str, dict[str, Any]] = {
        path: {"type": "directory", "oid": "0" * 40, "size": 0, "path": path} for path in folders
    }
    for path, content in files.items():
        oid, size = content_oid(path, content), len(content)
        entries[path] = {"type": "file", "oid": oid[:40], "size": size, "path": path}
        if is_lfs(path, size):
            entries[path]["lfs"] = {"oid": oid, "size": size, "pointerSize": 134}
    return dict(sorted(entries.items()))


@dataclass
class Reply:
    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


def as_json(value: object, status: int = 200) -> Reply:
    return Reply(json.dumps(value).encode(), status, {"Content-Type": "application/json"})


class Refusal(Exception):
    """An error response of the Hub; the client chooses its exception by the code."""

    def __init__(self, status: int, code: str, message: str, **headers: str) -> None:
        self.reply = as_json({"error": message}, status)
        self.reply.headers |= headers | {"X-Error-Code": code, "X-Error-Message": message}


@dataclass
class Repo:
    """Branches, each a list of (oid, all files at that commit), oldest first."""

    kind: str
    id: str
    private: bool = False
    gated: bool = False  # anyone may know of it; its files are for those with a token
    commits: dict[str, list[tuple[str, Files]]] = field(default_factory=lambda: {"main": []})
    objects: Files = field(default_factory=dict)  # what LFS holds, by sha256

    @property
    def page(self) -> str:
        return self.id if self.kind == "models" else f"{self.kind}/{self.id}"

    def commit(self, branch: str, files: Files) -> str:
        parent = self.commits[branch][-1][0] if self.commits[branch] else self.id
        names = sorted((path, content_oid(path, content)) for path, content in files.items())
        oid = hashlib.sha1(repr((self.kind, parent, names)).encode()).hexdigest()
        self.commits[branch].append((oid, files))
        self.objects |= {
            name: files[path] for path, name in names if is_lfs(path, len(files[path]))
        }
        return oid

    def history(self, revision: str) -> list[tuple[str, Files]]:
        """Up to this branch or commit, which comes last."""
        for branch, commits in self.commits.items():
            if branch == revision:
                return commits
            for at, (oid, _) in enumerate(commits, start=1):
                if oid == revision:
                    return commits[:at]
        raise Refusal(404, "RevisionNotFound", f"Invalid rev id: {revision}")


Endpoint = Callable[..., Reply]
ROUTES: list[tuple[str, re.Pattern[str], bool, Endpoint]] = []


def route(method: str, pattern: str, *, write: bool = False) -> Callable[[Endpoint], Endpoint]:
    """Register an endpoint: named groups become its arguments; kind and name become `repo`."""

    def enter(endpoint: Endpoint) -> Endpoint:
        ROUTES.append((method, re.compile(pattern), write, endpoint))
        return endpoint

    return enter


NAME = r"(?P<name>[^/]+(?:/[^/]+)??)"  # lazy: what follows is the API's before it is the repo's
API = rf"/api/(?P<kind>models|datasets)/{NAME}"
PAGE = rf"/(?:(?P<kind>datasets)/)?{NAME}"
REVISION = r"(?P<revision>[^/]+)"


class Exchange(BaseHTTPRequestHandler):
    """One connection: an endpoint returns a `Reply` or raises a `Refusal`."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # otherwise each reply waits for the client's delayed ACK
    timeout = 60  # a connection left open does not keep its thread

    def __init__(self, hub: "LoopbackHub", *args: Any) -> None:
        self.hub = hub
        super().__init__(*args)

    def handle(self) -> None:
        with suppress(ConnectionError):  # a client may be killed, that is what some tests do
            super().handle()

    def answer(self) -> None:
        self.authorization = self.headers.get("Authorization")
        self.hub.requests.append((self.command, self.path, self.authorization))
        failure = self.hub.take_failure(self.command, self.path)
        length = int(self.headers.get("Content-Length", 0))
        cut_request = failure == "drop" and self.command != "GET"
        self.body = self.rfile.read(length // 2 if cut_request else length)
        if cut_request or len(self.body) < length:  # the client itself may have gone away
            self.close_connection = True
        elif isinstance(failure, int):
            self.send(Reply(status=failure))
        else:
            self.send(self.reply(), cut=failure == "drop")

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = answer

    def reply(self) -> Reply:
        path, _, query = self.path.partition("?")
        self.query = parse_qs(query)
        for method, pattern, write, endpoint in ROUTES:
            match = pattern.fullmatch(path)
            if match and method == self.command.replace("HEAD", "GET"):
                words: dict[str, Any] = {k: v and unquote(v) for k, v in match.groupdict().items()}
                try:
                    with self.hub.lock:
                        if "name" in words:
                            words["repo"] = self.repo(words.pop("kind"), words.pop("name"), write)
                        return endpoint(self, **words)
                except Refusal as refusal:
                    return refusal.reply
        return Reply(status=404)

    def send(self, reply: Reply, *, cut: bool = False) -> None:
        size = len(reply.body)
        self.send_response(reply.status)
        for name, value in (reply.headers | {"Content-Length": str(size)}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(reply.body[: size // 2] if cut else reply.body)
        self.close_connection |= cut

    def log_message(self, *_: object) -> None:
        pass

    def has_token(self, *, write: bool = False, code: str = "Unauthorized") -> bool:
        """Refuse an unknown token, and a write that is not permitted, with this code."""
        if self.authorization is None:
            if write:
                raise Refusal(401, code, "Invalid username or password.")
            return False
        token = self.authorization.removeprefix("Bearer ")
        if token not in (self.hub.token, self.hub.read_token):
            raise Refusal(401, "Unauthorized", "Invalid credentials in Authorization header")
        if write and token != self.hub.token:
            raise Refusal(403, "Forbidden", "You need a token with the write permission")
        return True

    def repo(self, kind: str | None, name: str, write: bool) -> Repo:
        has_token = self.has_token()
        repo = self.hub.repos.get((kind or "models", name))
        if repo is None or (repo.private and not has_token):  # no one learns which of the two
            raise Refusal(404 if has_token else 401, "RepoNotFound", "Repository not found")
        # Over https the client takes any 401 of a repo for this code; over http it needs the code.
        self.has_token(write=write, code="RepoNotFound")
        return repo

    @route("GET", "/api/whoami-v2")
    def whoami(self) -> Reply:
        if not self.has_token():
            raise Refusal(401, "Unauthorized", "Invalid username or password.")
        role = "write" if self.authorization == f"Bearer {self.hub.token}" else "read"
        access = {"accessToken": {"displayName": "test", "role": role}}
        return as_json({"type": "user", "name": USER, "orgs": [], "auth": access})

    @route("POST", "/api/validate-yaml")
    def validate_yaml(self) -> Reply:
        head = re.match(r"---\n(.*?)\n---\n", json.loads(self.body)["content"], re.DOTALL)
        try:
            yaml.safe_load(head[1] if head else "")
        except yaml.YAMLError as error:
            return as_json({"errors": [{"message": str(error)}], "warnings": []}, 400)
        return as_json({"errors": [], "warnings": []})

    @route("POST", "/api/repos/create")
    def create(self) -> Reply:
        self.has_token(write=True)
        wanted = json.loads(self.body)
        kind = wanted.get("type", "model") + "s"
        name = f"{wanted.get('organization') or USER}/{wanted['name']}"
        url = f"{self.hub.endpoint}/{Repo(kind, name).page}"
        if (kind, name) in self.hub.repos:
            return as_json({"url": url, "error": "You already created this repo"}, 409)
        self.hub.add(name, {}, kind, private=wanted.get("visibility") == "private")
        return as_json({"url": url, "name": name})

    @route("POST", rf"{API}/branch/{REVISION}", write=True)
    def branch(self, repo: Repo, revision: str) -> Reply:
        if revision in repo.commits:
            raise Refusal(409, "Conflict", f"Reference already exists: {revision}")
        start = json.loads(self.body).get("startingPoint", "main")
        repo.commits[revision] = list(repo.history(start))
        return as_json({})

    @route("POST", rf"{API}/preupload/{REVISION}", write=True)
    def preupload(self, repo: Repo, revision: str) -> Reply:
        _, present = repo.history(revision)[-1]
        files = json.loads(self.body)["files"]
        for file in files:
            path = file["path"]
            file["uploadMode"] = "lfs" if is_lfs(path, file["size"]) else "regular"
            file["oid"] = content_oid(path, present[path]) if path in present else None
            file["shouldIgnore"] = False
        return as_json({"files": files})

    @route("POST", rf"{PAGE}\.git/info/lfs/objects/batch", write=True)
    def lfs_batch(self, repo: Repo) -> Reply:
        objects = json.loads(self.body)["objects"]
        for item in objects:
            if (oid := item["oid"]) not in repo.objects:
                self.hub.announced[oid] = repo
                item["actions"] = {"upload": {"href": f"{self.hub.endpoint}/lfs/{oid}"}}
        return as_json({"transfer": "basic", "objects": objects})

    @route("PUT", "/lfs/(?P<oid>[0-9a-f]{64})")
    def lfs_put(self, oid: str) -> Reply:
        if oid not in self.hub.announced:  # no token comes here: the address is the permission
            raise Refusal(403, "Forbidden", "No one with a token announced this object")
        if hashlib.sha256(self.body).hexdigest() != oid:
            raise Refusal(400, "BadDigest", "The content does not match its sha256")
        self.hub.announced.pop(oid).objects[oid] = self.body
        return Reply()

    @route("POST", rf"{API}/commit/{REVISION}", write=True)
    def commit(self, repo: Repo, revision: str) -> Reply:
        if revision not in repo.commits:
            raise Refusal(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        head, files = repo.commits[revision][-1]
        files, received = dict(files), {}
        for line in self.body.splitlines():
            step = json.loads(line)
            key, value = step["key"], step["value"]
            path = value.get("path")
            if key == "header":
                if value.get("parentCommit", head) != head:
                    raise Refusal(412, "Outdated", "A commit has happened since. Please refresh.")
            elif key == "file":
                files[path] = base64.b64decode(value["content"])
                received[path] = "inline", len(files[path])
            elif key == "lfsFile":
                if value["oid"] not in repo.objects:
                    raise Refusal(400, "LfsMissing", f"The content of {path} was not uploaded")
                files[path] = repo.objects[value["oid"]]
                received[path] = "lfs", len(files[path])
            elif key != "deletedFile":
                raise Refusal(400, "BadRequest", f"Unknown operation: {key}")
            elif files.pop(path, None) is None:
                raise Refusal(404, "EntryNotFound", "A file with this name doesn't exist")
        oid = repo.commit(revision, files)
        self.hub.received |= received
        url = f"{self.hub.endpoint}/{repo.page}/commit/{oid}"
        return as_json({"success": True, "commitUrl": url, "commitOid": oid})

    @route("GET", rf"{API}(?:/revision/{REVISION})?")
    def info(self, repo: Repo, revision: str | None) -> Reply:
        oid, files = repo.history(revision or "main")[-1]
        facts = {"id": repo.id, "sha": oid, "private": repo.private, "tags": []}
        facts["gated"] = "manual" if repo.gated else False
        facts["siblings"] = [{"rfilename": path} for path in sorted(files)]
        wanted = {"id", *self.query.get("expand", facts)}
        return as_json({key: value for key, value in facts.items() if key in wanted})

    @route("GET", rf"{API}/tree/{REVISION}(?:/(?P<folder>.+))?")
    def tree(self, repo: Repo, revision: str, folder: str | None) -> Reply:
        start = f"{folder}/" if folder else ""
        entries = tree_entries(repo.history(revision)[-1][1])
        inside = {path: e for path, e in entries.items() if path.startswith(start)}
        if folder and not inside:
            raise Refusal(404, "EntryNotFound", f"{folder} does not exist on {revision}")
        deep = self.query.get("recursive", [""])[0].lower() == "true"
        return as_json([e for path, e in inside.items() if deep or "/" not in path[len(start) :]])

    @route("POST", rf"{API}/paths-info/{REVISION}")
    def paths_info(self, repo: Repo, revision: str) -> Reply:
        entries = tree_entries(repo.history(revision)[-1][1])
        paths = parse_qs(self.body.decode())["paths"]
        return as_json([entries[path] for path in paths if path in entries])

    @route("GET", rf"{PAGE}/resolve/{REVISION}/(?P<path>.+)")
    def resolve(self, repo: Repo, revision: str, path: str) -> Reply:
        if repo.gated and not self.has_token():
            raise Refusal(401, "GatedRepo", f"Access to model {repo.id} is restricted.")
        oid, files = repo.history(revision)[-1]
        headers = {"X-Repo-Commit": oid}
        if path not in files:
            raise Refusal(404, "EntryNotFound", "Entry not found", **headers)
        content, size = files[path], len(files[path])
        headers |= {"ETag": f'"{content_oid(path, content)}"', "Accept-Ranges": "bytes"}
        requested = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if requested is None:
            return Reply(content, headers=headers)
        start, stop = int(requested[1]), min(size, int(requested[2] or size) + 1)
        if start >= stop:
            return Reply(status=416, headers={"Content-Range": f"bytes */{size}"})
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
        return Reply(content[start:stop], 206, headers)


class LoopbackHub:
    """The Hub, a context manager: its repositories, the requests it got, and failures to come."""

    token = "hf_" + "w" * 34  # the only one that may write
    read_token = "hf_" + "r" * 34  # sees private repos

    def __init__(self) -> None:
        self.repos: dict[tuple[str, str], Repo] = {}  # by kind and id
        self.announced: dict[str, Repo] = {}  # LFS uploads yet to come, by sha256
        self.requests: list[tuple[str, str, str | None]] = []  # method, path, Authorization
        self.received: dict[str, tuple[str, int]] = {}  # path -> "lfs" or "inline", bytes
        self.failures: list[tuple[str, str, Failure]] = []
        self.lock = threading.Lock()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Exchange, self))
        self.endpoint = f"http://127.0.0.1:{self.server.server_address[1]}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True)

    def __enter__(self) -> Self:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    def add(
        self, repo_id: str, files: Files | Path, kind: str = "models", private: bool = False
    ) -> None:
        """Add a repo with one commit on main; it replaces one of the same name."""
        if isinstance(files, Path):
            found = (path for path in files.rglob("*") if path.is_file())
            files = {path.relative_to(files).as_posix(): path.read_bytes() for path in found}
        repo = Repo(kind, repo_id, private)
        repo.commit("main", dict(files))
        self.repos[kind, repo_id] = repo

    def files(self, repo_id: str, kind: str = "models", revision: str = "main") -> Files:
        return dict(self.repos[kind, repo_id].history(revision)[-1][1])

    def is_private(self, repo_id: str, kind: str = "models") -> bool:
        return self.repos[kind, repo_id].private

    def fail(self, method: str, pattern: str, *, status: Failure = 500, times: int = 1) -> None:
        """Let the next `times` requests of a method, with `pattern` in path and query, fail.

        They get this status and no body, or are dropped: a GET after half of the reply, any other
        after half of the request. LFS content is sent with PUT to /lfs/.
        """
        self.failures += [(method, pattern, status)] * times

    def take_failure(self, method: str, path: str) -> Failure | None:
        with self.lock:
            for failure in self.failures:
                if failure[0] == method and re.search(failure[1], path):
                    self.failures.remove(failure)
                    return failure[2]
        return None

    def environment(self, cache: Path, token: str | None = None) -> dict[str, str]:
        """The variables of this process, with those of this Hub, for a subprocess."""
        foreign = ("HF_", "HUGGINGFACE", "HUGGING_FACE", "TRANSFORMERS_OFFLINE")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
        return (
            kept
            | {"HF_ENDPOINT": self.endpoint, "HF_HOME": str(cache), "HF_HUB_OFFLINE": "0"}
            | {"HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
            | {"NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
            | ({"HF_TOKEN": token} if token else {})
        )
