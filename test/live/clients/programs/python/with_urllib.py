import base64
import json
from urllib.parse import urlencode
from urllib.request import Request, urlopen

from ask import AUTH, DOCUMENT, FORM, HEADERS, QUERY, URL

BASIC = {"Authorization": "Basic " + base64.b64encode(":".join(AUTH).encode()).decode()}


def ask(body, content_type):
    request = Request(f"{URL}?{urlencode(QUERY)}", body.encode(), {**HEADERS, **BASIC, "Content-Type": content_type})
    with urlopen(request) as response:
        print(response.read().decode())


ask(urlencode(FORM), "application/x-www-form-urlencoded")
ask(json.dumps(DOCUMENT), "application/json")
