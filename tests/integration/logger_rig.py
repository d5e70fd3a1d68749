# SPDX-License-Identifier: Apache-2.0
"""supervise-logger alone: this plays the supervisor (control socket, FIFOs) and the daemons (writers)."""
import fcntl
import glob
import json
import os
import random
import select
import socket
import struct
import subprocess
import termios
import threading

from harness import BIN, FIXTURES, SCALE, Failure, wait_until

LOGGER = os.path.join(os.path.dirname(BIN), "supervise-logger")
DUMP = os.path.join(FIXTURES, "spool-dump")


class Rig:
    def __init__(self, project):
        self.runtime = f"{project.dir}/rt"
        self.state = f"{project.dir}/st"
        os.makedirs(f"{self.runtime}/fifo", 0o700)
        os.makedirs(f"{self.state}/log", 0o700)
        self.settings = {}
        self.fifos = {}  # held open as the supervisor holds them
        self.process = self.socket = None
        self.messages = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()
        for fd in self.fifos.values():
            os.close(fd)

    def add(self, name, **settings):
        for end in ("out", "err"):
            path = f"{self.runtime}/fifo/{name.replace('/', '@')}.{end}"
            os.mkfifo(path, 0o600)
            self.fifos[name, end] = os.open(path, os.O_RDWR)
        self.settings[name] = {"op": "open", "daemon": name, "run": "0198c2f1-0000-7000-8000-000000000001", "pid": 4242,
                               "format": "json", "level": "DEBUG", "max_size": 0, "keep": 5, "compress": "none",
                               "store": True, "experiment": None, "stage": None, "node": None, **settings}
        if self.process:
            self.send(self.settings[name])

    def start(self, *prefix, ready=True, **popen):
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        fd = theirs.fileno()
        self.process = subprocess.Popen([*prefix, LOGGER, self.runtime, self.state], pass_fds=(3, fd), stdin=subprocess.DEVNULL,
                                        preexec_fn=lambda: os.dup2(fd, 3) if fd != 3 else os.set_inheritable(3, True), **popen)
        theirs.close()
        self.socket = ours
        try:
            for s in self.settings.values():
                self.send(s)
        except OSError:
            if ready:
                raise
        if ready:
            self.wait_message("ready")

    def send(self, message):
        self.socket.send(json.dumps(message).encode())

    def receive(self, timeout=0.0):
        """Takes what has come; False at the end of file."""
        while select.select([self.socket], [], [], timeout)[0]:
            try:
                data = self.socket.recv(1 << 20)
            except ConnectionResetError:
                return False
            if not data:
                return False
            self.messages.append(json.loads(data))
            timeout = 0
        return True

    def wait_message(self, op, **members):
        def look():
            for i, m in enumerate(self.messages):
                if m["op"] == op and all(m.get(k) == v for k, v in members.items()):
                    return self.messages.pop(i)
            self.receive(0.02)
            return None
        return wait_until(look, lambda: f"message {op} {members}, have {self.messages}")

    def drain(self, name, deadline=20000):
        self.send({"op": "drain", "daemon": name, "id": "x", "deadline_ms": int(deadline * SCALE)})
        return self.wait_message("drained", daemon=name, id="x")

    def kill(self):
        if self.process:
            self.process.kill()
            self.process.wait()
            self.socket.close()
            self.process = None

    def stop(self):
        self.socket.close()
        code = self.process.wait(timeout=30)
        self.process = None
        return code

    def write(self, name, data, end="out"):
        view = memoryview(data if isinstance(data, bytes) else data.encode())
        while view:
            view = view[os.write(self.fifos[name, end], view):]

    def wait_empty(self):
        def waiting(fd):
            return struct.unpack("i", fcntl.ioctl(fd, termios.FIONREAD, b"\0\0\0\0"))[0]
        wait_until(lambda: not any(waiting(fd) for fd in self.fifos.values()), "empty FIFOs")

    def log_bytes(self, name):
        for _ in range(100):
            try:
                return self.log_bytes_now(name)
            except FileNotFoundError:
                pass  # compressed or rotated meanwhile
        raise Failure(f"log files of {name} keep vanishing")

    def log_bytes_now(self, name):
        base = f"{self.state}/log/{name.replace('/', '@')}.log"
        out = b""
        done = set()
        for path in sorted(glob.glob(base + ".*")) + [base]:
            if path.endswith(".tmp") or path.removesuffix(".zst") in done:
                continue
            done.add(path)
            if path == base and not os.path.exists(path):
                continue
            with open(path, "rb") as f:
                data = f.read()
            out += data if not path.endswith(".zst") else subprocess.run(["zstd", "-dcq"], input=data, capture_output=True,
                                                                          check=True).stdout
        return out

    def log(self, name):
        return [json.loads(line) for line in self.log_bytes(name).splitlines()]

    def spool(self, name=None):
        r = subprocess.run([DUMP, f"{self.state}/spool/logger"], capture_output=True, check=True)
        records = [json.loads(line) for line in r.stdout.splitlines()]
        return [x for x in records if name in (None, x["daemon"])]


def joined(records, stream):
    """Messages of one stream with the parts of split lines put together again."""
    out, part = [], ""
    for r in records:
        if (r.get("stream") or r["logger_name"]) != stream:
            continue
        context = json.loads(r["context"]) if isinstance(r.get("context"), str) else r
        part += r.get("message", "")
        if not context.get("continued"):
            out.append(part)
            part = ""
    return out + ([part] if part else [])


class Writer(threading.Thread):
    """A daemon that writes numbered lines of all lengths, in pieces that know nothing of lines, until told to stop."""

    def __init__(self, rig, name, end, seed):
        super().__init__(daemon=True)
        self.fd = rig.fifos[name, end]
        self.random = random.Random(seed)
        self.lines = []
        self.data = bytearray()
        self.ending = threading.Event()
        self.failure = None

    def run(self):
        r = self.random
        while not self.ending.is_set():
            text = bytearray()
            for _ in range(r.choice((1, 1, 3, 50, 400))):
                size = r.choice((0, 10, 80, 80, 300, 5000)) if r.random() > 0.01 else r.choice((65520, 65536, 70000, 140000))
                line = f"line {len(self.lines)} ".ljust(size, "abcdefg"[len(self.lines) % 7])
                self.lines.append(line)
                text += line.encode() + b"\n"
            view = memoryview(text)
            while view:
                n = min(len(view), r.choice((1, 7, 100, 4096, 65536)))
                done = os.write(self.fd, view[:n])
                view = view[done:]
                if r.random() < 0.02:
                    self.ending.wait(r.random() * 0.004)
            self.data += text

    def end(self):
        self.ending.set()
        self.join(60 * SCALE)
        if self.is_alive():
            raise Failure("the writer is stuck")
