"""The first message is the echo of the handshake, the second the echo of what this program sends."""

import base64
import os

from ask import AUTH, HEADERS, TOKEN
from websockets.sync.client import connect

BASIC = {"Authorization": "Basic " + base64.b64encode(":".join(AUTH).encode()).decode()}

with connect(f"wss://api.example.test/socket?token={TOKEN}", additional_headers={**HEADERS, **BASIC}) as socket:
    print(socket.recv())
    socket.send(os.environ["MESSAGE_TOKEN"])
    print(socket.recv())
