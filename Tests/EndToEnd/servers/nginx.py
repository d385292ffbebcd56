"""nginx with static files: `/files/` as any web server, `/slow/` with limited rate, `/whole/` without ranges."""

import os

from .process import ServerProcess, answers, find, free_port

SLOW_BYTES_PER_SECOND = 512 * 1024

CONFIGURATION = """
daemon off;
worker_processes 1;
pid {directory}/pid;
error_log stderr warn;
{user}
events {{ worker_connections 512; }}
http {{
    access_log {directory}/access.log;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    default_type application/octet-stream;
    keepalive_requests 10000;
    server {{
        listen 127.0.0.1:{port};
        root {directory}/none;
        location = /ready {{ return 200 "ready"; }}
        location /files/ {{ alias {root}/; autoindex on; autoindex_exact_size on; }}
        location /slow/ {{ alias {root}/; autoindex on; limit_rate {rate}; }}
        location /whole/ {{ alias {root}/; autoindex on; max_ranges 0; }}
        location /secret/ {{ alias {root}/; autoindex on; auth_basic tests; auth_basic_user_file {directory}/htpasswd; }}
    }}
}}
"""


def nginx(directory, slow_bytes_per_second=SLOW_BYTES_PER_SECOND):
    """`root` is the folder that is served; `url` has no slash at its end. `/secret/` asks for user `reader`, password `pass`."""
    root = os.path.join(directory, "root")
    os.makedirs(root)
    # nginx's worker is another user where root starts it.
    user = "user root;" if os.geteuid() == 0 else ""
    port = free_port()
    path = os.path.join(directory, "nginx.conf")
    with open(os.path.join(directory, "htpasswd"), "w") as file:
        file.write("reader:{PLAIN}pass\n")
    with open(path, "w") as file:
        file.write(CONFIGURATION.format(
            directory=directory, root=root, port=port, rate=slow_bytes_per_second, user=user))
    url = f"http://127.0.0.1:{port}"
    server = ServerProcess(
        "nginx", [find("nginx"), "-e", "stderr", "-p", directory, "-c", path], os.path.join(directory, "log"),
        answers(url + "/ready"))
    server.url, server.root = url, root
    return server
