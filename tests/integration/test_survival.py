# SPDX-License-Identifier: Apache-2.0
"""kill -9 of each of our processes, and of all of them, while daemons write numbered lines."""
import os
import random
import signal

from harness import (Failure, alive, assert_each_once, check, equal, kill9, main, numbers, wait_until)

# the trap only sets a flag: a line that it printed itself could come between echo and counting
WRITER = ["sh", "-c", """i=0; stop=; trap 'stop=1' TERM
while [ -z "$stop" ]; do echo "line $i"; i=$((i+1)); [ $((i % 50)) = 0 ] && sleep 0.01; done; echo "line $i" """]


def parent(pid):
    try:
        with open(f"/proc/{pid}/stat") as f:
            return int(f.read().rsplit(")", 1)[1].split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return 0


def start(p, **daemon):
    p.config({"w": {"command": WRITER, "stop": {"timeout": "20s"}, **daemon}}, monitoring={"log_flush_interval": 1})
    p.run("up", "--wait")
    wait_until(lambda: len(p.log_lines("w")) > 100, "first lines")
    return p.pid_of("w")


def finish(p, pid):
    """Stops the daemon in the ordinary way: then every line it ever wrote is in file and store, once."""
    check(alive(pid), "the daemon lives")
    equal(p.pid_of("w"), pid, "no second copy was started")
    # a child of the shell's own looks like the shell until it has executed sleep
    mine = [n for n, x in p.processes().items() if "line $i" in x and "supervise" not in x and parent(n) != pid]
    equal(len(mine), 1, f"copies of the daemon: {mine}")
    p.run("stop", "w")
    check(not alive(pid), "stopped")
    got = numbers(p.log_lines("w"))
    p.run("down")
    p.assert_nothing_left()
    final = numbers(p.log_lines("w"))
    check(len(final) >= len(got), "lines")
    assert_each_once(final)
    rows = [int(m.split()[1]) for m, in p.sql("select message from pipeline_logs where logger_name = 'stdout' order by seq")]
    equal(len(rows), len(final), "rows in the store")
    assert_each_once(rows)


def kill_and_wait(p, *names):
    pids = [p.pid_of(n) for n in names]
    check(all(pids), f"running: {dict(zip(names, pids))}")
    if len(pids) > 1:  # at once: none of them may react to the end of another
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
    for pid in pids:
        kill9(pid)
    for pid in pids:
        wait_until(lambda: not alive(pid), f"{pid} dead")


def back(p, name, old):
    wait_until(lambda: p.pid_of(name) not in (0, old) and alive(p.pid_of(name)), f"a new {name}")


def survive_kills_of(p, name, times):
    pid = start(p)
    for _ in range(times):
        old = p.pid_of(name)
        before = len(p.log_lines("w"))
        kill_and_wait(p, name)
        back(p, name, old)
        wait_until(lambda: len(p.log_lines("w")) > before, "more lines")
        wait_until(lambda: p.run("status", code=None).returncode == 0, "the supervisor answers")
    finish(p, pid)


def test_logger_killed_again_and_again_loses_and_doubles_no_line(p):
    survive_kills_of(p, "logger", 12)


def test_writer_killed_again_and_again_loses_and_doubles_no_row(p):
    survive_kills_of(p, "writer", 8)


def test_supervisor_killed_again_and_again_keeps_daemons_and_lines(p):
    survive_kills_of(p, "supervisor", 8)


def test_keeper_killed_is_replaced_and_daemons_stay(p):
    pid = start(p)
    for _ in range(3):
        old = p.pid_of("keeper")
        kill_and_wait(p, "keeper")
        back(p, "keeper", old)
        wait_until(lambda: p.run("status", code=None).returncode == 0, "the supervisor answers")
    finish(p, pid)


def test_supervisor_logger_and_writer_killed_at_once(p):
    pid = start(p)
    for _ in range(4):
        old = {n: p.pid_of(n) for n in ("supervisor", "logger", "writer")}
        kill_and_wait(p, "supervisor", "logger", "writer")
        for n in old:
            back(p, n, old[n])
        wait_until(lambda: p.run("status", code=None).returncode == 0, "the supervisor answers")
    finish(p, pid)


def test_all_of_ours_killed_then_up_again_adopts(p):
    pid = start(p)
    kill_and_wait(p, "keeper", "supervisor", "logger", "writer")
    check(alive(pid), "the daemon lives without any of us")
    p.run("up", "--wait")
    equal(p.daemon("w")["pid"], pid, "adopted")
    finish(p, pid)


def test_exit_status_during_the_gap_is_known(p):
    p.config({"d": {"command": ["sleep", "1000"], "restart": "never"}})
    p.run("up", "--wait")
    pid, supervisor = p.pid_of("d"), p.pid_of("supervisor")
    os.kill(supervisor, signal.SIGSTOP)  # blind first, so that it cannot see the end
    os.kill(pid, signal.SIGUSR1)
    kill9(supervisor)
    d = p.wait_state("d", "exited", "failed")
    check("SIGUSR1" in d["last_exit"]["cause"], d["last_exit"])


def test_exit_status_is_never_invented_when_keeper_and_supervisor_were_gone(p):
    p.config({"d": {"command": ["sleep", "1000"], "restart": "never"}})
    p.run("up", "--wait")
    pid = p.pid_of("d")
    kill_and_wait(p, "keeper", "supervisor")
    kill9(pid)
    wait_until(lambda: not alive(pid), "daemon dead")
    p.run("start", "d", code=None)
    rows = wait_until(lambda: p.sql("select event_type, title from pipeline_events where event_type in "
                                    "('exit_unknown', 'process_crash')"), "its end as an event")
    # Linux 6.15 and later may still know (PIDFD_GET_INFO); older ones cannot, and that is said
    check(len(rows) == 1 and ("unknown" if rows[0][0] == "exit_unknown" else "SIGKILL") in rows[0][1], rows)


def test_a_crash_while_the_supervisor_is_dead_is_reported_once(p):
    p.config({"d": {"command": ["sleep", "1000"], "restart": {"policy": "always", "delay": "0s"}}})
    p.run("up", "--wait")
    for _ in range(5):
        pid, supervisor = p.wait_state("d", "running")["pid"], p.pid_of("supervisor")
        os.kill(supervisor, signal.SIGSTOP)
        os.kill(pid, signal.SIGABRT)
        kill9(supervisor)
        wait_until(lambda: p.pid_of("d") not in (0, pid) and alive(p.pid_of("d")), "restarted")
    wait_until(lambda: len(p.sql("select id from pipeline_events where event_type = 'process_crash'")) == 5,
               lambda: f"five crash events: {p.sql('select event_type, title from pipeline_events')}")
    p.run("down")
    equal(len(p.sql("select distinct id from pipeline_events where event_type = 'process_crash'")), 5)
    equal(len(p.reports()), 5, "reports")


def test_supervisor_killed_at_random_moments_of_starting_and_stopping(p):
    names = [f"d{i}" for i in range(10)]
    p.config({n: {"command": ["sleep", "1000"], "restart": "always"} for n in names})
    p.run("up", "--wait")
    rng = random.Random(7)
    for _ in range(12):
        verb = rng.choice(["stop", "start", "restart"])
        chosen = rng.sample(names, 4)
        from threading import Timer
        victim = p.pid_of("supervisor")
        timer = Timer(rng.random() * 0.05, lambda: alive(victim) and kill9(victim))
        timer.start()
        p.run(verb, *chosen, code=None)
        timer.join()
        wait_until(lambda: p.run("status", code=None).returncode in (0, 1), "the supervisor answers")
    p.run("start", "all", "--wait")
    sleeps = [x for x in p.processes().values() if x.startswith("sleep")]
    equal(len(sleeps), 10, f"one process each: {sleeps}")
    p.run("down")
    p.assert_nothing_left()


main()
