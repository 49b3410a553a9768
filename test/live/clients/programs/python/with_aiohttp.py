"""aiohttp reads the proxy variables only when it is told to: `trust_env=True`."""

import asyncio

import aiohttp
from ask import AUTH, DOCUMENT, FORM, HEADERS, QUERY, URL


async def main():
    async with aiohttp.ClientSession(trust_env=True, headers=HEADERS, auth=aiohttp.BasicAuth(*AUTH)) as session:
        for body in ({"data": FORM}, {"json": DOCUMENT}):
            async with session.post(URL, params=QUERY, **body) as response:
                print(await response.text())


asyncio.run(main())
