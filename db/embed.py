# SPDX-License-Identifier: Apache-2.0
"""Writes a text file as a C array: embed.py NAME INPUT OUTPUT (a string constant may be too long for ISO C)"""
import sys

name, source, target = sys.argv[1:]
with open(source, "rb") as f, open(target, "w") as out:
    data = f.read() + b"\0"
    out.write(f"extern const char {name}[];\nconst char {name}[] = {{\n")
    for i in range(0, len(data), 20):
        out.write("\t" + ", ".join(str(b if b < 128 else b - 256) for b in data[i:i + 20]) + ",\n")
    out.write("};\n")
