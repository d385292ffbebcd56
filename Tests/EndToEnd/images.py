"""OCI images for tests: from folders with umoci and skopeo, and hand-made ones that no tool would make."""

import gzip
import hashlib
import io
import json
import os
import shutil
import tarfile

from servers.registry import run

INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"


def from_folders(workspace, folders, tag="v1"):
    """An image layout with one gzip layer for each folder, each on top of the one before, made by umoci. A folder's
    `.wh.NAME` files are what umoci makes of names that are gone."""
    layout = os.path.join(workspace, "image")
    run(["umoci", "init", "--layout", layout])
    run(["umoci", "new", "--image", f"{layout}:{tag}"])
    for number, folder in enumerate(folders):
        bundle = os.path.join(workspace, f"bundle{number}")
        run(["umoci", "unpack", "--image", f"{layout}:{tag}", bundle])
        root = os.path.join(bundle, "rootfs")
        shutil.rmtree(root)
        run(["cp", "-a", folder, root])
        run(["umoci", "repack", "--image", f"{layout}:{tag}", bundle])
    return layout


def push(layout, registry, repository, coding="gzip", tag="v1"):
    """Copies an image into a registry with skopeo. - Returns: the reference HOST/REPOSITORY:TAG."""
    reference = f"{registry.host}/{repository}:{tag}"
    copy = ["skopeo", "--insecure-policy", "copy"]
    source = f"oci:{layout}:{tag}"
    options = ["--dest-tls-verify=false"]
    if registry.user:
        options += ["--dest-creds", f"{registry.user}:{registry.password}"]
    if coding == "tar":
        plain = layout + "-plain"
        run([*copy, "--dest-decompress", source, f"dir:{plain}"])
        source = f"dir:{plain}"
        options.append("--preserve-digests")
    elif coding == "zstd":
        options += ["--dest-compress-format", "zstd"]
    run([*copy, *options, source, f"docker://{reference}"])
    return reference


class Layout:
    """An image layout written by hand."""

    def __init__(self, path):
        self.path = os.fspath(path)
        os.makedirs(os.path.join(self.path, "blobs/sha256"))
        self._write("oci-layout", json.dumps({"imageLayoutVersion": "1.0.0"}).encode())

    def _write(self, name, data):
        with open(os.path.join(self.path, name), "wb") as file:
            file.write(data)

    def blob(self, data, media_type, **more):
        digest = hashlib.sha256(data).hexdigest()
        self._write(f"blobs/sha256/{digest}", data)
        return {"mediaType": media_type, "digest": "sha256:" + digest, "size": len(data)} | more

    def image(self, layers, labels=None, tag="v1", **manifest):
        """Writes the manifest and the index. `layers` are descriptors."""
        config = {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": []},
                  "config": {"Labels": labels or {}}}
        document = {
            "schemaVersion": 2, "mediaType": MANIFEST,
            "config": self.blob(json.dumps(config).encode(), CONFIG), "layers": layers} | manifest
        return self.tag(self.blob(json.dumps(document).encode(), MANIFEST), tag)

    def tag(self, descriptor, tag="v1"):
        descriptor = descriptor | {"annotations": {"org.opencontainers.image.ref.name": tag}}
        self._write("index.json", json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": [descriptor]}).encode())
        return f"oci-layout:{self.path}:{tag}"


def tar(*members):
    """A tar of (name, data) pairs or TarInfo objects, uncompressed."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                archive.addfile(member)
            else:
                info = tarfile.TarInfo(member[0])
                info.size = len(member[1])
                archive.addfile(info, io.BytesIO(member[1]))
    return buffer.getvalue()


def gzipped(data):
    return gzip.compress(data, mtime=0)
