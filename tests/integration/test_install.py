# SPDX-License-Identifier: Apache-2.0
"""What `meson install` puts somewhere works from there, and nothing of the build folder is needed."""
import os
import subprocess

from harness import check, equal, main

BUILD = os.environ["SUPERVISE_BUILD"]
PREFIX = os.environ["SUPERVISE_PREFIX"]


def install(p):
    r = subprocess.run(["meson", "install", "-C", BUILD, "--no-rebuild", "--quiet", "--destdir", f"{p.dir}/dest"],
                       stdin=subprocess.DEVNULL, capture_output=True, text=True)
    equal(r.returncode, 0, f"meson install: {r.stdout}{r.stderr}")
    return f"{p.dir}/dest{PREFIX}"


def call(p, *argv, **kw):
    return subprocess.run(argv, cwd=p.dir, env=p.env, stdin=subprocess.DEVNULL, capture_output=True, text=True, **kw)


def test_an_installed_supervise_finds_its_helpers(p):
    top = install(p)
    r = call(p, f"{top}/bin/supervise", "version")
    equal(r.returncode, 0, r.stderr)
    r = call(p, f"{top}/bin/supervise", "run", "--", "sh", "-c", "echo from there; exit 7")
    equal(r.returncode, 7, r.stderr)
    check("from there" in r.stdout, r)
    r = call(p, f"{top}/bin/supervise", "run", "--", "true")
    equal(r.returncode, 0, r.stderr)


def test_nothing_installed_names_the_build_folder(p):
    top = install(p)
    for folder, _, files in os.walk(top):
        for name in files:
            r = subprocess.run(["readelf", "-d", f"{folder}/{name}"], capture_output=True, text=True)
            check("RUNPATH" not in r.stdout and "RPATH" not in r.stdout, f"{name} has no run path")


def test_pkg_config_knows_the_folders(p):
    top = install(p)
    env = {**p.env, "PKG_CONFIG_PATH": f"{top}/share/pkgconfig"}
    for name, expected in (("prefix", PREFIX), ("libexecdir", f"{PREFIX}/libexec/supervise"), ("bindir", f"{PREFIX}/bin")):
        r = subprocess.run(["pkg-config", f"--variable={name}", "supervise"], env=env, capture_output=True, text=True)
        equal(r.stdout.strip(), expected, name + r.stderr)


def test_manual_and_completion_are_installed(p):
    top = install(p)
    have = {os.path.relpath(os.path.join(d, f), top) for d, _, files in os.walk(top) for f in files}
    for wanted in ("share/bash-completion/completions/supervise", "share/zsh/site-functions/_supervise",
                   "share/fish/vendor_completions.d/supervise.fish", "share/man/man1/supervise.1",
                   "share/man/man5/supervise.yaml.5", "share/man/man5/supervise-crash.5"):
        check(wanted in have, f"{wanted} is installed: {sorted(have)}")


main()
