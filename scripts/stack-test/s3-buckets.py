#!/usr/bin/env python3
"""Makes the buckets of the platform in the S3 server of the test stack. Usage: s3-buckets.py BUCKET... (MINIO_ENDPOINT, and its keys)"""
import os
import pathlib
import sys
import time

import boto3
import botocore.exceptions

keys = [pathlib.Path(os.environ[name]).read_text(encoding="utf-8").strip() for name in ("MINIO_ROOT_USER_FILE", "MINIO_ROOT_PASSWORD_FILE")]
s3 = boto3.client("s3", endpoint_url=os.environ["MINIO_ENDPOINT"], region_name="us-east-1", aws_access_key_id=keys[0], aws_secret_access_key=keys[1])
for _ in range(60):
    try:
        known = {bucket["Name"] for bucket in s3.list_buckets()["Buckets"]}
        break
    except botocore.exceptions.BotoCoreError:
        time.sleep(1)
else:
    sys.exit("the server does not answer")
for name in sys.argv[1:]:
    if name not in known:
        s3.create_bucket(Bucket=name)
print("buckets:", *sys.argv[1:])
