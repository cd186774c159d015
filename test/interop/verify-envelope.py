"""Verifies signed envelopes with nothing of ours: the DSSE specification and python3-cryptography.

verify-envelope.py PUBLIC_KEY ARTIFACT_SHA256 ENVELOPE: prints the attested ids, a line each; exits 1 if it does not hold.
"""
import base64
import json
import sys

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_public_key


def main(key_path: str, sha256: str, envelope_path: str) -> int:
    with open(key_path, "rb") as file:
        key = load_pem_public_key(file.read())
    with open(envelope_path, encoding="utf-8") as file:
        envelope = json.load(file)
    payload = base64.b64decode(envelope["payload"], validate=True)
    kind = envelope["payloadType"].encode()
    signed = b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)
    try:
        signature = base64.b64decode(envelope["signatures"][0]["sig"], validate=True)
        key.verify(signature, signed, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        print("the signature is wrong", file=sys.stderr)
        return 1
    statement = json.loads(payload)
    if statement["_type"] != "https://in-toto.io/Statement/v1":
        print("this is no in-toto statement", file=sys.stderr)
        return 1
    if sha256 not in [subject["digest"]["sha256"] for subject in statement["subject"]]:
        print("it is about another artifact", file=sys.stderr)
        return 1
    for image in statement["predicate"]["images"]:
        print(image["cloud"], image["region"], image["id"])
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
