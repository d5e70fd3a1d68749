# SPDX-License-Identifier: Apache-2.0
"""A temporary project with the real programs, for integration tests.

A test script defines functions test_NAME(project) and ends with `harness.main()`. Each function gets a fresh Project; its
name, with spaces for underscores, is the TAP line. Whatever it started is gone afterwards, also when it fails.
"""
import glob
import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
import traceback

BIN = os.environ.get("SUPERVISE_BIN", "supervise")
FIXTURES = os.environ.get("SUPERVISE_FIXTURES", "")
SCALE = float(os.environ.get("SUPERVISE_TEST_SCALE", "1"))  # sanitizers are slow


class Failure(AssertionError):
    pass


def wait_until(condition, what, timeout=20.0):
    """Calls condition() until it is true; returns its value. Fails with `what` after timeout (scaled) seconds."""
    end = time.monotonic() + timeout * SCALE
    pause = 0.002
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise Failure(f"waited {timeout * SCALE:.0f} s for: {what() if callable(what) else what}")
        time.sleep(pause)
        pause = min(pause * 1.5, 0.05)


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as f:
            return f.read().rsplit(")", 1)[1].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def environ(pid):
    try:
        with open(f"/proc/{pid}/environ", "rb") as f:
            return dict(e.split(b"=", 1) for e in f.read().split(b"\0") if b"=" in e)
    except OSError:
        return {}


class Project:
    def __init__(self, name="t"):
        self.name = name
        self.dir = tempfile.mkdtemp(prefix="sv-", dir="/tmp")
        self.env = {k: v for k, v in os.environ.items() if not k.startswith(("SUPERVISE_", "XDG_"))}
        for key in ("SUPERVISE_LIBEXEC",):
            if key in os.environ:
                self.env[key] = os.environ[key]
        self.env.update(
            HOME=self.dir, XDG_STATE_HOME=f"{self.dir}/state", XDG_CONFIG_HOME=f"{self.dir}/config",
            SUPERVISE_RUNTIME_DIR=f"{self.dir}/run", LC_ALL="C.UTF-8", TZ="UTC", NO_COLOR="1", PAGER="cat")
        self.file = f"{self.dir}/supervise.yaml"
        self.runtime = f"{self.dir}/run/{name}"

    @property
    def state(self):
        return glob.glob(f"{self.dir}/state/supervise/{self.name}/*")[0]

    def write(self, path, text, mode=0o644):
        path = os.path.join(self.dir, path)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w") as f:
            f.write(text)
        os.chmod(path, mode)
        return path

    def config(self, daemons, **top):
        """Writes supervise.yaml (JSON is YAML)."""
        data = {"version": 1, "name": self.name, "monitoring": {"log_flush_interval": 1}, "daemons": daemons}
        data.update(top)
        self.write("supervise.yaml", json.dumps(data, indent=1))

    # --- commands

    def run(self, *args, code=0, timeout=60, stdin=None, env=None):
        """Runs `supervise -c FILE ARGS`; fails unless it ends with `code` (None: any). Returns the CompletedProcess."""
        argv = [BIN]
        if os.path.exists(self.file) and (not args or args[0] not in ("run", "-c", "-p")):
            argv += ["-c", self.file]
        p = subprocess.run(argv + list(args), cwd=self.dir, env={**self.env, **(env or {})}, text=True, errors="replace",
                           stdin=stdin or subprocess.DEVNULL, capture_output=True, timeout=timeout * SCALE)
        if code is not None and p.returncode != code:
            raise Failure(f"supervise {' '.join(args)} ended with {p.returncode}, not {code}\n"
                          f"stdout: {p.stdout}\nstderr: {p.stderr}")
        return p

    def json(self, *args, **kw):
        return json.loads(self.run(*args, "--json", **kw).stdout)

    def ndjson(self, *args, **kw):
        return [json.loads(line) for line in self.run(*args, "--json", **kw).stdout.splitlines()]

    def status(self):
        """Daemons by name, as `status --json` shows them."""
        return {d["name"]: d for d in self.json("status", code=None)["daemons"]}

    def daemon(self, name):
        return self.status()[name]

    def wait_state(self, name, *states, timeout=20):
        last = {}

        def look():
            last.update(self.daemon(name))
            return last if last["state"] in states else None

        return dict(wait_until(look, lambda: f"{name} {' or '.join(states)}, it is {last.get('state')}: {last}", timeout))

    # --- files

    def registry(self):
        with open(f"{self.runtime}/registry.json") as f:
            return json.load(f)

    def pid_of(self, name):
        """PID file of a daemon, or of keeper, supervisor, logger, writer; 0 when there is none."""
        for path in (f"{self.runtime}/pid/{name.replace('/', '@')}.pid", f"{self.runtime}/{name}.pid"):
            try:
                with open(path) as f:
                    return int(f.read())
            except (FileNotFoundError, ValueError):
                continue
        return 0

    def log_lines(self, name):
        """Records of STATE/log/NAME.log and its rotated parts, oldest first (format json)."""
        base = f"{self.state}/log/{name.replace('/', '@')}.log"
        out = []
        for path in sorted(glob.glob(base + ".*")) + [base]:
            if not os.path.exists(path) or path.endswith((".tmp", ".part")):
                continue
            if path.endswith(".zst"):
                data = subprocess.run(["zstd", "-dcq", path], capture_output=True, check=True).stdout
            else:
                with open(path, "rb") as f:
                    data = f.read()
            # the end of the open file may be a line that is just being written
            for line in data[:data.rfind(b"\n") + 1].split(b"\n"):
                if line:
                    out.append(json.loads(line))
        return out

    def reports(self):
        out = []
        for path in sorted(glob.glob(f"{self.state}/crash/*.json")):
            with open(path) as f:
                out.append(json.load(f))
        return out

    def sql(self, query, *args):
        """Rows of the embedded store, read only; [] while there is none."""
        path = f"{self.state}/supervise.db"
        if not os.path.exists(path):
            return []
        db = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10)
        try:
            return db.execute(query, args).fetchall()
        except sqlite3.OperationalError as e:
            if "no such table" in str(e) or "locked" in str(e):
                return []
            raise
        finally:
            db.close()

    def log_text(self):
        try:
            with open(f"{self.state}/supervise.log", errors="replace") as f:
                return f.read()
        except (IndexError, FileNotFoundError):
            return ""

    # --- processes

    def processes(self):
        """pid -> command of every living process of this project: ours and the daemons' trees."""
        out = {}
        for entry in os.listdir("/proc"):
            if not entry.isdigit() or int(entry) == os.getpid():
                continue
            try:
                with open(f"/proc/{entry}/cmdline", "rb") as f:
                    cmdline = f.read().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            # whatever the project is called: `supervise run` has one of its own
            ours = environ(int(entry)).get(b"SUPERVISE_RUNTIME", b"").decode().startswith(f"{self.dir}/")
            if (ours or f"{self.dir}/run/" in cmdline) and alive(int(entry)):
                out[int(entry)] = cmdline
        return out

    def assert_nothing_left(self):
        wait_until(lambda: not self.processes(), lambda: f"no process left: {self.processes()}", 10)

    def cleanup(self, at_once=False):
        if os.path.exists(self.runtime) and not at_once:
            try:
                subprocess.run([BIN, "-p", self.name, "down"], cwd=self.dir, env=self.env, stdin=subprocess.DEVNULL,
                               capture_output=True, timeout=30)
            except subprocess.TimeoutExpired:
                pass
        for _ in range(50):
            left = self.processes()
            if not left:
                break
            for pid in left:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            time.sleep(0.02)
        shutil.rmtree(self.dir, ignore_errors=True)


def kill9(pid):
    os.kill(pid, signal.SIGKILL)


def equal(got, expected, what=""):
    if got != expected:
        raise Failure(f"{what or 'value'}: got {got!r}, expected {expected!r}")


def check(condition, what):
    if not condition:
        raise Failure(what)


def numbers(lines, pattern=r"line (\d+)"):
    """The numbers that a daemon printed, in the order of the records."""
    found = [re.search(pattern, line["message"]) for line in lines]
    return [int(m.group(1)) for m in found if m]


def assert_each_once(got, first=0):
    """Every number from first on exactly once and in order."""
    expected = list(range(first, first + len(got)))
    if got != expected:
        missing = sorted(set(range(first, max(got) + 1)) - set(got))[:10] if got else []
        doubled = sorted({n for n in got if got.count(n) > 1})[:10] if len(got) < 100000 else []
        raise Failure(f"{len(got)} lines; missing {missing}, doubled {doubled}, in order: {sorted(got) == got}")


def main():
    module = sys.modules["__main__"]
    tests = [(n, f) for n, f in vars(module).items() if n.startswith("test_") and callable(f)]
    if len(sys.argv) > 1:
        tests = [(n, f) for n, f in tests if any(a in n for a in sys.argv[1:])]
    print(f"1..{len(tests)}", flush=True)
    failed = 0
    for i, (name, fn) in enumerate(tests, 1):
        project = Project()
        signal.signal(signal.SIGTERM, lambda *_: (project.cleanup(at_once=True), os._exit(1)))  # meson's timeout
        title = name[5:].replace("_", " ")
        try:
            fn(project)
            print(f"ok {i} - {title}", flush=True)
        except Exception:
            failed += 1
            print(f"not ok {i} - {title}", flush=True)
            for line in traceback.format_exc().splitlines():
                print(f"# {line}", flush=True)
            for line in project.log_text().splitlines()[-40:]:
                print(f"# log: {line}", flush=True)
        finally:
            project.cleanup()
    sys.exit(1 if failed else 0)
