"""What every Python client sends: the token in a header, in Basic auth, in the query, and in a form or JSON body."""

import os

TOKEN = os.environ["TOKEN"]
URL = "https://api.example.test/echo"
QUERY = {"token": TOKEN}
HEADERS = {"X-Api-Key": TOKEN}
AUTH = ("me", TOKEN)
FORM = {"user": "me", "password": TOKEN}
DOCUMENT = {"account": {"secret": TOKEN}, "text": "hello"}
