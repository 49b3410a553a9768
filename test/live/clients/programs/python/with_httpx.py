import sys

import httpx
from ask import AUTH, DOCUMENT, FORM, HEADERS, QUERY, URL

with httpx.Client(http2="http2" in sys.argv) as client:
    print(client.post(URL, params=QUERY, headers=HEADERS, auth=AUTH, data=FORM).text)
    print(client.post(URL, params=QUERY, headers=HEADERS, auth=AUTH, json=DOCUMENT).text)
