"""S3 servers: SeaweedFS, which checks what S3 checks, and rclone, which does not."""

import json
import os
import socket

from .process import ServerProcess, answers, clean_environment, find, free_port

ACCESS_KEY, SECRET_KEY = "AKIDFORTESTS", "secretkeyfortests"
REGION = "us-east-1"


class S3Server(ServerProcess):
    """Credentials are `access_key` and `secret_key`; `url` is the endpoint; buckets are in the path."""

    access_key, secret_key, region = ACCESS_KEY, SECRET_KEY, REGION
    url = ""

    def client(self, url=None):
        """A boto3 client. `url`: another way to the server, such as a proxy's."""
        import boto3
        from botocore.config import Config

        return boto3.client(
            "s3", endpoint_url=url or self.url, region_name=self.region, aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key, verify=False,
            config=Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}))

    @property
    def environment(self):
        """What a program needs to use the server."""
        return {
            "AWS_ENDPOINT_URL": self.url, "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key, "AWS_REGION": self.region, "AWS_EC2_METADATA_DISABLED": "true",
        }


def weed_ports():
    """A master, volume, filer and S3 port; gRPC listens on each and 10000 more unless told otherwise."""
    return [free_port() for _ in range(8)]


def weed(directory):
    """SeaweedFS: real signature checks, If-Match, ranges, multipart ETags. Slow to start (about 12 s)."""
    data = os.path.join(directory, "data")
    os.makedirs(data)
    configuration = os.path.join(directory, "s3.json")
    with open(configuration, "w") as file:
        json.dump({"identities": [{
            "name": "tests", "credentials": [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"]}]}, file)
    master, master_grpc, volume, volume_grpc, filer, filer_grpc, s3, s3_grpc = weed_ports()
    command = [
        find("weed"), "server", f"-dir={data}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1",
        f"-master.port={master}", f"-master.port.grpc={master_grpc}", "-master.volumeSizeLimitMB=256",
        f"-volume.port={volume}", f"-volume.port.grpc={volume_grpc}", "-volume.max=0",
        "-filer", f"-filer.port={filer}", f"-filer.port.grpc={filer_grpc}",
        "-s3", f"-s3.port={s3}", f"-s3.port.grpc={s3_grpc}", f"-s3.config={configuration}",
    ]
    server = S3Server("weed", command, os.path.join(directory, "log"), None)
    server.url = f"http://127.0.0.1:{s3}"
    server.ready = lambda: _takes_objects(server)
    return server


def _takes_objects(server):
    """The S3 port answers before there is a volume to write to: only an object that was written shows readiness."""
    from botocore.exceptions import BotoCoreError, ClientError

    host, port = server.url.removeprefix("http://").split(":")
    try:
        socket.create_connection((host, int(port)), 1).close()
        client = server.client()
        if "ready" not in [bucket["Name"] for bucket in client.list_buckets()["Buckets"]]:
            client.create_bucket(Bucket="ready")
        client.put_object(Bucket="ready", Key="ready", Body=b"ready")
        return client.get_object(Bucket="ready", Key="ready")["Body"].read() == b"ready"
    except (OSError, BotoCoreError, ClientError):
        return False


def rclone(directory):
    """rclone's S3: it ignores If-Match and sends the whole object's checksum with a range. `root` holds a folder per bucket."""
    root = os.path.join(directory, "root")
    os.makedirs(root)
    port = free_port()
    command = [
        find("rclone"), "serve", "s3", "--config", os.path.join(directory, "none.conf"), "--addr", f"127.0.0.1:{port}",
        "--auth-key", f"{ACCESS_KEY},{SECRET_KEY}", "--dir-cache-time", "1ms", root,
    ]
    url = f"http://127.0.0.1:{port}"
    server = S3Server("rclone", command, os.path.join(directory, "log"), answers(url, (200, 400, 403)), clean_environment())
    server.url, server.root = url, root
    return server
