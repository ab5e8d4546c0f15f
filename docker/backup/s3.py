#!/usr/bin/env python3
"""A small client of S3 with nothing but the standard library: what a backup needs, and checks of every byte it moves.

    s3.py put FILE KEY [PLAIN]  store a file; its SHA-256 travels with it, and so does PLAIN, that of its content before encryption
    s3.py get KEY FILE         fetch it; FILE is there only if every byte arrived
    s3.py list [PREFIX]        key, size and time, separated by tabs
    s3.py head KEY             size, SHA-256 and PLAIN; 1 if there is no such object
    s3.py delete KEY...

Environment: S3_ENDPOINT, S3_REGION (us-east-1), S3_ACCESS_KEY[_FILE], S3_SECRET_KEY[_FILE], BACKUP_S3_BUCKET. contract: operations D-07
"""

import datetime
import hashlib
import hmac
import http.client
import os
import sys
import time
import urllib.parse
import xml.etree.ElementTree as ElementTree

PART = int(os.environ.get("S3_PART_BYTES", 32 << 20))  # S3 allows 10,000 parts
TRIES = int(os.environ.get("S3_TRIES", 4))


class S3Error(Exception):
    """The store said no, or said nothing."""

    def __init__(self, text, status=0):
        super().__init__(text)
        self.status = status


def setting(name, default=None):
    """A setting of the environment, or of the file that NAME_FILE names."""
    path = os.environ.get(name + "_FILE")
    if path:
        with open(path, encoding="utf-8") as file:
            return file.read().rstrip("\n")
    value = os.environ.get(name, default)
    if value is None:
        raise S3Error(f"{name} or {name}_FILE is missing")
    return value


def sha256_of(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


class Store:
    def __init__(self, prefix=""):
        """`prefix` names another store beside that of the backups: SOURCE_S3_ENDPOINT and so on."""
        address = urllib.parse.urlsplit(setting(prefix + "S3_ENDPOINT"))
        self.secure = address.scheme == "https"
        self.host = address.netloc
        self.region = setting(prefix + "S3_REGION", "us-east-1")
        self.access_key = setting(prefix + "S3_ACCESS_KEY")
        self.secret_key = setting(prefix + "S3_SECRET_KEY")
        self.connection = None

    def connect(self):
        kind = http.client.HTTPSConnection if self.secure else http.client.HTTPConnection
        self.connection = kind(self.host, timeout=60)

    def sign(self, method, path, query, headers, payload):
        """AWS Signature Version 4."""
        now = datetime.datetime.now(datetime.timezone.utc)
        stamp, day = now.strftime("%Y%m%dT%H%M%SZ"), now.strftime("%Y%m%d")
        headers = {**headers, "host": self.host, "x-amz-date": stamp, "x-amz-content-sha256": payload}
        names = ";".join(sorted(headers))
        lines = "".join(f"{name}:{' '.join(str(headers[name]).split())}\n" for name in sorted(headers))
        canonical = "\n".join([method, path, query, lines, names, payload])
        scope = f"{day}/{self.region}/s3/aws4_request"
        text = "\n".join(["AWS4-HMAC-SHA256", stamp, scope, hashlib.sha256(canonical.encode()).hexdigest()])
        key = ("AWS4" + self.secret_key).encode()
        for part in (day, self.region, "s3", "aws4_request"):
            key = hmac.new(key, part.encode(), hashlib.sha256).digest()
        signature = hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
        headers["authorization"] = (
            f"AWS4-HMAC-SHA256 Credential={self.access_key}/{scope}, SignedHeaders={names}, Signature={signature}"
        )
        return headers

    def call(self, method, bucket, key="", query=(), body=b"", headers=None, sink=None):
        """One request, tried again where that can help. Returns the response and its body; `sink` takes the body instead."""
        path = urllib.parse.quote(f"/{bucket}/{key}" if key else f"/{bucket}", safe="/-_.~")
        pairs = sorted((urllib.parse.quote(str(a), safe="-_.~"), urllib.parse.quote(str(b), safe="-_.~")) for a, b in query)
        query_text = "&".join(f"{a}={b}" for a, b in pairs)
        payload = hashlib.sha256(body).hexdigest()
        said = "no answer"
        for attempt in range(TRIES):
            if attempt:
                time.sleep(min(8, 0.5 * 2**attempt))
            try:
                if self.connection is None:
                    self.connect()
                signed = self.sign(method, path, query_text, dict(headers or {}), payload)
                target = path + ("?" + query_text if query_text else "")
                self.connection.request(method, target, body=body if body or method in ("PUT", "POST") else None, headers=signed)
                answer = self.connection.getresponse()
                if answer.status < 300 and sink is not None:
                    sink(answer)
                    return answer, b""
                content = answer.read()
            except (OSError, http.client.HTTPException) as error:
                said = str(error) or type(error).__name__
                self.connection = None
                continue
            if answer.status < 300:
                return answer, content
            said = f"{answer.status} {self.reason(content)}".strip()
            if answer.status < 500 and answer.status != 429:
                raise S3Error(f"{method} {bucket}/{key}: {said}", answer.status)
        raise S3Error(f"{method} {bucket}/{key}: {said}")

    @staticmethod
    def reason(content):
        try:
            return next((node.text for node in ElementTree.fromstring(content).iter() if node.tag.endswith("Code")), "")
        except ElementTree.ParseError:
            return ""

    def put(self, path, bucket, key, headers=None):
        digest = sha256_of(path)
        size = os.path.getsize(path)
        headers = {**(headers or {}), "x-amz-meta-sha256": digest}
        for attempt in range(TRIES):
            if attempt:
                time.sleep(0.5 * 2**attempt)
            if size <= PART:
                with open(path, "rb") as file:
                    self.call("PUT", bucket, key, body=file.read(), headers=headers)
            else:
                try:
                    self.put_parts(path, bucket, key, headers)
                except S3Error as error:
                    # the answer to the last call was lost and the call repeated: then the upload is gone because it is done
                    if error.status != 404:
                        raise
            stored = self.head(bucket, key)
            if stored is not None and stored[:2] == (size, digest):
                return digest, size
        raise S3Error(f"{bucket}/{key} is not there as it was sent")

    def put_parts(self, path, bucket, key, headers):
        _, content = self.call("POST", bucket, key, [("uploads", "")], headers=headers)
        upload = next(node.text for node in ElementTree.fromstring(content).iter() if node.tag.endswith("UploadId"))
        try:
            parts = []
            with open(path, "rb") as file:
                while chunk := file.read(PART):
                    number = len(parts) + 1
                    answer, _ = self.call("PUT", bucket, key, [("partNumber", number), ("uploadId", upload)], body=chunk)
                    parts.append(answer.getheader("ETag"))
            body = "".join(f"<Part><PartNumber>{n}</PartNumber><ETag>{tag}</ETag></Part>" for n, tag in enumerate(parts, 1))
            document = f"<CompleteMultipartUpload>{body}</CompleteMultipartUpload>".encode()
            _, content = self.call("POST", bucket, key, [("uploadId", upload)], body=document)
            if b"<Error>" in content:
                raise S3Error(f"{bucket}/{key}: {self.reason(content)}")
        except BaseException:
            try:
                self.call("DELETE", bucket, key, [("uploadId", upload)])
            except S3Error:
                pass  # what matters is why the upload failed
            raise

    def head(self, bucket, key):
        """Size and SHA-256 (None if it travelled without), or None if there is no such object."""
        try:
            answer, _ = self.call("HEAD", bucket, key)
        except S3Error as error:
            if error.status == 404:
                return None
            raise
        return int(answer.getheader("Content-Length", 0)), answer.getheader("x-amz-meta-sha256"), answer

    def get(self, bucket, key, path):
        """Fetches an object; `path` is there only when it is whole. Returns its SHA-256, size and response."""
        part = f"{path}.part"
        result = {}

        def sink(answer):
            digest, size = hashlib.sha256(), 0
            with open(part, "wb") as file:
                while chunk := answer.read(1 << 20):
                    digest.update(chunk)
                    file.write(chunk)
                    size += len(chunk)
            length = answer.getheader("Content-Length")
            if length is not None and int(length) != size:
                raise http.client.IncompleteRead(b"", int(length) - size)
            result.update(sha256=digest.hexdigest(), size=size)

        try:
            answer, _ = self.call("GET", bucket, key, sink=sink)
            promised = answer.getheader("x-amz-meta-sha256")
            if promised and promised != result["sha256"]:
                raise S3Error(f"{bucket}/{key} is damaged: its SHA-256 is not the one it was stored with")
            os.replace(part, path)
        finally:
            if os.path.exists(part):
                os.remove(part)
        return result["sha256"], result["size"], answer

    def list(self, bucket, prefix=""):
        token = None
        while True:
            query = [("list-type", 2), ("prefix", prefix)] + ([("continuation-token", token)] if token else [])
            _, content = self.call("GET", bucket, query=query)
            root = ElementTree.fromstring(content)
            space = root.tag[: root.tag.index("}") + 1] if root.tag.startswith("{") else ""
            for node in root.findall(f"{space}Contents"):
                yield (
                    node.findtext(f"{space}Key"),
                    int(node.findtext(f"{space}Size")),
                    node.findtext(f"{space}LastModified"),
                    (node.findtext(f"{space}ETag") or "").strip('"'),
                )
            token = root.findtext(f"{space}NextContinuationToken")
            if root.findtext(f"{space}IsTruncated") != "true" or not token:
                return

    def delete(self, bucket, key):
        self.call("DELETE", bucket, key)


def main(arguments):
    if not arguments or arguments[0] in ("--help", "-h"):
        print(__doc__)
        return 0 if arguments else 2
    verb, *rest = arguments
    store, bucket = Store(), os.environ.get("BACKUP_S3_BUCKET", "dreamscape-backups")
    if verb == "put" and len(rest) in (2, 3):
        store.put(rest[0], bucket, rest[1], {"x-amz-meta-plain-sha256": rest[2]} if rest[2:] else None)
    elif verb == "get" and len(rest) == 2:
        store.get(bucket, rest[0], rest[1])
    elif verb == "list" and len(rest) <= 1:
        for key, size, modified, _ in store.list(bucket, *rest):
            print(key, size, modified, sep="\t")
    elif verb == "head" and len(rest) == 1:
        found = store.head(bucket, rest[0])
        if found is None:
            return 1
        print(found[0], found[1] or "-", found[2].getheader("x-amz-meta-plain-sha256") or "-", sep="\t")
    elif verb == "delete" and rest:
        for key in rest:
            store.delete(bucket, key)
    else:
        print(__doc__, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except (S3Error, OSError) as error:
        print(f"s3: {error}", file=sys.stderr)
        sys.exit(1)
