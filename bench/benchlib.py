# SPDX-License-Identifier: Apache-2.0
"""What the scripts in bench/ share: the tools under test behind one interface, and measuring processes.

A script runs every tool as the same ordinary user, in one run, inside a Scope (scope.c), which takes the place of init
and leaves nothing behind. A tool gets the same services and, where it can, captures their output.
"""
import argparse
import fcntl
import glob
import json
import os
import platform
import pwd
import re
import resource
import select
import shlex
import shutil
import signal
import sqlite3
import struct
import subprocess
import sys
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
USER = "supervise-test"
MIB = 1024 * 1024


# --- the command line of a script ---------------------------------------------------------------------------------------


def parse(description, n, n_help, more=None):
    """Options that every script has. For root, comes back only in a copy of the script that is an ordinary user's."""
    p = argparse.ArgumentParser(description=description)
    p.add_argument("--tool", default="", metavar="A,B", help="of: " + ", ".join(TOOLS) + " (default: all)")
    p.add_argument("--n", type=int, default=n, help=f"{n_help} (default {n})")
    p.add_argument("--json", action="store_true", help="JSON instead of a table")
    p.add_argument("--supervise", metavar="PATH", help="the program to measure (default: $SUPERVISE_BIN, build*/, $PATH)")
    p.add_argument("--user", default=USER, help=f"ordinary user to become, for root (default {USER}; made if need be)")
    p.add_argument("--realtime", action="store_true", help="for root: everything measured runs under SCHED_FIFO, so that "
                   "other work on the machine is not measured too")
    p.add_argument("--keep", action="store_true", help="keep the folder with configurations and logs, and "
                   "say where it is")
    if more:
        more(p)
    args = p.parse_args()
    unknown = [t for t in args.tool.split(",") if t and t not in TOOLS]
    if unknown:
        p.error(f"no such tool: {', '.join(unknown)}; there are {', '.join(TOOLS)}")
    if os.geteuid() == 0:
        become_user(args)
    Supervise.binary = find_supervise(args)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by SIGTERM"))  # and so with everything cleaned up
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # the same for every tool
    return args


def become_user(args):
    """Replaces root by an ordinary user: a supervisor without root is not measured as root."""
    try:
        who = pwd.getpwnam(args.user)
    except KeyError:
        subprocess.run(["useradd", "--system", "--create-home", "--shell", "/bin/sh", args.user], check=True)
        who = pwd.getpwnam(args.user)
    drop = ["setpriv", "--reuid", str(who.pw_uid), "--regid", str(who.pw_gid), "--clear-groups"]
    script = os.path.abspath(sys.argv[0])
    if subprocess.run(drop + ["test", "-r", script]).returncode:
        sys.exit(f"{script} cannot be read by the user {args.user}; use tools/as-user, or a checkout that it can read")
    env = {"HOME": who.pw_dir, "USER": args.user, "LOGNAME": args.user, "LANG": "C.UTF-8",
           "TERM": os.environ.get("TERM", "dumb"),
           "PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"}
    binary = args.supervise or os.environ.get("SUPERVISE_BIN")
    if binary:
        env["SUPERVISE_BIN"] = os.path.abspath(binary)
    os.chdir("/")
    if args.realtime:
        drop = ["chrt", "--fifo", "1"] + drop
    os.execvpe(drop[0], drop + ["python3", "-B", script] + sys.argv[1:], env)


def find_supervise(args):
    found = glob.glob(os.path.join(HERE, "..", "build*", "supervise"))
    for path in [args.supervise, os.environ.get("SUPERVISE_BIN")] + sorted(found, key=os.path.getmtime)[::-1]:
        if path and os.access(path, os.X_OK):
            return os.path.abspath(path)
    return shutil.which("supervise")


def chosen(args):
    """Classes of the tools to measure; says which are left out."""
    names = [t for t in args.tool.split(",") if t] or list(TOOLS)
    out = []
    for name in names:
        why = TOOLS[name].missing()
        if why:
            print(f"{name}: skipped, {why}", file=sys.stderr)
        else:
            out.append(TOOLS[name])
    return out


# --- results ------------------------------------------------------------------------------------------------------------


def machine(tools):
    model = ""
    with open("/proc/cpuinfo") as f:
        for line in f:
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
                break
    system = ""
    try:
        with open("/etc/os-release") as f:
            system = dict(x.strip().split("=", 1) for x in f if "=" in x).get("PRETTY_NAME", "").strip('"')
    except OSError:
        pass
    return {"cpu": model, "cores": os.cpu_count(), "kernel": platform.release(), "system": system,
            "load": round(os.getloadavg()[0], 1), "realtime": os.sched_getscheduler(0) == os.SCHED_FIFO,
            "versions": {t.name: t.version() for t in tools}}


def machine_line(m):
    versions = ", ".join(f"{k} {v}" for k, v in m["versions"].items())
    return f"{m['cores']} x {m['cpu']}, Linux {m['kernel']}, {m['system']}; {versions}; load before: {m['load']}" + (
        "; all under SCHED_FIFO" if m["realtime"] else "")


def markdown(head, rows):
    """Aligned, so that it is a table for the eye too. The first column is text, the others numbers."""
    rows = [[str(c) for c in r] for r in [head] + rows]
    width = [max(len(r[i]) for r in rows) for i in range(len(head))]

    def line(r):
        return "| " + " | ".join(c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(r, width))) + " |"

    rule = "|" + "|".join("-" * (w + 2) if i == 0 else "-" * (w + 1) + ":" for i, w in enumerate(width)) + "|"
    return "\n".join([line(rows[0]), rule] + [line(r) for r in rows[1:]])


def report(args, title, tools, load, tables, notes, data):
    """tables: list of (head, rows). Prints it all; with --json the raw figures too."""
    m = machine(tools)
    m["load"] = load
    if args.json:
        json.dump({"title": title, "machine": m, "tables": tables, "notes": notes, "data": data}, sys.stdout, indent=1)
        print()
    else:
        print(f"# {title}\n")
        print(render(tables, notes))
        print(f"\nMeasured on {machine_line(m)}")


def render(tables, notes):
    out = "\n\n".join(markdown(head, rows) for head, rows in tables)
    return out + ("\n\n" + "\n".join("* " + n for n in notes) if notes else "")


def ratio(theirs, ours):
    """How many times theirs is ours."""
    if theirs is None or ours is None:
        return "-"
    if ours <= 0:
        return "1.0x" if theirs <= 0 else "inf"
    r = theirs / ours
    return f"{r:.0f}x" if r >= 100 else f"{r:.1f}x" if r >= 0.1 else f"{r:.2f}x"


def goal(text, met, got):
    return f"goal {text}: {'met' if met else 'MISSED'} ({got})"


def percentile(values, share):
    v = sorted(values)
    return v[min(len(v) - 1, int(len(v) * share))]


# --- processes ----------------------------------------------------------------------------------------------------------


class Process:
    __slots__ = ("pid", "ppid", "comm", "state")

    def __init__(self, pid, ppid, comm, state):
        self.pid, self.ppid, self.comm, self.state = pid, ppid, comm, state

    def name(self):
        """What a person would call it."""
        try:
            with open(f"/proc/{self.pid}/cmdline", "rb") as f:
                argv = f.read().decode(errors="replace").split("\0")
        except OSError:
            return self.comm
        if argv and "python" in os.path.basename(argv[0]) and len(argv) > 1:
            return os.path.basename(argv[1])
        return os.path.basename(argv[0]) or self.comm


def snapshot():
    """Every process of the system by pid."""
    out = {}
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            with open(f"/proc/{entry}/stat", "rb") as f:
                text = f.read().decode(errors="replace")
        except OSError:
            continue
        comm = text[text.index("(") + 1:text.rindex(")")]
        rest = text[text.rindex(")") + 2:].split()
        out[int(entry)] = Process(int(entry), int(rest[1]), comm, rest[0])
    return out


def below(root):
    """Living processes below root, root not included."""
    table = snapshot()
    children = {}
    for p in table.values():
        children.setdefault(p.ppid, []).append(p)
    out, todo = [], [root]
    while todo:
        for p in children.get(todo.pop(), []):
            todo.append(p.pid)
            if p.state not in "ZX":
                out.append(p)
    return out


def pss(pid):
    """(Pss, Private) in bytes; None once it is gone."""
    total = private = 0
    try:
        with open(f"/proc/{pid}/smaps_rollup", "rb") as f:
            for line in f:
                key, _, value = line.partition(b":")
                if key == b"Pss":
                    total = int(value.split()[0]) * 1024
                elif key in (b"Private_Clean", b"Private_Dirty"):
                    private += int(value.split()[0]) * 1024
    except OSError:
        return None
    return total, private


def switches(pids):
    """(pid, tid) -> (comm, voluntary + involuntary switches, ns on a CPU) of every thread."""
    out = {}
    for pid in pids:
        try:
            tids = os.listdir(f"/proc/{pid}/task")
        except OSError:
            continue
        for tid in tids:
            try:
                with open(f"/proc/{pid}/task/{tid}/status") as f:
                    status = f.read()
                with open(f"/proc/{pid}/task/{tid}/schedstat") as f:
                    ran = int(f.read().split()[0])
            except OSError:
                continue
            n = sum(int(x) for x in re.findall(r"ctxt_switches:\s+(\d+)", status))
            out[pid, int(tid)] = (re.search(r"Name:\s+(.*)", status).group(1), n, ran)
    return out


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as f:
            return f.read().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


def wait_until(condition, seconds, pause=0.01):
    """The value of condition() once it is true; its last value when the time is over."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value or time.monotonic() > end:
            return value
        time.sleep(pause)


# --- where it all happens -----------------------------------------------------------------------------------------------


class Bench:
    """A temporary folder with the compiled helpers; gone afterwards, with all Scopes and what runs in them."""

    def __init__(self, args):
        self.args = args
        self.dir = tempfile.mkdtemp(prefix="sv-bench-", dir="/tmp")
        os.chmod(self.dir, 0o700)
        self.scopes = []
        self.load = round(os.getloadavg()[0], 1)

    def __enter__(self):
        cc = shlex.split(os.environ.get("CC", "cc"))
        for name in ("stamp", "lines", "scope"):
            argv = cc + ["-O2", "-static", "-D_GNU_SOURCE", "-o", f"{self.dir}/{name}", f"{HERE}/{name}.c"]
            if not shutil.which(cc[0]) or subprocess.run(argv).returncode:
                self.__exit__()
                sys.exit("a C compiler is needed ($CC, default cc), with a static libc")
        return self

    def __exit__(self, *unused):
        for scope in self.scopes:
            scope.close()
        if self.args.keep:
            print(f"kept: {self.dir}", file=sys.stderr)
        else:
            shutil.rmtree(self.dir, ignore_errors=True)

    def program(self, name):
        return f"{self.dir}/{name}"

    def folder(self, name):
        path = tempfile.mkdtemp(prefix=name + "-", dir=self.dir)
        return path


class Scope:
    """What is started here ends here: see scope.c."""

    def __init__(self, bench, env, cwd):
        self.process = subprocess.Popen([bench.program("scope")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env,
                                        cwd=cwd)
        self.ended = {}  # pid -> wait status, of orphans too
        self.started = []
        self.news = threading.Condition()
        threading.Thread(target=self._listen, daemon=True).start()
        bench.scopes.append(self)

    def _listen(self):
        for line in self.process.stdout:
            words = line.split()
            with self.news:
                if words[0] == b"started":
                    self.started.append(int(words[1]))
                else:
                    self.ended[int(words[1])] = int(words[2])
                self.news.notify_all()

    def start(self, command):
        """Starts a shell command; returns its pid."""
        with self.news:
            n = len(self.started)
            self.process.stdin.write(command.encode() + b"\n")
            self.process.stdin.flush()
            if not self.news.wait_for(lambda: len(self.started) > n, 30):
                raise RuntimeError("scope does not answer")
            return self.started[n]

    def run(self, command, seconds=120):
        """Runs a shell command to its end; returns its exit code."""
        pid = self.start(command)
        with self.news:
            if not self.news.wait_for(lambda: pid in self.ended, seconds):
                raise RuntimeError(f"still running after {seconds} s: {command}")
            return os.waitstatus_to_exitcode(self.ended[pid])

    def below(self):
        return below(self.process.pid)

    def close(self):
        if self.process.poll() is None:
            self.process.stdin.close()
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.process.kill()


class Stamps:
    """The FIFO into which stamp.c says when it began to run."""

    def __init__(self, bench):
        self.path = tempfile.mktemp(prefix="stamps-", dir=bench.dir)
        os.mkfifo(self.path, 0o600)
        self.fd = os.open(self.path, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
        self.buffer = b""

    def read(self, seconds):
        """The stamps that come within so many seconds, as (ns, pid, id); [] when none did."""
        if len(self.buffer) < 16:
            if not select.select([self.fd], [], [], max(seconds, 0))[0]:
                return []
            self.buffer += os.read(self.fd, 65536)
        whole = len(self.buffer) // 16 * 16
        out = [struct.unpack_from("=QII", self.buffer, i) for i in range(0, whole, 16)]
        self.buffer = self.buffer[whole:]
        return out

    def close(self):
        os.close(self.fd)
        os.unlink(self.path)


# --- the tools ----------------------------------------------------------------------------------------------------------


def debian_version(package):
    p = subprocess.run(["dpkg-query", "-W", "-f", "${Version}", package], capture_output=True, text=True)
    return p.stdout.strip() or "of unknown version"


class Tool:
    """One supervisor with its services in a Scope of its own."""
    name = ""
    programs = ()
    own_logger = False  # a process per log

    def __init__(self, bench, services, log=True, ready_fd=False, record_exits=False):
        """services: name -> argv. ready_fd: tell s6 by its notification descriptor that a service is up. record_exits:
        have s6 and runit write down each exit code in a `finish` script, which costs them a shell before each restart."""
        self.bench, self.services, self.log = bench, services, log
        self.ready_fd, self.record_exits = ready_fd, record_exits
        self.dir = bench.folder(self.name)
        self.env = {k: os.environ[k] for k in ("PATH", "USER", "LOGNAME", "LANG") if k in os.environ}
        self.env.update(HOME=self.dir, TZ="UTC")
        self.scope = None
        self.prepare()

    @classmethod
    def missing(cls):
        gone = [p for p in cls.programs if not shutil.which(p)]
        return f"{', '.join(gone)} not installed" if gone else None

    def start(self):
        """Returns at once; the first call also makes the Scope. Returns the clock just before, in ns."""
        if not self.scope:
            self.scope = Scope(self.bench, self.env, self.dir)
        before = time.monotonic_ns()
        self.scope.start(self.command())
        return before

    def close(self):
        if self.scope:
            self.scope.close()
            self.bench.scopes.remove(self.scope)
            self.scope = None
        if not self.bench.args.keep:
            shutil.rmtree(self.dir, ignore_errors=True)

    def processes(self):
        """Its own processes: all that it started but the services."""
        return [p for p in self.scope.below() if p.comm not in ("stamp", "lines")]

    def service_pids(self):
        return [p.pid for p in self.scope.below() if p.comm in ("stamp", "lines")]

    def pids_of(self, victim):
        """Processes to kill for a victim of `victims`."""
        return [p.pid for p in self.processes() if self.role(p) in self.roles(victim)]

    def roles(self, victim):
        """The parts that a victim of `victims` stands for."""
        return {name for v in (self.victims if victim == "all" else [victim]) for name in v.split(" + ")} - {"all"}

    def role(self, process):
        return process.name()

    def write(self, path, text, mode=0o644):
        path = f"{self.dir}/{path}"
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w") as f:
            f.write(text)
        os.chmod(path, mode)

    def read_logs(self):
        out = b""
        for path in self.log_files():
            try:
                with open(path, "rb") as f:
                    out += f.read()
            except OSError:
                pass
        return out

    def status_seen(self, code):
        """Has the tool recorded that the service exited with this code? "yes", "no", or that it said it cannot know."""
        try:
            with open(f"{self.dir}/exits") as f:
                return "yes" if str(code) in f.read().split() else "no"
        except OSError:
            return "no"


class Supervise(Tool):
    name = "supervise"
    binary = None
    # Whoever is killed; root: the tool has to be started again by somebody
    victims = ["keeper", "supervisor", "logger", "writer", "keeper + supervisor", "all"]
    restarted_by_hand = ["keeper + supervisor", "all"]

    @classmethod
    def missing(cls):
        return None if cls.binary else "no program found: build it, or say --supervise PATH"

    @classmethod
    def version(cls):
        p = subprocess.run([cls.binary, "version"], capture_output=True, text=True)
        found = re.search(r"\d+\.\d+\S*", p.stdout)
        return found.group(0) if found else "?"

    def prepare(self):
        restart = {"policy": "always", "delay": "0s", "jitter": 0, "limit": 0}
        config = {"version": 1, "name": "b", "monitoring": {"enable_metrics": False, "log_flush_interval": "1s"},
                  "defaults": {"restart": restart},
                  "daemons": {name: {"command": argv} for name, argv in self.services.items()}}
        self.write("supervise.yaml", json.dumps(config, indent=1))  # JSON is YAML
        self.env.update(XDG_STATE_HOME=f"{self.dir}/state", XDG_CONFIG_HOME=f"{self.dir}/config",
                        SUPERVISE_RUNTIME_DIR=f"{self.dir}/run")
        self.runtime = f"{self.dir}/run/b"

    def command(self):
        return f"exec {shlex.quote(self.binary)} -c {self.dir}/supervise.yaml up >> {self.dir}/up.out 2>&1"

    def role(self, process):
        return self._roles.get(process.pid, process.name())

    def pids_of(self, victim):
        self._roles = {}
        for name in ("keeper", "supervisor", "logger", "writer"):
            try:
                with open(f"{self.runtime}/{name}.pid") as f:
                    self._roles[int(f.read())] = name
            except (OSError, ValueError):
                pass
        return super().pids_of(victim)

    def log_files(self):
        return sorted(glob.glob(f"{self.dir}/state/supervise/b/*/log/*.log*"))

    def rows(self):
        """Messages in the store."""
        paths = glob.glob(f"{self.dir}/state/supervise/b/*/supervise.db")
        try:
            db = sqlite3.connect(f"file:{paths[0]}?mode=ro", uri=True, timeout=10)
            return [m for m, in db.execute("select message from pipeline_logs where message like 'line %'")]
        except (sqlite3.OperationalError, IndexError):
            return []

    def status_seen(self, code):
        paths = glob.glob(f"{self.dir}/state/supervise/b/*/supervise.db")
        try:
            db = sqlite3.connect(f"file:{paths[0]}?mode=ro", uri=True, timeout=10)
            titles = [t or "" for t, in db.execute("select title from pipeline_events")]
        except (sqlite3.OperationalError, IndexError):
            return "no"
        if any(re.search(rf"\b{code}\b", t) and "exit" in t for t in titles):
            return "yes"
        return "said unknown" if any("unknown" in t for t in titles) else "no"

    def pipes(self):
        """Bytes of pipe buffer -> how many FIFOs have it."""
        sizes = {}
        for path in glob.glob(f"{self.runtime}/fifo/*"):
            fd = os.open(path, os.O_RDWR | os.O_NONBLOCK)
            size = fcntl.fcntl(fd, 1032)  # F_GETPIPE_SZ
            os.close(fd)
            sizes[size] = sizes.get(size, 0) + 1
        return sizes


class S6(Tool):
    name = "s6"
    programs = ("s6-svscan", "s6-supervise", "s6-log")
    own_logger = True
    victims = ["s6-svscan", "s6-supervise", "s6-log", "all"]
    restarted_by_hand = ["s6-svscan", "all"]

    @classmethod
    def version(cls):
        return debian_version("s6")

    def prepare(self):
        for name, argv in self.services.items():
            if self.ready_fd:
                argv = argv + ["3"]
                self.write(f"scan/{name}/notification-fd", "3\n")
            self.write(f"scan/{name}/run", f"#!/bin/sh\nexec 2>&1\nexec {shlex.join(argv)}\n", 0o755)
            if self.record_exits:
                self.write(f"scan/{name}/finish", f"#!/bin/sh\necho $1 >> {self.dir}/exits\n", 0o755)
            if self.log:
                logger = f"s6-log t n10 s1000000 {self.dir}/log/{name}"
                self.write(f"scan/{name}/log/run", f"#!/bin/sh\nexec {logger}\n", 0o755)
        os.makedirs(f"{self.dir}/log", exist_ok=True)

    def command(self):
        return f"exec s6-svscan -c {max(500, 2 * len(self.services) + 100)} {self.dir}/scan > {self.dir}/out 2>&1"

    def role(self, process):
        return process.name()

    def log_files(self):
        return sorted(glob.glob(f"{self.dir}/log/*/@*")) + glob.glob(f"{self.dir}/log/*/current")


class Runit(Tool):
    name = "runit"
    programs = ("runsvdir", "runsv", "svlogd")
    own_logger = True
    victims = ["runsvdir", "runsv", "svlogd", "all"]
    restarted_by_hand = ["runsvdir", "all"]
    n_max = 1000  # compiled in

    @classmethod
    def version(cls):
        return debian_version("runit")

    def prepare(self):
        for name, argv in self.services.items():
            self.write(f"scan/{name}/run", f"#!/bin/sh\nexec 2>&1\nexec {shlex.join(argv)}\n", 0o755)
            if self.record_exits:
                self.write(f"scan/{name}/finish", f"#!/bin/sh\necho $1 >> {self.dir}/exits\n", 0o755)
            if self.log:
                self.write(f"scan/{name}/log/run", f"#!/bin/sh\nexec svlogd -tt {self.dir}/log/{name}\n", 0o755)
                os.makedirs(f"{self.dir}/log/{name}", exist_ok=True)

    def command(self):
        return f"exec runsvdir {self.dir}/scan > {self.dir}/out 2>&1"

    def log_files(self):
        return sorted(glob.glob(f"{self.dir}/log/*/@*")) + glob.glob(f"{self.dir}/log/*/current")


class Supervisord(Tool):
    name = "supervisord"
    programs = ("supervisord",)
    victims = ["supervisord"]
    restarted_by_hand = ["supervisord"]

    @classmethod
    def version(cls):
        return debian_version("supervisor")

    def prepare(self):
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        text = ["[supervisord]", f"logfile={self.dir}/supervisord.log", f"pidfile={self.dir}/supervisord.pid",
                f"childlogdir={self.dir}/log", f"minfds={min(hard, 16000)}", f"directory={self.dir}"]
        for name, argv in self.services.items():
            log = f"{self.dir}/log/{name}.log" if self.log else "NONE"
            text += [f"[program:{name}]", f"command={shlex.join(argv)}".replace("%", "%%"), "autorestart=true",
                     "startsecs=0", "startretries=1000000", f"stdout_logfile={log}", "redirect_stderr=true"]
        self.write("supervisord.conf", "\n".join(text) + "\n")
        os.makedirs(f"{self.dir}/log", exist_ok=True)

    def command(self):
        return f"exec supervisord -n -c {self.dir}/supervisord.conf > {self.dir}/out 2>&1"

    def log_files(self):
        return glob.glob(f"{self.dir}/log/*.log*")

    def status_seen(self, code):
        try:
            with open(f"{self.dir}/supervisord.log") as f:
                return "yes" if f"exit status {code};" in f.read() else "no"
        except OSError:
            return "no"


TOOLS = {t.name: t for t in (Supervise, S6, Runit, Supervisord)}


def start_and_wait(tool, stamps, n, seconds=180):
    """Starts a tool with n stamp services. Returns seconds until the last of them ran, and how many ran at all."""
    first = {}
    before = tool.start()
    end = time.monotonic() + seconds
    while len(first) < n and time.monotonic() < end:
        for at, _, i in stamps.read(0.5):
            first.setdefault(i, at)
    return (max(first.values()) - before) / 1e9 if first else float("inf"), len(first)
