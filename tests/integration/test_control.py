# SPDX-License-Identifier: Apache-2.0
"""Starting, stopping, restarting, giving up: what a person at the terminal sees."""
import json
import os
import signal
import subprocess
import threading

from harness import BIN, alive, check, equal, kill9, main, wait_until


def test_up_runs_everything_and_down_leaves_nothing(p):
    p.config({"a": {"command": ["sleep", "1000"]}, "b": {"command": ["sleep", "1000"], "autostart": False}})
    p.run("up", "--wait")
    s = p.status()
    equal((s["a"]["state"], s["b"]["state"]), ("running", "stopped"))
    equal(p.pid_of("a"), s["a"]["pid"])
    p.run("down")
    p.assert_nothing_left()
    equal(p.run("status", code=None).returncode, 3, "status without a supervisor")


def test_start_is_idempotent_and_two_at_once_start_one_supervisor(p):
    p.config({"a": {"command": ["sleep", "1000"]}})
    threads = [threading.Thread(target=p.run, args=("start", "a")) for _ in range(6)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    procs = p.processes().values()
    equal(sum("supervise-keeper" in x for x in procs), 1, list(procs))
    equal(sum(x.startswith("sleep") for x in procs), 1, list(procs))


def test_exec_failure_is_told_to_the_caller_with_errno_and_path(p):
    p.config({"a": {"command": ["./nothing-here"], "restart": "never"}})
    r = p.run("start", "a", code=1)
    check("./nothing-here" in r.stderr and "No such file or directory" in r.stderr, r.stderr)
    wait_until(lambda: p.sql("select 1 from pipeline_events where event_type = 'exec_failure'"), "an exec_failure event")


def test_bad_directory_is_told(p):
    p.config({"a": {"command": ["true"], "directory": "/nonexistent/folder", "restart": "never"}})
    r = p.run("start", "a", code=1)
    check("chdir /nonexistent/folder" in r.stderr, r.stderr)


def test_stop_leaves_no_survivor_plain_or_setsid(p):
    p.config({"a": {"command": ["sh", "-c", "sleep 1001 & setsid sleep 1002 & (setsid setsid sleep 1003 &) ; wait"],
                    "stop": {"timeout": "2s"}}})
    p.run("up", "--wait")
    wait_until(lambda: sum("sleep 100" in x and "sh -c" not in x for x in p.processes().values()) == 3, "three children")
    p.run("stop", "a")
    left = [x for x in p.processes().values() if x.startswith("sleep")]
    equal(left, [])


def test_stubborn_daemon_is_killed_after_the_timeout(p):
    p.config({"a": {"command": ["sh", "-c", "trap '' TERM; echo ready; while :; do sleep 1; done"],
                    "stop": {"timeout": "300ms"}}})
    p.run("up", "--wait")
    wait_until(lambda: p.log_lines("a"), "ready")
    p.run("stop", "a")
    d = p.daemon("a")
    equal(d["state"], "stopped")
    check("did not stop within" in d["last_exit"]["cause"], d)
    wait_until(lambda: p.sql("select 1 from pipeline_events where event_type = 'stop_killed'"), "a stop_killed event")


def test_stopped_process_is_continued_so_that_it_can_stop(p):
    p.config({"a": {"command": ["sleep", "1000"], "stop": {"timeout": "60s"}}})
    p.run("up", "--wait")
    os.kill(p.pid_of("a"), signal.SIGSTOP)
    p.run("stop", "a", timeout=20)
    equal(p.daemon("a")["state"], "stopped")


def test_too_many_restarts_give_up_and_say_so_everywhere(p):
    p.config({"a": {"command": ["sh", "-c", "exit 3"],
                    "restart": {"policy": "always", "delay": "1ms", "jitter": 0, "limit": 3, "window": "1h"}}})
    p.run("start", "--wait", "a", code=1)
    d = p.wait_state("a", "failed")
    equal(d["last_exit"]["cause"].startswith("exit 3"), True, d["last_exit"])
    rows = wait_until(lambda: p.sql("select title from pipeline_events where event_type = 'process_failed'"),
                      "a process_failed event")
    equal(len(rows), 1)
    equal(p.run("status", code=1).stdout.count("failed") >= 1, True)
    wait_until(lambda: p.registry()["daemons"].get("a", {}).get("state") == "failed", "failed in registry.json")


def test_clean_exit_with_on_failure_is_final(p):
    p.config({"a": {"command": ["true"]}})
    p.run("start", "a", code=None)
    p.wait_state("a", "exited")


def test_double_forking_daemon_is_followed(p):
    p.config({"a": {"command": ["sh", "-c", "sleep 1004 & exit 0"], "restart": "always"}})
    p.run("up")
    d = wait_until(lambda: (lambda d: d if d["state"] == "running" and "sleep" in open(
        f"/proc/{d['pid']}/cmdline").read() and "sh" not in open(f"/proc/{d['pid']}/cmdline").read() else None)(p.daemon("a")),
        "the background process is the daemon")
    equal(d["restarts"], 0)
    kill9(d["pid"])
    wait_until(lambda: p.daemon("a")["restarts"] >= 1, "restarted after the background process was killed")
    p.run("down")
    p.assert_nothing_left()


def test_globs_instances_and_unknown_names(p):
    p.config({"train": {"command": ["sleep", "1000"], "instances": 2}, "web": {"command": ["sleep", "1000"]}})
    p.run("start", "tr*")
    s = p.status()
    equal([s[n]["state"] for n in ("train/0", "train/1", "web")], ["running", "running", "stopped"])
    p.run("stop", "train")
    equal({n: d["state"] for n, d in p.status().items()}, {"train/0": "stopped", "train/1": "stopped", "web": "stopped"})
    r = p.run("start", "wbe", code=4)
    check("web" in r.stderr, r.stderr)


def test_signal_reaches_the_process(p):
    p.config({"a": {"command": ["sh", "-c", "trap 'echo got-usr1' USR1; echo ready; while :; do sleep 0.05; done"]}})
    p.run("up", "--wait")
    wait_until(lambda: any(x["message"] == "ready" for x in p.log_lines("a")), "ready")
    p.run("signal", "USR1", "a")
    wait_until(lambda: any(x["message"] == "got-usr1" for x in p.log_lines("a")), "the trap's line")


def test_reload_applies_only_what_changed(p):
    p.config({"a": {"command": ["sleep", "1000"]}, "b": {"command": ["sleep", "1001"]}, "c": {"command": ["sleep", "1002"]}})
    p.run("up", "--wait")
    before = p.status()
    p.config({"a": {"command": ["sleep", "1000"]}, "b": {"command": ["sleep", "2001"]}, "d": {"command": ["sleep", "1003"]}})
    plan = p.run("reload", "--dry-run")
    equal({n: d["pid"] for n, d in p.status().items()}, {n: d["pid"] for n, d in before.items()}, "dry run")
    check("b" in plan.stdout + plan.stderr and "d" in plan.stdout + plan.stderr, plan)
    p.run("reload")
    s = wait_until(lambda: (lambda s: s if set(s) == {"a", "b", "d"} and all(
        d["state"] == "running" for d in s.values()) else None)(p.status()), lambda: f"a, b, d running: {p.status()}")
    equal(s["a"]["pid"], before["a"]["pid"], "a is untouched")
    check(s["b"]["pid"] != before["b"]["pid"], "b was restarted")
    check(not alive(before["c"]["pid"]), "c was removed")


def test_bad_file_changes_nothing(p):
    p.config({"a": {"command": ["sleep", "1000"]}})
    p.run("up", "--wait")
    pid = p.pid_of("a")
    p.write("supervise.yaml", "version: 1\nname: t\ndaemons:\n  a:\n    comand: [sleep, '1000']\n    autostrt: true\n")
    r = p.run("reload", code=78)
    check(":5:5: error:" in r.stderr and "'command'" in r.stderr and "'autostart'" in r.stderr, r.stderr)
    check(alive(pid) and p.pid_of("a") == pid, "nothing running was touched")


def test_run_hands_on_exit_code_signal_and_output(p):
    r = p.run("run", "--", "sh", "-c", "echo out; echo err >&2; exit 7", code=7)
    check("out" in r.stdout and "err" in r.stderr, r)
    r = p.run("run", "--", "sh", "-c", "kill -TERM $$", code=-signal.SIGTERM)
    equal(p.run("run", "--", "./no-such-program", code=None).returncode, 127)
    equal(p.run("run", "--", "true").stdout, "")


def test_run_goes_on_when_its_supervisor_is_killed(p):
    p.runtime = f"{p.dir}/run/run"
    r = {}
    t = threading.Thread(target=lambda: r.update(p=p.run("run", "--", "sh", "-c",
                                                         "echo before; while [ ! -e go ]; do sleep 0.02; done; echo after; exit 9",
                                                         code=None)))
    t.start()
    wait_until(lambda: p.pid_of("supervisor"), "a supervisor")
    wait_until(lambda: any(x.startswith("sh -c") for x in p.processes().values()), "the command")
    old = p.pid_of("supervisor")
    kill9(old)
    wait_until(lambda: p.pid_of("supervisor") not in (0, old), "a new supervisor")
    p.write("go", "")
    t.join(30)
    equal((r["p"].returncode, r["p"].stdout), (9, "before\nafter\n"), r["p"].stderr)


def test_many_daemons_do_not_mean_many_rewrites(p):
    p.config({"d": {"command": ["sleep", "1000"], "instances": 200}})
    p.run("up", "--wait", timeout=120)
    wait_until(lambda: len([1 for d in p.registry()["daemons"].values() if d["pid"]]) == 200, "200 in registry.json")
    serials = p.registry()
    check(isinstance(serials["version"], int), "version")
    p.run("down", timeout=120)
    p.assert_nothing_left()


def test_garbage_in_the_registry_is_set_aside_and_daemons_are_found_again(p):
    p.config({"a": {"command": ["sleep", "1000"]}})
    p.run("up", "--wait")
    pid = p.pid_of("a")
    ours = [p.pid_of(n) for n in ("keeper", "supervisor", "logger", "writer")]
    for sig in (signal.SIGSTOP, signal.SIGKILL):  # none may replace another meanwhile
        for n in ours:
            os.kill(n, sig)
    wait_until(lambda: not any(alive(n) for n in ours), "all dead")  # a dying one still takes connections
    for f in ("registry.json", "registry.journal"):
        with open(f"{p.runtime}/{f}", "w") as out:
            out.write('{"version": 1, "daemons": {"a": {"pid": \x00garbage')
    p.run("up", "--wait")
    equal(p.daemon("a")["pid"], pid, "found by its environment")
    check(any("damaged" in f for f in os.listdir(p.runtime)), os.listdir(p.runtime))


main()
