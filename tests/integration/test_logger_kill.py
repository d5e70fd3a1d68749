# SPDX-License-Identifier: Apache-2.0
"""kill -9 of the logger, at random moments and before each of its system calls: every line once, in both places."""
import json
import os
import random
import shutil
import subprocess
import time

from harness import SCALE, Failure, equal, main
from logger_rig import Rig, Writer, joined


def same(got, expected, what):
    if got != expected:
        at = next((i for i, (a, b) in enumerate(zip(got, expected)) if a != b), min(len(got), len(expected)))
        raise Failure(f"{what}: {len(got)} lines, written {len(expected)}; first difference at {at}: "
                      f"{got[at:at + 1]!r:.200} is not {expected[at:at + 1]!r:.200}")


def assert_all_there(rig, writers):
    for (name, end), w in writers.items():
        stream = "stdout" if end == "out" else "stderr"
        if rig.settings[name]["format"] == "json":
            same(joined(rig.log(name), stream), w.lines, f"{name} {stream} in the log")
        elif rig.settings[name]["format"] == "raw":
            equal(rig.log_bytes(name) == bytes(w.data), True, f"{name}: bytes of format raw")
        if rig.settings[name]["store"]:
            same(joined(rig.spool(name), stream), w.lines, f"{name} {stream} in the spool")
    equal([x for x in os.listdir(rig.runtime) if "unreadable" in x], [])
    ids = [r["id"] for r in rig.spool()]
    equal(len(ids), len(set(ids)), "ids are distinct")


def run_and_kill(p, kills, pause, daemons, seed):
    rng = random.Random(seed)
    with Rig(p) as rig:
        for name, settings in daemons.items():
            rig.add(name, **settings)
        rig.start()
        writers = {(name, end): Writer(rig, name, end, rng.random()) for name, s in daemons.items()
                   for end in (("out",) if s.get("format") == "raw" else ("out", "err"))}
        for w in writers.values():
            w.start()
        for _ in range(kills):
            time.sleep(rng.random() * pause)
            rig.kill()
            rig.start(ready=rng.random() < 0.5)  # half the time killed during recovery or soon after
        for w in writers.values():
            w.ending.set()
        rig.kill()
        rig.start()
        for w in writers.values():
            w.end()
        for name in daemons:
            equal(rig.drain(name)["complete"], True)
        equal(rig.stop(), 0)
        print(f"# {kills} kills, {sum(len(w.lines) for w in writers.values())} lines")
        assert_all_there(rig, writers)


def test_killed_at_random_moments_it_loses_and_doubles_nothing(p):
    run_and_kill(p, int(os.environ.get("SUPERVISE_TEST_KILLS", 100)), 0.02, {"a": {}, "b": {}}, 1)


def test_killed_at_random_moments_while_rotating_and_compressing(p):
    run_and_kill(p, 50, 0.03, {"a": {"max_size": 200000, "keep": 100000, "compress": "zstd"},
                                "r": {"max_size": 100000, "keep": 100000, "format": "raw"}}, 2)


def test_killed_before_each_system_call_it_loses_and_doubles_nothing(p):
    if not shutil.which("strace"):
        print("# no strace here: skipped")
        return
    tries = 0
    with Rig(p) as rig:
        rig.add("a", max_size=3000, keep=100000)
        written = []
        for call in ("ioctl", "tee", "read", "write", "fstat,newfstatat", "openat", "rename,renameat,renameat2",
                     "ftruncate", "fallocate", "epoll_wait", "getrandom", "unlinkat,unlink", "pread64"):
            for when in range(1, 14):
                killer = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={call}", "-e",
                          f"inject={call}:signal=SIGKILL:when={when}"]
                rig.start(*killer, ready=False, stderr=subprocess.DEVNULL)
                for part in range(3):
                    text = [f"line {len(written) + i} " + "x" * (50 * (i % 7)) for i in range(5)]
                    written += text
                    data = "\n".join(text) + "\n"
                    try:
                        rig.write("a", data[:30])
                        rig.write("a", data[30:])
                        rig.send({"op": "drain", "daemon": "a", "id": "x", "deadline_ms": 0} if part == 1 else
                                 rig.settings["a"])
                    except OSError:
                        pass
                    rig.receive(0.01)
                rig.socket.close()  # whoever was not killed ends by itself
                rig.process.wait(60 * SCALE)
                rig.process = None
                tries += 1
        rig.start()
        rig.drain("a")
        rig.stop()
        got = [r["message"] for r in rig.log("a")]
        same(split_at_drains(rig.log("a")), "".join(x + "\n" for x in written), "log")
        same(split_at_drains(rig.spool()), "".join(x + "\n" for x in written), "spool")
        print(f"# {tries} kills, {len(got)} lines")


def split_at_drains(records):
    """The bytes again: a drain may have ended a line early, which then is marked."""
    out = ""
    for r in records:
        context = json.loads(r["context"]) if isinstance(r.get("context"), str) else r
        out += r.get("message", "") + ("" if context.get("partial") else "\n")
    return out


if __name__ == "__main__":
    main()
