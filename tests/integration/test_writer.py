# SPDX-License-Identifier: Apache-2.0
"""The writer: every record of the spools is in the store exactly once, whatever dies, fills up or is locked."""
import glob
import json
import os
import random
import shutil
import signal
import socket
import sqlite3
import subprocess
import time

import harness
from harness import SCALE, check, equal, wait_until

HERE = os.path.dirname(harness.BIN)
FEED = f"{harness.FIXTURES}/spool-feed"


class Store:
    """A state folder with its spools, feeders and writers; no supervisor."""

    def __init__(self, p):
        self.p = p
        self.state = f"{p.dir}/s"
        os.makedirs(f"{self.state}/spool", mode=0o700)
        self.db = f"{self.state}/supervise.db"

    def feed(self, *args, name="logger", wait=True, **kw):
        options = [str(x) for k, v in kw.items() for x in ("--" + k.replace("_", "-"), v)]
        proc = subprocess.Popen([FEED, f"{self.state}/spool/{name}", *options, *args], stdout=subprocess.PIPE, text=True,
                                env={**os.environ, "SUPERVISE_RUNTIME": self.p.runtime})
        if wait:
            proc.communicate()
            equal(proc.returncode, 0, "spool-feed")
        return proc

    def writer(self, *args, prefix=(), flush=50, batch=100):
        return Writer(self, args, prefix, flush, batch)

    def ask(self, sql, timeout=10):
        if not os.path.exists(self.db):
            return 0
        db = sqlite3.connect(f"file:{self.db}?mode=ro", uri=True, timeout=timeout)
        try:
            return db.execute(sql).fetchone()[0]
        except sqlite3.OperationalError as e:
            if "no such table" in str(e):
                return 0
            raise
        finally:
            db.close()

    def count(self):
        return self.ask("select count(*) from pipeline_logs")

    def wait_count(self, n):
        wait_until(lambda: self.count() == n, lambda: f"{n} rows, there are {self.count()}", 30)

    def assert_exactly(self, n, name="logger"):
        """Rows = distinct = the whole range of sequence numbers, and each row says its own number."""
        db = sqlite3.connect(self.db)
        source = open(f"{self.state}/spool/{name}/source").read().strip()
        rows, distinct, low, high, right = db.execute(
            "select count(*), count(distinct seq), min(seq), max(seq), sum(message like 'line ' || seq || ' %')"
            " from pipeline_logs where source = ?", (source,)).fetchone()
        mark = db.execute("select mark from ingest_source where source = ?", (source,)).fetchone()[0]
        quarantined = db.execute("select count(*) from log_quarantine").fetchone()[0]
        integrity = db.execute("pragma integrity_check").fetchone()[0]
        db.close()
        equal((rows, distinct, low, high, right, mark, quarantined, integrity), (n, n, 1, n, n, n, 0, "ok"),
              "rows, distinct, first, last, with their number, mark, quarantined, integrity")


class Writer:
    def __init__(self, store, args, prefix, flush, batch):
        self.control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        fd = theirs.fileno()

        def in_child():
            os.dup2(fd, 3)
            os.set_inheritable(3, True)

        self.proc = subprocess.Popen(
            [*prefix, f"{HERE}/supervise-writer", store.p.runtime, store.state, "--store", "sqlite", "--batch", str(batch),
             "--flush-ms", str(flush), *args],
            pass_fds=[3, fd] if fd != 3 else [3], preexec_fn=in_child if fd != 3 else None,
            stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        theirs.close()

    def message(self, op, timeout=30):
        """The next message with this op; others before it are kept in self.seen."""
        self.control.settimeout(timeout * SCALE)
        self.seen = []
        while True:
            data = self.control.recv(65536)
            check(data, f"the writer ended while {op!r} was waited for")
            m = json.loads(data)
            self.seen.append(m)
            if m["op"] == op:
                return m

    def drain(self):
        self.control.send(b'{"op":"drain"}')
        return self.message("drained")

    def kill(self):
        self.proc.kill()
        self.proc.wait()
        self.control.close()

    def finish(self):
        self.control.close()
        equal(self.proc.wait(timeout=60 * SCALE), 0, "exit status of the writer")


def test_records_are_stored_and_drain_is_answered(p):
    s = Store(p)
    w = s.writer(flush=600000)
    w.message("ready")
    s.feed(count=250, name="supervisor")  # the spool appears later
    s.feed(count=30)
    s.feed(count=30)
    equal(w.drain()["complete"], True)
    equal(s.count(), 310)
    s.assert_exactly(250, "supervisor")
    s.assert_exactly(60)
    w.finish()


def test_a_full_batch_an_error_and_the_interval_each_ship(p):
    s = Store(p)
    w = s.writer(flush=600000, batch=100)
    w.message("ready")
    s.feed(count=100)
    s.wait_count(100)
    s.feed(count=7)
    s.feed(count=1, level="ERROR")
    s.wait_count(108)
    w.finish()
    w = s.writer(flush=100)
    s.feed(count=1)
    s.wait_count(109)
    w.finish()
    s.assert_exactly(109)


def test_end_of_file_ships_what_is_there(p):
    s = Store(p)
    w = s.writer(flush=600000)
    w.message("ready")
    s.feed(count=42)
    w.finish()
    s.assert_exactly(42)


def test_a_writer_killed_hundreds_of_times_stores_each_record_once(p):
    s = Store(p)
    feed = s.feed(wait=False, batch=7, pause_us=700, size=100)
    dice = random.Random(4711)
    kills = 0
    end = time.monotonic() + 40 * SCALE
    while kills < 300 and time.monotonic() < end:
        w = s.writer(flush=5, batch=20)
        if dice.random() < 0.5:  # else somewhere in its start
            try:
                w.message("ready")
            except ConnectionResetError:
                pass
        time.sleep(dice.random() * 0.03)  # another moment each time; nothing is waited for
        w.kill()
        kills += 1
    feed.kill()
    feed.wait()
    print(f"# {kills} kills, {s.count()} rows before the last writer")
    w = s.writer()
    equal(w.drain()["complete"], True)
    w.finish()
    n = s.count()
    check(n > 1000, f"only {n} records")
    s.assert_exactly(n)


def test_a_writer_killed_at_every_system_call_stores_each_record_once(p):
    if not shutil.which("strace"):
        print("# needs strace")
        return
    s = Store(p)
    n = kills = 0
    for call in ("openat", "pwrite64", "fdatasync", "ftruncate", "unlinkat", "fcntl", "pread64", "poll", "sendto"):
        for when in (1, 2, 3, 4, 5, 7, 9, 12, 16, 22, 30):
            s.feed(count=150, batch=150)
            n += 150
            w = s.writer(flush=1, prefix=("strace", "-o", "/dev/null", "-e", f"trace={call}", "-e",
                                          f"inject={call}:signal=SIGKILL:when={when}"))
            try:
                w.drain()
            except (ConnectionResetError, BrokenPipeError, harness.Failure):
                pass
            w.control.close()
            try:
                kills += w.proc.wait(timeout=30) not in (0, None)
            except subprocess.TimeoutExpired:
                w.kill()
                raise
    print(f"# {kills} kills, {n} records")
    check(kills > 30, f"only {kills} of the runs were killed")
    w = s.writer()
    equal(w.drain()["complete"], True)
    w.finish()
    s.assert_exactly(n)


def test_the_second_writer_waits_for_the_first(p):
    s = Store(p)
    first = s.writer()
    first.message("ready")
    second = s.writer()
    s.feed(count=100)
    s.wait_count(100)
    second.control.settimeout(0.2)
    try:
        check(not second.control.recv(100), "the second writer did not wait")
    except TimeoutError:
        pass
    first.kill()
    second.message("ready")
    s.feed(count=100)
    s.wait_count(200)
    second.finish()
    s.assert_exactly(200)


def test_a_locked_database_delays_and_loses_nothing(p):
    s = Store(p)
    w = s.writer()
    s.feed(count=100)
    s.wait_count(100)
    other = sqlite3.connect(s.db, isolation_level=None)
    other.execute("begin exclusive")
    s.feed(count=5000, batch=100)
    m = w.message("problem")
    check("lock" in m["details"]["error"], m)
    equal(m["recovered"], False)
    other.execute("rollback")
    equal(w.message("problem")["recovered"], True)
    s.wait_count(5100)
    equal(len(w.seen), 1, "messages for one spell of trouble")
    w.finish()
    s.assert_exactly(5100)


def test_a_full_disk_delays_and_loses_nothing(p):
    s = Store(p)
    full = f"{p.dir}/full"
    os.mkdir(full)
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "none", full], capture_output=True).returncode:
        print("# needs root")
        return
    try:
        s.state, s.db = full, f"{full}/supervise.db"
        s.feed(count=3000, batch=100, size=500)
        filler = os.open(f"{full}/filler", os.O_WRONLY | os.O_CREAT)
        try:
            while True:
                os.write(filler, b"x" * 4096)
        except OSError:
            os.close(filler)
        w = s.writer()
        m = w.message("problem")
        check(m["recovered"] is False, m)
        os.unlink(f"{full}/filler")
        equal(w.message("problem", timeout=60)["recovered"], True)
        s.wait_count(3000)
        w.finish()
        s.assert_exactly(3000)
    finally:
        subprocess.run(["umount", "-l", full])


def test_damage_in_the_spool_costs_what_it_hits(p):
    s = Store(p)
    s.feed(count=100)
    path = glob.glob(f"{s.state}/spool/logger/*.seg")[0]
    size = os.path.getsize(path)
    with open(path, "r+b") as f:
        f.seek(size // 2)
        f.write(b"\xff\xfe")
    w = s.writer()
    m = w.message("problem")
    check("damaged" in m["title"], m)
    equal(w.drain()["complete"], True)
    w.finish()
    check(98 <= s.count() <= 99, f"{s.count()} rows")
    equal(s.ask("select mark from ingest_source"), 100)


def test_a_deleted_database_is_begun_anew(p):
    s = Store(p)
    w = s.writer()
    s.feed(count=100)
    s.wait_count(100)
    for f in glob.glob(s.db + "*"):
        os.unlink(f)
    s.feed(count=100)
    s.wait_count(200)  # the spool still had the first hundred
    w.finish()
    s.assert_exactly(200)


def test_a_deleted_spool_is_a_new_source(p):
    s = Store(p)
    w = s.writer()
    s.feed(count=100)
    s.wait_count(100)
    shutil.rmtree(f"{s.state}/spool/logger")
    s.feed(count=50)
    s.wait_count(150)
    w.finish()
    s.assert_exactly(50)


def test_shipped_segments_are_removed(p):
    s = Store(p)
    w = s.writer()
    s.feed(count=5000, batch=100, size=10000)
    s.wait_count(5000)
    equal(w.drain()["complete"], True)
    equal(len(glob.glob(f"{s.state}/spool/logger/*.seg")), 1)
    w.finish()
    s.assert_exactly(5000)


def test_an_idle_writer_does_not_wake_up(p):
    s = Store(p)
    w = s.writer()
    s.feed(count=100)
    s.feed(count=1, name="supervisor")
    s.wait_count(101)
    equal(w.drain()["complete"], True)

    def switches():
        with open(f"/proc/{w.proc.pid}/status") as f:
            return [line for line in f if "ctxt_switches" in line]

    # it answers before it sleeps: let it get there
    wait_until(lambda: open(f"/proc/{w.proc.pid}/stat").read().rsplit(")", 1)[1].split()[0] == "S", "the writer sleeps")
    before = switches()
    time.sleep(1)
    equal(switches(), before, "context switches within an idle second")
    w.finish()


def test_a_terminated_writer_ships_and_ends(p):
    s = Store(p)
    w = s.writer(flush=600000)
    w.message("ready")
    s.feed(count=10)
    w.proc.send_signal(signal.SIGTERM)
    equal(w.proc.wait(timeout=30 * SCALE), 0)
    s.assert_exactly(10)


harness.main()
