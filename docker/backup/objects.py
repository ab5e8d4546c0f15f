#!/usr/bin/env python3
"""Objects of the platform's buckets, copied once per content and encrypted.

    objects.py backup LIST [PREVIOUS]     copy what is new; LIST tells what each bucket holds now
    objects.py restore LIST [--force]     put back what is missing; what is there with other content only with --force
    objects.py verify LIST                every content that LIST names is in the store and whole

A content is stored as objects/<first two>/<SHA-256>.gpg in the bucket of the backups, so a picture that does not change is kept once
for all backups. LIST has one JSON array per line: bucket, key, size, etag, SHA-256, media type, cache control.
Environment: s3.py, and BACKUP_OBJECT_BUCKETS, BACKUP_ENCRYPTION_KEY_FILE, BACKUP_WORK (a folder for temporary files). Where the
backups lie in another store than the objects, the latter is SOURCE_S3_ENDPOINT, SOURCE_S3_ACCESS_KEY_FILE, SOURCE_S3_SECRET_KEY_FILE.
"""

import concurrent.futures
import json
import os
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import s3

BACKUPS = os.environ.get("BACKUP_S3_BUCKET", "dreamscape-backups")
JOBS = int(os.environ.get("BACKUP_OBJECT_JOBS", 4))
local = threading.local()


def store():
    if not hasattr(local, "store"):
        local.store = s3.Store()
    return local.store


def source():
    """The store of the platform's objects."""
    if not hasattr(local, "source"):
        local.source = s3.Store("SOURCE_") if os.environ.get("SOURCE_S3_ENDPOINT") else store()
    return local.source


def blob(digest):
    return f"objects/{digest[:2]}/{digest}.gpg"


def crypt(how, source, target):
    crypt_sh = Path(__file__).with_name("crypt.sh")
    with open(source, "rb") as incoming, open(target, "wb") as outgoing:
        subprocess.run([str(crypt_sh), how], stdin=incoming, stdout=outgoing, check=True)


def read(path):
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file if line.strip()]


def each(work, items):
    """Runs in several threads; the first failure ends it all."""
    with concurrent.futures.ThreadPoolExecutor(JOBS) as pool:
        futures = [pool.submit(work, item) for item in items]
        try:
            return [future.result() for future in futures]
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def backup(target, previous):
    known = {}
    if previous:
        known = {(entry[0], entry[1], entry[2], entry[3]): entry for entry in read(previous)}
    there = {key for key, *_ in store().list(BACKUPS, "objects/")}
    found = []
    for bucket in os.environ.get("BACKUP_OBJECT_BUCKETS", "").split():
        found += [(bucket, key, size, etag) for key, size, _, etag in source().list(bucket)]

    def copy(item):
        bucket, key, size, etag = item
        entry = known.get(item)
        if entry and blob(entry[4]) in there:
            return entry, 0
        with tempfile.TemporaryDirectory(dir=os.environ.get("BACKUP_WORK")) as folder:
            plain, sealed = os.path.join(folder, "plain"), os.path.join(folder, "sealed")
            try:
                digest, size, answer = source().get(bucket, key, plain)
            except s3.S3Error as error:
                if error.status == 404:
                    return None, 0  # deleted since it was listed
                raise
            entry = [bucket, key, size, etag, digest, answer.getheader("Content-Type"), answer.getheader("Cache-Control")]
            if blob(digest) in there:
                return entry, 0
            crypt("encrypt", plain, sealed)
            store().put(sealed, BACKUPS, blob(digest))
            return entry, size

    done = each(copy, found)
    with open(target, "w", encoding="utf-8") as file:
        for entry, _ in done:
            if entry:
                file.write(json.dumps(entry) + "\n")
    copied = [size for entry, size in done if entry and size]
    print(f"{sum(1 for entry, _ in done if entry)} objects, {len(copied)} copied, {sum(copied)} bytes")


def fetch(entry, folder):
    sealed, plain = os.path.join(folder, "sealed"), os.path.join(folder, "plain")
    store().get(BACKUPS, blob(entry[4]), sealed)
    crypt("decrypt", sealed, plain)
    if s3.sha256_of(plain) != entry[4]:
        raise s3.S3Error(f"the copy of {entry[0]}/{entry[1]} is damaged")
    return plain


def restore(path, force):
    def put_back(entry):
        bucket, key, size, etag, digest, kind, cache = entry
        there = source().head(bucket, key)
        if there is not None:
            same = there[1] == digest or (there[1] is None and there[0] == size and (there[2].getheader("ETag") or "").strip('"') == etag)
            if same:
                return "there"
            if not force:
                return "other"
        with tempfile.TemporaryDirectory(dir=os.environ.get("BACKUP_WORK")) as folder:
            headers = {name: value for name, value in (("content-type", kind), ("cache-control", cache)) if value}
            source().put(fetch(entry, folder), bucket, key, headers)
        return "restored"

    done = each(put_back, read(path))
    print(f"objects: {done.count('restored')} restored, {done.count('there')} were there, {done.count('other')} left with other content")
    return 1 if "other" in done else 0


def verify(path):
    def look(digest_and_entry):
        with tempfile.TemporaryDirectory(dir=os.environ.get("BACKUP_WORK")) as folder:
            fetch(digest_and_entry[1], folder)

    contents = {entry[4]: entry for entry in read(path)}
    each(look, contents.items())
    print(f"objects: {len(contents)} contents are whole")


def main(arguments):
    match arguments:
        case ["backup", target]:
            backup(target, None)
        case ["backup", target, previous]:
            backup(target, previous)
        case ["restore", path]:
            return restore(path, False)
        case ["restore", path, "--force"]:
            return restore(path, True)
        case ["verify", path]:
            verify(path)
        case _:
            print(__doc__, file=sys.stderr)
            return 2
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except (s3.S3Error, OSError, subprocess.CalledProcessError) as error:
        print(f"objects: {error}", file=sys.stderr)
        sys.exit(1)
