"""Verifies a signed HTTP request with PyPI's http-message-signatures, RFC 9421 by others.

verify_request.py KEY METHOD URL BODY HEADER=VALUE...

Ends with an error if the signature is not that of the key in the PEM file KEY, or does not cover what ours must.
"""

import base64
import datetime
import hashlib
import sys

import requests
from http_message_signatures import HTTPMessageVerifier, HTTPSignatureKeyResolver, algorithms

key, method, url, body, *headers = sys.argv[1:]


class Resolver(HTTPSignatureKeyResolver):
    def resolve_public_key(self, key_id):
        return open(key, "rb").read()


request = requests.Request(method, url, dict(header.split("=", 1) for header in headers), data=body).prepare()
verifier = HTTPMessageVerifier(signature_algorithm=algorithms.ECDSA_P256_SHA256, key_resolver=Resolver())
(result,) = verifier.verify(request, max_age=datetime.timedelta(minutes=5))
covered = {name.strip('"') for name in result.covered_components}
# RFC 9530; the library leaves the content to its caller.
digest = base64.b64encode(hashlib.sha256(body.encode()).digest()).decode()
assert request.headers["content-digest"] == f"sha-256=:{digest}:"
assert {"@method", "@path", "@query", "content-digest"} <= covered, covered
