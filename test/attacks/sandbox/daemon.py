# A program that wants to outlive kz: forks twice, leaves its session and its descriptors, and stays. daemon.py normal|stay
import os
import signal
import sys

reader, writer = os.pipe()
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        nothing = os.open("/dev/null", os.O_RDWR)
        for number in range(3):
            os.dup2(nothing, number)
        os.write(writer, b"1")
        os.close(writer)
        signal.pause()
    os._exit(0)
os.read(reader, 1)
print("ready", flush=True)
if sys.argv[1] == "stay":
    sys.stdin.read()
