#!/usr/bin/env python3
"""The S3 server of the test stack, in the place of MinIO: moto's, in memory, for any account. It is asked for its health as MinIO is.

Usage: s3.py      (port 9000; moto's own settings)
"""
import logging

from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import run_simple

logging.getLogger("werkzeug").setLevel(logging.WARNING)
server = DomainDispatcherApplication(create_backend_app)


def answer(environ, start_response):
    """Health, or S3."""
    if environ["PATH_INFO"] == "/minio/health/live":
        start_response("200 OK", [("Content-Length", "0")])
        return [b""]
    return server(environ, start_response)


run_simple("0.0.0.0", 9000, answer, threaded=True)
