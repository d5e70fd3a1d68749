# SPDX-License-Identifier: Apache-2.0
"""page.py SUPERVISE SCDOC INPUT OUTPUT: a manual page from scdoc text, with sections that the program itself knows."""
import re
import subprocess
import sys

supervise, scdoc, source, target = sys.argv[1:]
with open(source, encoding="utf-8") as f:
    text = f.read()


def section(match):
    out = subprocess.run([supervise, "__manual", match.group(1)], check=True, capture_output=True)
    return out.stdout.decode()


text = re.sub(r"^@([a-z-]+)@\n", section, text, flags=re.M)
page = subprocess.run([scdoc], input=text.encode(), check=True, capture_output=True).stdout

# scdoc puts paragraphs where roff has them anyway; what is left for mandoc -Tlint to say is worth reading
lines = page.decode().splitlines()
kept = []
for i, line in enumerate(lines):
    after = next((x for x in lines[i + 1:] if x), ".SH")
    before = kept[-1] if kept else ".SH"
    if line == ".P" and (after[:3] in (".P", ".SH", ".SS", ".RS", ".RE") or before[:3] in (".P", ".TH", ".SH", ".SS")):
        continue
    kept.append(line)
with open(target, "w", encoding="utf-8") as f:
    f.write("\n".join(kept) + "\n")
