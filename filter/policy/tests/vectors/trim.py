#!/usr/bin/env python3
"""Makes wycheproof/*.json of a checkout of Project Wycheproof: ./trim.py <checkout>

Kept of each test: its number, its comment, what is verified and the published result. Kept of each
group: the public key as a JWK (the secret for HMAC). Bytes become base64url, which takes two thirds
of the room that hex takes. Nothing is left out but what the README lists.
"""

import base64
import json
import pathlib
import sys

# Files of raw signatures, and the algorithm of RFC 7518 or RFC 8037 that each is about.
RAW = {
    "rsa_signature_2048_sha256": "RS256",
    "rsa_signature_3072_sha256": "RS256",
    "rsa_signature_4096_sha256": "RS256",
    "rsa_signature_2048_sha384": "RS384",
    "rsa_signature_3072_sha384": "RS384",
    "rsa_signature_4096_sha384": "RS384",
    "rsa_signature_2048_sha512": "RS512",
    "rsa_signature_3072_sha512": "RS512",
    "rsa_signature_4096_sha512": "RS512",
    "rsa_pss_2048_sha256_mgf1_32": "PS256",
    "rsa_pss_3072_sha256_mgf1_32": "PS256",
    "rsa_pss_4096_sha256_mgf1_32": "PS256",
    "rsa_pss_2048_sha384_mgf1_48": "PS384",
    "rsa_pss_4096_sha384_mgf1_48": "PS384",
    "rsa_pss_4096_sha512_mgf1_64": "PS512",
    "ecdsa_secp256r1_sha256_p1363": "ES256",
    "ecdsa_secp384r1_sha384_p1363": "ES384",
    "ed25519": "EdDSA",
    "hmac_sha256": "HS256",
    "hmac_sha384": "HS384",
    "hmac_sha512": "HS512",
}
# Files of JSON Web Signatures.
JWS = ["json_web_signature", "json_web_key", "json_web_crypto"]


def base64url(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def of_hex(text):
    return base64url(bytes.fromhex(text))


def public_jwk(group):
    """The key of a group of raw signatures. Its RSA keys and curves have a JWK of their own, but
    for a few points, of which only the coordinates are given."""
    jwk = group.get("publicKeyJwk") or group.get("keyJwk")
    if jwk:
        return jwk
    point = bytes.fromhex(group["publicKey"]["uncompressed"])
    assert point[0] == 4
    half = (len(point) - 1) // 2
    curve = {"secp256r1": "P-256", "secp384r1": "P-384"}[group["publicKey"]["curve"]]
    return {"kty": "EC", "crv": curve, "x": base64url(point[1 : 1 + half]), "y": base64url(point[1 + half :])}


def raw_groups(groups):
    for group in groups:
        by_key = {}
        for test in group["tests"]:
            jwk = {"kty": "oct", "k": of_hex(test["key"])} if "key" in test else public_jwk(group)
            by_key.setdefault(json.dumps(jwk), []).append(
                {
                    "id": test["tcId"],
                    "comment": test["comment"],
                    "result": test["result"],
                    "message": of_hex(test["msg"]),
                    "signature": of_hex(test["sig"] if "sig" in test else test["tag"]),
                }
            )
        for jwk, tests in by_key.items():
            yield {"keys": [json.loads(jwk)], "tests": tests}


def jws_groups(groups):
    for group in groups:
        key = group.get("public") or group["private"]
        tests = [
            {
                "id": test["tcId"],
                "comment": f"{group['comment']}: {test['comment']}",
                "result": test["result"],
                "jws": test["jws"] if isinstance(test["jws"], str) else json.dumps(test["jws"]),
            }
            for test in group["tests"]
            if "jws" in test
        ]
        if tests:
            yield {"keys": key.get("keys", [key]), "tests": tests}


def write(name, algorithm, groups):
    """One line per group and per test, so that a change of one shows as such."""
    groups = list(groups)
    with open(pathlib.Path(__file__).parent / "wycheproof" / f"{name}.json", "w") as file:
        file.write("{%s" % (f'"algorithm": "{algorithm}", ' if algorithm else ""))
        file.write('"groups": [\n')
        for place, group in enumerate(groups):
            file.write('{"keys": %s, "tests": [\n' % json.dumps(group["keys"]))
            file.write(",\n".join(json.dumps(test, ensure_ascii=False) for test in group["tests"]))
            file.write("\n]}" + (",\n" if place + 1 < len(groups) else "\n"))
        file.write("]}\n")


def main():
    source = pathlib.Path(sys.argv[1]) / "testvectors_v1"
    for name, algorithm in RAW.items():
        groups = json.loads((source / f"{name}_test.json").read_text())["testGroups"]
        write(name, algorithm, raw_groups(groups))
    for name in JWS:
        groups = json.loads((source / f"{name}_test.json").read_text())["testGroups"]
        write(name, None, jws_groups(groups))


main()
