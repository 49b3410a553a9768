import requests
from ask import AUTH, DOCUMENT, FORM, HEADERS, QUERY, URL

with requests.Session() as session:
    print(session.post(URL, params=QUERY, headers=HEADERS, auth=AUTH, data=FORM).text)
    print(session.post(URL, params=QUERY, headers=HEADERS, auth=AUTH, json=DOCUMENT).text)
