# SPDX-License-Identifier: Apache-2.0
"""supervise-logger: formats, rotation, drains, full disks."""
import base64
import glob
import json
import os
import re
import resource
import signal
import subprocess
import time

from harness import SCALE, check, equal, main, wait_until
from logger_rig import Rig, joined


def test_a_line_is_one_json_object_and_one_record(p):
    with Rig(p) as rig:
        rig.start()
        rig.add("train/0", experiment="exp", stage="fit", node="n1")
        rig.write("train/0", "hello\r\n")
        rig.write("train/0", 'ERROR: "quoted" \\ \t é\n', "err")
        rig.drain("train/0")
        a, b = sorted(rig.log("train/0"), key=lambda x: x["stream"], reverse=True)
        check(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", a.pop("timestamp")), a)
        check(int(a.pop("seq")) in (1, 2), a)
        equal(a, {"level": "INFO", "daemon": "train", "instance": "0", "run": "0198c2f1-0000-7000-8000-000000000001",
                  "stream": "stdout", "pid": 4242, "logger_name": "stdout", "experiment_id": "exp", "node_id": "n1",
                  "stage": "fit", "message": "hello"})
        equal((b["level"], b["message"]), ("ERROR", 'ERROR: "quoted" \\ \t é'))
        records = {r["logger_name"]: r for r in rig.spool()}
        equal({k: records["stdout"][k] for k in ("level", "daemon", "experiment", "node", "stage", "message", "pid")},
              {"level": "INFO", "daemon": "train/0", "experiment": "exp", "node": "n1", "stage": "fit", "message": "hello",
               "pid": 4242})
        equal(records["stderr"]["seq"], b["seq"])
        for path in glob.glob(f"{rig.state}/log/*") + [f"{rig.runtime}/logger.state"]:
            equal(os.stat(path).st_mode & 0o777, 0o600, path)


def test_absent_values_have_no_keys(p):
    with Rig(p) as rig:
        rig.start()
        rig.add("a", store=False, pid=0)
        rig.write("a", "x\n")
        rig.drain("a")
        equal(sorted(rig.log("a")[0]), ["daemon", "level", "logger_name", "message", "run", "stream", "timestamp"])
        equal(rig.spool(), [])


def test_bytes_that_are_no_utf8_are_kept_exactly(p):
    with Rig(p) as rig:
        rig.start()
        rig.add("a")
        line = b"caf\xe9 \x00 \xff\r"
        rig.write("a", line + b"\n")
        rig.drain("a")
        (r,) = rig.log("a")
        equal(r["message"], "caf\ufffd \ufffd \ufffd")
        equal(base64.b64decode(r["raw"]), line)
        (s,) = rig.spool()
        equal(s["message"], r["message"])
        equal(base64.b64decode(json.loads(s["context"])["raw"]), line)


def test_a_last_line_without_its_end_is_kept_and_marked(p):
    with Rig(p) as rig:
        rig.start()
        rig.add("a")
        rig.write("a", "no end")
        d = rig.drain("a")
        (r,) = rig.log("a")
        equal((r["message"], r["partial"]), ("no end", True))
        equal(json.loads(rig.spool()[0]["context"]), {"partial": True})
        equal([t["text"] for t in d["tail"]], ["no end"])
        equal(d["complete"], True)


def test_an_unfinished_line_outlives_the_logger(p):
    with Rig(p) as rig:
        rig.start()
        rig.add("a")
        rig.write("a", "begin ")
        rig.wait_empty()
        rig.kill()
        rig.write("a", "middle ")
        rig.start()
        rig.wait_empty()
        equal(rig.stop(), 0)
        rig.start()
        rig.write("a", "end\n")
        rig.drain("a")
        equal([r["message"] for r in rig.log("a")], ["begin middle end"])


def test_a_long_line_is_split_between_characters(p):
    with Rig(p) as rig:
        rig.start()
        rig.add("a")
        line = "é" * 100000
        rig.write("a", line + "\nnext\n")
        rig.drain("a")
        log = rig.log("a")
        equal([r.get("continued", False) for r in log], [True, True, True, False, False])
        check(all("raw" not in r and len(r["message"].encode()) <= 65536 for r in log), "parts are whole text")
        equal(joined(log, "stdout"), [line, "next"])
        equal(joined(rig.spool(), "stdout"), [line, "next"])


def test_text_and_raw_formats(p):
    with Rig(p) as rig:
        rig.start()
        rig.add("t", format="text")
        rig.add("r", format="raw")
        rig.write("t", b"<3>bad \xff\r\n", "err")
        rig.write("r", b"a\xff\r\nunfinished")
        rig.wait_empty()
        wait_until(lambda: rig.log_bytes("r") == b"a\xff\r\nunfinished", "raw bytes at once")
        rig.write("r", b" line\n")
        rig.drain("t")
        rig.drain("r")
        check(re.fullmatch(rb"\S{27} stderr ERROR bad \xff\n", rig.log_bytes("t")), rig.log_bytes("t"))
        equal(rig.log_bytes("r"), b"a\xff\r\nunfinished line\n")
        equal([r["message"] for r in rig.spool("r")], ["a\ufffd", "unfinished line"])


def test_only_lines_of_the_level_are_stored(p):
    with Rig(p) as rig:
        rig.start()
        rig.add("a", level="WARNING")
        rig.write("a", 'INFO no\nWARNING yes\n{"severity": "error", "x": 1}\n2026-11-23 18:01:03,412 root CRITICAL yes\n<7>no\n')
        rig.drain("a")
        equal([r["level"] for r in rig.log("a")], ["INFO", "WARNING", "ERROR", "CRITICAL", "DEBUG"])
        equal([r["level"] for r in rig.spool()], ["WARNING", "ERROR", "CRITICAL"])


def test_rotation_loses_no_line_compresses_and_keeps_the_newest(p):
    with Rig(p) as rig:
        rig.start()
        rig.add("a", max_size=20000, keep=1000, compress="zstd")
        rig.add("r", max_size=20000, keep=1000, compress="zstd", format="raw")
        rig.add("k", max_size=2000, keep=2)
        text = "".join(f"line {i}\n" for i in range(3000))
        for name in ("a", "r", "k"):
            rig.write(name, text)
        for name in ("a", "r", "k"):
            rig.drain(name)
        equal([r["message"] for r in rig.log("a")], text.splitlines())
        equal(rig.log_bytes("r").decode(), text)
        for name in ("a", "r"):
            wait_until(lambda: all(x.endswith(".zst") for x in glob.glob(f"{rig.state}/log/{name}.log.*")), "compression")
            check(len(glob.glob(f"{rig.state}/log/{name}.log.*")) >= 1, "rotated files")
        equal([r["message"] for r in rig.log("a")], text.splitlines())
        equal(rig.log_bytes("r").decode(), text)
        for path in glob.glob(f"{rig.state}/log/a.log*"):
            check(path.endswith(".zst") or os.stat(path).st_size <= 20000, path)
        equal(len(glob.glob(f"{rig.state}/log/k.log.*")), 2)
        equal([r["message"] for r in rig.log("k")][-1], "line 2999")
        rig.send({"op": "rotate", "daemon": "k"})
        wait_until(lambda: os.path.exists(f"{rig.state}/log/k.log") and not os.path.getsize(f"{rig.state}/log/k.log"), "a new log file")
        rig.write("k", "after\n")
        rig.drain("k")
        with open(f"{rig.state}/log/k.log") as f:
            equal([json.loads(x)["message"] for x in f], ["after"])


def test_compression_that_was_killed_is_done_again(p):
    with Rig(p) as rig:
        base = f"{rig.state}/log/a.log.20260101T000000.000000Z-00000"
        for i in (1, 2):
            with open(f"{base}{i}", "w") as f:
                f.write(f'{{"message":"{i}"}}\n')
        with open(f"{base}1.zst.tmp", "w") as f:
            f.write("torn")
        rig.start()
        rig.add("a", compress="zstd")
        wait_until(lambda: sorted(glob.glob(base + "*")) == [f"{base}1.zst", f"{base}2.zst"], "compression")
        equal([r["message"] for r in rig.log("a")], ["1", "2"])


def test_the_tail_is_of_this_incarnation_and_survives_restarts(p):
    with Rig(p) as rig:
        rig.start()
        for name, form in (("j", "json"), ("t", "text"), ("r", "raw")):
            rig.add(name, format=form, max_size=16000, keep=10)
            rig.write(name, "old\n")
            rig.drain(name)
            rig.settings[name]["run"] = "0198c2f1-0000-7000-8000-000000000002"
            rig.send(rig.settings[name])
            rig.write(name, "".join(f"line {i}\n" for i in range(100)))
            rig.write(name, "on stderr\n", "err")
            rig.wait_empty()
            rig.kill()
            rig.start()
            d = rig.drain(name)
            texts = [t["text"] for t in d["tail"]]
            equal((len(texts), sorted(texts)), (64, sorted([f"line {i}" for i in range(37, 100)] + ["on stderr"])))
            if name != "r":
                equal({t["stream"] for t in d["tail"]}, {"stdout", "stderr"})
                check(all(t["time"].endswith("Z") for t in d["tail"]), d)
            rig.settings[name]["run"] = "0198c2f1-0000-7000-8000-000000000003"
            rig.send(rig.settings[name])
            equal(rig.drain(name)["tail"], [])


def test_a_drain_ends_at_its_deadline_though_somebody_still_writes(p):
    with Rig(p) as rig:
        rig.start()
        rig.add("a", store=False)
        yes = subprocess.Popen(["yes"], stdout=rig.fifos["a", "out"])
        try:
            equal(rig.drain("a", 100)["complete"] in (True, False), True)
            rig.send({"op": "drain", "daemon": "nobody", "id": "n", "deadline_ms": 1})
            equal(rig.wait_message("drained", id="n")["tail"], [])
        finally:
            yes.kill()
            yes.wait()


def test_close_forgets_the_daemon_and_open_makes_it_new(p):
    with Rig(p) as rig:
        rig.start()
        rig.add("a")
        rig.write("a", "one\nhalf")
        rig.send({"op": "close", "daemon": "a"})
        wait_until(lambda: os.path.exists(f"{rig.state}/log/a.log") and len(rig.log("a")) == 2, "the lines")
        wait_until(lambda: not any("fifo/a" in os.readlink(x) for x in links(rig.process.pid)), "closed FIFOs")
        rig.send(rig.settings["a"])
        rig.write("a", "two\n")
        rig.drain("a")
        equal([r["message"] for r in rig.log("a")], ["one", "half", "two"])


def links(pid):
    out = []
    for fd in glob.glob(f"/proc/{pid}/fd/*"):
        if os.path.islink(fd):
            out.append(fd)
    return [fd for fd in out if os.path.lexists(fd)]


def test_it_ends_with_its_supervisor_and_on_sigterm(p):
    with Rig(p) as rig:
        rig.start()
        equal(rig.stop(), 0)
        rig.start()
        rig.process.send_signal(signal.SIGTERM)
        equal(rig.process.wait(20), 0)


def test_a_second_logger_waits_for_the_first(p):
    with Rig(p) as rig, Rig.__new__(Rig) as other:
        rig.start()
        other.__dict__.update(rig.__dict__, fifos={}, settings={}, messages=[], process=None)
        other.start(ready=False)
        other.receive(0.1)
        equal(other.messages, [])
        rig.kill()
        other.wait_message("ready")


def limited(size):
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def test_a_log_that_cannot_be_written_stalls_nobody_and_is_made_up_for(p):
    """The file size limit stands for a full disk; the same write(2) fails the same way."""
    with Rig(p) as rig:
        rig.start()
        rig.add("a")
        text = "".join(f"line {i}\n" for i in range(2000))
        resource.prlimit(rig.process.pid, resource.RLIMIT_FSIZE, (100000, resource.RLIM_INFINITY))
        rig.write("a", text)
        rig.wait_empty()
        check(rig.wait_message("problem", daemon="a")["title"].startswith("log file cannot"), "problem")
        check(rig.wait_message("problem", daemon=None)["title"].startswith("spool cannot"), "problem")
        rig.write("a", "another\n")
        rig.wait_empty()
        rig.kill()  # with all that in hand
        rig.start()
        rig.drain("a")
        equal([r["message"] for r in rig.log("a")], text.splitlines() + ["another"])
        equal([r["message"] for r in rig.spool("a")], text.splitlines() + ["another"])
        check(all("seq" not in r or rig_seq(rig, r) for r in rig.log("a")), "sequence numbers in the log are right")


def rig_seq(rig, r, cache={}):
    if rig not in cache:
        cache.clear()
        cache[rig] = {s["seq"]: s["message"] for s in rig.spool()}
    return cache[rig].get(r["seq"]) == r["message"]


def test_beyond_a_mebibyte_lines_are_dropped_and_counted(p):
    with Rig(p) as rig:
        rig.start()
        rig.add("a")
        rig.write("a", "first\n")
        rig.drain("a")
        resource.prlimit(rig.process.pid, resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
        total = 40000
        rig.write("a", "".join(f"line {i}\n" for i in range(total)))
        rig.wait_empty()
        rig.wait_message("problem", daemon="a")
        resource.prlimit(rig.process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        told = rig.wait_message("problem", daemon="a")["title"]
        check("lines dropped" in told, told)
        wait_until(lambda: sum("dropped" in r["message"] for r in rig.log("a")) == 1 and
                   sum("dropped" in r["message"] for r in rig.spool()) == 1, "notices")
        for records in (rig.log("a"), rig.spool()):
            lines = [r["message"] for r in records if r["message"].startswith("line")]
            notice = [r for r in records if "dropped" in r["message"]]
            check(lines == [f"line {i}" for i in range(len(lines))], "what was kept is the beginning")
            equal(int(notice[0]["message"].split()[0]) + len(lines), total)
            equal((notice[0]["level"], notice[0]["logger_name"]), ("WARNING", "supervise"))


def test_a_state_file_of_nonsense_is_set_aside(p):
    for nonsense in (b"x" * 100, b"svlogst\0" + b"\xff" * 6000000, os.urandom(5000)):
        with Rig(p) as rig:
            with open(f"{rig.runtime}/logger.state", "wb") as f:
                f.write(nonsense)
            rig.start()
            check("set aside" in rig.wait_message("problem")["title"], "told")
            equal(len(glob.glob(f"{rig.runtime}/logger.state.unreadable-*")), 1)
            rig.add("a")
            rig.write("a", "works\n")
            rig.drain("a")
            equal([r["message"] for r in rig.log("a")], ["works"])
        subprocess.run(["rm", "-rf", rig.runtime, rig.state], check=True)


def test_hostile_messages_are_refused(p):
    with Rig(p) as rig:
        rig.start()
        for m in (b"{", b"[]", b'{"op":"open","daemon":"../x"}', b'{"op":"open","daemon":"a","format":"xml"}', b'{"op":"open"}',
                  b'{"op":"none"}', b"\xff\0", json.dumps({"op": "open", "daemon": "a", "stage": "x" * 9000}).encode(),
                  json.dumps({"op": "open", "daemon": "no-fifo"}).encode()):
            rig.socket.send(m)
            rig.wait_message("problem")
        os.symlink("/etc/hostname", f"{rig.runtime}/fifo/l.out")
        rig.send({"op": "open", "daemon": "l"})
        rig.wait_message("problem")
        rig.add("a")
        rig.write("a", "works\n")
        rig.drain("a")
        equal([r["message"] for r in rig.log("a")], ["works"])


def test_two_thousand_idle_streams_cost_little_and_no_wakeup(p):
    with Rig(p) as rig:
        rig.start()
        before = private_kib(rig.process.pid)
        n = 200 if resource.getrlimit(resource.RLIMIT_NOFILE)[0] < 5000 else 1000
        for i in range(n):
            rig.add(f"d/{i}")
        rig.drain(f"d/{n - 1}")
        wait_until(lambda: switches(rig.process.pid) == (time.sleep(0.3), switches(rig.process.pid))[1], "no more wakeups")
        equal([m for m in rig.messages if m["op"] == "problem"], [])
        grown = private_kib(rig.process.pid) - before
        if SCALE == 1:  # the sanitizers have memory of their own
            check(grown < 1536 * n // 1000, f"{grown} KiB for {2 * n} streams")
        print(f"# {2 * n} idle streams: {grown} KiB private, {private_kib(rig.process.pid)} KiB in all")


def private_kib(pid):
    with open(f"/proc/{pid}/smaps_rollup") as f:
        return sum(int(line.split()[1]) for line in f if line.startswith("Private_"))


def switches(pid):
    with open(f"/proc/{pid}/status") as f:
        return sum(int(line.split()[1]) for line in f if "ctxt_switches" in line)


if __name__ == "__main__":
    main()
