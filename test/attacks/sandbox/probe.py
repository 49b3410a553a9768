# The hostile program: makes every attack that it knows, one process each, and says on standard output how each ended, one JSON value a line.
# What it may know comes as one JSON line on standard input.
import errno
import json
import os
import select
import signal
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import attack  # noqa: E402
import files  # noqa: E402
import kernel  # noqa: E402
import network  # noqa: E402
import processes  # noqa: E402
import sockets  # noqa: E402

DEADLINE_S = 12
AT_ONCE = 6


def outcome(function, facts):
    """One attack's end: reached, blocked or impossible, and why."""
    try:
        return "reached", str(function(facts))
    except attack.Impossible as error:
        return "impossible", str(error)
    except attack.Blocked as error:
        return "blocked", str(error)
    except OSError as error:
        return "blocked", f"{errno.errorcode.get(error.errno, error.errno)} {error}"
    except BaseException as error:
        return "broken", f"{type(error).__name__}: {error}"


def start(name, function, facts):
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        signal.alarm(DEADLINE_S)
        end, detail = outcome(function, facts)
        os.write(writer, json.dumps([end, detail[:400]]).encode())
        os._exit(0)
    os.close(writer)
    return {"name": name, "pid": pid, "reader": reader, "started": time.monotonic()}


def finish(running):
    data = b""
    while chunk := os.read(running["reader"], 65536):
        data += chunk
    os.close(running["reader"])
    _, status = os.waitpid(running["pid"], 0)
    if data:
        end, detail = json.loads(data)
    else:
        end, detail = "blocked", f"ended by signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else f"ended with {status}"
    say(running["name"], end, f"{detail} [{time.monotonic() - running['started']:.1f} s]")


def say(name, end, detail):
    os.write(1, (json.dumps({"attack": name, "outcome": end, "detail": detail}) + "\n").encode())


def run(names, facts, at_once):
    waiting, running = list(names), []
    while waiting or running:
        while waiting and len(running) < at_once:
            name = waiting.pop(0)
            running.append(start(name, attack.ATTACKS[name][0], facts))
        ready, _, _ = select.select([one["reader"] for one in running], [], [])
        for one in [one for one in running if one["reader"] in ready]:
            finish(one)
            running.remove(one)


def line():
    """One line of standard input, and not a byte of what comes after it."""
    data = b""
    while not data.endswith(b"\n") and (byte := os.read(0, 1)):
        data += byte
    return data


def main():
    facts = json.loads(line())
    only = facts.get("only")
    chosen = [name for name in attack.ATTACKS if not only or name in only]
    late = [name for name in chosen if attack.ATTACKS[name][1] != attack.ANY_TIME]
    run([name for name in chosen if name not in late], facts, AT_ONCE)
    run(late, facts, 1)
    print(json.dumps({"done": len(chosen)}), flush=True)


main()
