#!/usr/bin/env python3
"""Asks the origin for one page after another until a file is gone, then says how many answers were good.

Usage: load.py BASE RUNNING_FILE PATH...     (a failure: no answer, or a status of 400 and more)
"""
import collections
import http.client
import pathlib
import sys
import threading
import time
import urllib.parse

base, running, paths = urllib.parse.urlsplit(sys.argv[1]), pathlib.Path(sys.argv[2]), sys.argv[3:]
seen, lock, slowest = collections.Counter(), threading.Lock(), [0.0]


def visitor(number: int) -> None:
    connection, turn = None, number
    while running.exists():
        path = paths[turn % len(paths)]
        turn += 1
        begun = time.monotonic()
        try:
            connection = connection or http.client.HTTPConnection(base.hostname, base.port, timeout=15)
            visitor_address = f"198.{18 + turn % 2}.{turn // 250 % 250}.{number * 60 + turn % 60}"
            connection.request("GET", path, headers={"X-Forwarded-For": visitor_address})
            answer = connection.getresponse()
            answer.read()
            what = f"{answer.status} {path}" if answer.status >= 400 else "good"
            if answer.will_close:
                connection = None
        except (OSError, http.client.HTTPException) as error:
            what, connection = f"{type(error).__name__} {path}", None
        with lock:
            seen[what] += 1
            slowest[0] = max(slowest[0], time.monotonic() - begun)
        time.sleep(0.05)


threads = [threading.Thread(target=visitor, args=(number,)) for number in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
good = seen.pop("good", 0)
failed = sum(seen.values())
print(f"{good + failed} requests, {failed} failed, slowest {slowest[0]:.1f} s")
for what, count in seen.most_common():
    print(f"  {count} x {what}", file=sys.stderr)
sys.exit(0 if good and not failed else 1)
