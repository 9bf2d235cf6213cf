"""Has schemathesis sign what it sends, by PyPI's http-message-signatures: SCHEMATHESIS_HOOKS names this file, FLYWHEEL_KEY a key."""

import base64
import datetime
import hashlib
import os

import schemathesis
from cryptography.hazmat.primitives import serialization
from http_message_signatures import HTTPMessageSigner, HTTPSignatureKeyResolver, algorithms
from requests.auth import AuthBase

with open(os.environ["FLYWHEEL_KEY"], "rb") as file:
    PRIVATE = file.read()
PUBLIC = serialization.load_pem_private_key(PRIVATE, None).public_key()
PEM = PUBLIC.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
KEY_ID = hashlib.sha256(PEM).hexdigest()


class Resolver(HTTPSignatureKeyResolver):
    def resolve_private_key(self, key_id):
        return PRIVATE


SIGNER = HTTPMessageSigner(signature_algorithm=algorithms.ECDSA_P256_SHA256, key_resolver=Resolver())
COMPONENTS = ("@method", "@path", "@query", "content-digest")


class Signed(AuthBase):
    def __call__(self, request):
        body = request.body or b""
        body = body.encode() if isinstance(body, str) else body
        digest = base64.b64encode(hashlib.sha256(body).digest()).decode()
        request.headers["content-digest"] = f"sha-256=:{digest}:"
        now = datetime.datetime.now()
        SIGNER.sign(
            request, key_id=KEY_ID, created=now, label="sig", covered_component_ids=COMPONENTS, use_existing_digest=True
        )
        return request


schemathesis.auth.set_from_requests(Signed())
