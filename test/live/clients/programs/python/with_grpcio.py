"""A gRPC call with the token in its metadata. The trailers bring the echo, the message the value as it arrived."""

import base64
import json

import grpc
from ask import AUTH, TOKEN

BASIC = "Basic " + base64.b64encode(":".join(AUTH).encode()).decode()

with grpc.secure_channel("api.example.test:443", grpc.ssl_channel_credentials()) as channel:
    call = channel.unary_unary("/kz.Echo/Call")
    answer, end = call.with_call(b"", timeout=20, metadata=(("x-api-key", TOKEN), ("authorization", BASIC)))
print(dict(end.trailing_metadata())["x-echo"])
print(json.dumps({"message": answer[2:].decode()}))
