#!/bin/sh
# $1: --http1.1 or --http2
set -eu
url="https://api.example.test/echo?token=$TOKEN"
curl -sS --fail "$1" -u "me:$TOKEN" -H "X-Api-Key: $TOKEN" -d user=me --data-urlencode "password=$TOKEN" "$url"
echo
curl -sS --fail "$1" --compressed -u "me:$TOKEN" -H "X-Api-Key: $TOKEN" -H 'Content-Type: application/json' \
  -d "{\"account\":{\"secret\":\"$TOKEN\"},\"text\":\"hello\"}" "$url"
echo
