#!/bin/sh
set -eu
url="https://api.example.test/echo?token=$TOKEN"
ask() {
  wget -nv -O - --tries=1 --auth-no-challenge --user=me --password="$TOKEN" --header="X-Api-Key: $TOKEN" "$@" "$url"
  echo
}
ask --post-data="user=me&password=$TOKEN"
ask --header='Content-Type: application/json' --post-data="{\"account\":{\"secret\":\"$TOKEN\"},\"text\":\"hello\"}"
