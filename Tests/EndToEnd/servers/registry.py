"""docker-registry: plain, with a password, and with its blobs in S3 behind signed URLs."""

import base64
import json
import os
import subprocess

from .process import ServerProcess, answers, clean_environment, find, free_port

USER, PASSWORD = "reader", "pass word:1"


class Registry(ServerProcess):
    """`host` is HOST:PORT as references have it, `url` the same with http://. `user` is None where none is asked for."""

    user = password = None

    def login(self, directory):
        """Writes a Docker configuration with the registry's password below `directory`; DOCKER_CONFIG is that folder."""
        os.makedirs(directory, exist_ok=True)
        secret = base64.b64encode(f"{self.user}:{self.password}".encode()).decode()
        path = os.path.join(directory, "config.json")
        with open(path, "w") as file:
            json.dump({"auths": {self.host: {"auth": secret}}}, file)
        return path


def registry(directory, password=False, s3=None, bucket=None):
    """`s3`: an S3Server that keeps the blobs; requests for them are then answered by 307 to a signed URL of it."""
    os.makedirs(directory, exist_ok=True)
    port = free_port()
    configuration = {
        "version": "0.1",
        "log": {"level": "info"},
        "storage": {"delete": {"enabled": True}, "filesystem": {"rootdirectory": os.path.join(directory, "data")}},
        "http": {"addr": f"127.0.0.1:{port}", "secret": "tests"},
    }
    if password:
        path = os.path.join(directory, "htpasswd")
        with open(path, "w") as file:
            file.write(_htpasswd(USER, PASSWORD))
        configuration["auth"] = {"htpasswd": {"realm": "tests", "path": path}}
    if s3 is not None:
        s3.client().create_bucket(Bucket=bucket)
        del configuration["storage"]["filesystem"]
        configuration["storage"]["s3"] = {
            "regionendpoint": s3.url, "bucket": bucket, "region": s3.region, "accesskey": s3.access_key,
            "secretkey": s3.secret_key, "secure": False, "v4auth": True, "rootdirectory": "/registry",
        }
    path = os.path.join(directory, "config.yml")
    with open(path, "w") as file:
        # JSON is YAML.
        json.dump(configuration, file, indent=1)
    url = f"http://127.0.0.1:{port}"
    # AWS_CA_BUNDLE makes its S3 driver panic; clean_environment leaves it out.
    server = Registry(
        "docker-registry", [find("docker-registry"), "serve", path], os.path.join(directory, "log"),
        answers(url + "/v2/", (200, 401)), clean_environment())
    server.url, server.host = url, f"127.0.0.1:{port}"
    if password:
        server.user, server.password = USER, PASSWORD
    return server


def _htpasswd(user, password):
    """docker-registry takes bcrypt only, which Python's library lacks and openssl too: crypt(3) has it."""
    import ctypes
    import ctypes.util

    library = ctypes.CDLL(ctypes.util.find_library("crypt") or "libcrypt.so.1")
    library.crypt.restype = ctypes.c_char_p
    salt = "$2y$05$" + "abcdefghijklmnopqrstuu"
    hashed = library.crypt(password.encode(), salt.encode())
    if not hashed or not hashed.startswith(b"$2"):
        raise RuntimeError("this machine's crypt(3) has no bcrypt, which docker-registry's password file needs")
    return f"{user}:{hashed.decode()}\n"


def push_folder(registry, repository, tag, folder, workspace, layers=None):
    """Packs `folder` (or the folders `layers`, one layer each) with umoci as an image below `/`, pushes it with skopeo, and
    returns its reference HOST/REPOSITORY:TAG."""
    layout = os.path.join(workspace, "layout-" + repository.replace("/", "-") + "-" + tag)
    run(["umoci", "init", "--layout", layout])
    run(["umoci", "new", "--image", f"{layout}:{tag}"])
    for layer in layers or [folder]:
        run(["umoci", "insert", "--image", f"{layout}:{tag}", layer, "/"])
    reference = f"{registry.host}/{repository}:{tag}"
    command = ["skopeo", "--insecure-policy", "copy", "--dest-tls-verify=false"]
    if registry.user:
        command += ["--dest-creds", f"{registry.user}:{registry.password}"]
    run([*command, f"oci:{layout}:{tag}", f"docker://{reference}"])
    return reference


def run(command, **options):
    """Runs a tool, quietly unless it fails."""
    result = subprocess.run(
        [find(command[0]), *command[1:]], env=clean_environment(), capture_output=True, text=True, timeout=120, **options)
    if result.returncode != 0:
        raise RuntimeError(f"{command[0]} failed with {result.returncode}: {result.stderr[-2000:]}")
    return result.stdout
