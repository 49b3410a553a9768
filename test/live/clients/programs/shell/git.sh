#!/bin/sh
set -eu
git -c http.extraHeader="X-Api-Key: $TOKEN" ls-remote "https://me:$TOKEN@api.example.test/project.git"
