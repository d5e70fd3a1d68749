# SPDX-License-Identifier: Apache-2.0
"""The examples as the demo runs them: a real redis, a C++ worker that crashes on bad input, a Python pipeline that raises."""
import json
import os
import re
import shutil
import subprocess

from harness import BIN, assert_each_once, check, equal, kill9, main, wait_until

EXAMPLES = os.environ["SUPERVISE_EXAMPLES"]
WORKER = os.environ["SUPERVISE_WORKER"]


def up(p):
    p.env.update(WORK=f"{p.dir}/work", WORKER=WORKER)
    p.config({}, include=[f"{EXAMPLES}/{n}/{n}.yaml" for n in ("redis", "worker", "pipeline")])
    p.run("up", "--wait")


def job(p, kind, name):
    """As a person would: copied to the side, then moved in whole."""
    shutil.copy(f"{EXAMPLES}/worker/{kind}.job", f"{p.dir}/work/{name}")
    os.rename(f"{p.dir}/work/{name}", f"{p.dir}/work/worker/inbox/{name}")


def crash_line():
    with open(f"{EXAMPLES}/worker/worker.cpp") as f:
        return next(i for i, text in enumerate(f, 1) if "if (lines == 0)" in text)


def redis(p, *args):
    r = subprocess.run(["redis-cli", "-s", f"{p.dir}/work/redis/redis.sock", *args], capture_output=True, text=True)
    return r.stdout.strip() if r.returncode == 0 else None


def crash_worker(p, name):
    old = p.pid_of("worker")
    job(p, "bad", name)
    wait_until(lambda: p.pid_of("worker") not in (0, old), "another worker")
    wait_until(lambda: os.path.exists(f"{p.dir}/work/worker/failed/{name}"), f"{name} in failed/")


def events(p, daemon, kind="process_crash"):
    return p.sql("select id, title, details from pipeline_events where event_type = ? and daemon = ? order by seq", kind, daemon)


def test_every_example_is_a_valid_configuration(p):
    for name in ("demo.yaml", "redis/redis.yaml", "worker/worker.yaml", "pipeline/pipeline.yaml"):
        p.run("-c", f"{EXAMPLES}/{name}", "check")


def test_the_configuration_in_the_readme_is_valid(p):
    with open(f"{EXAMPLES}/../README.md") as f:
        p.write("supervise.yaml", f.read().split("```yaml\n")[1].split("```")[0])
    p.run("check")


def test_worker_crash_names_function_and_line_in_report_event_and_log(p):
    up(p)
    job(p, "good", "one.job")
    wait_until(lambda: os.path.exists(f"{p.dir}/work/worker/done/one.job"), "one.job is done")
    crash_worker(p, "two.job")
    where = f"worker.cpp:{crash_line()}"
    (id_, title, details), = wait_until(lambda: events(p, "worker"), "the event")
    check("Section::get" in title and where in title, title)
    details = json.loads(details)
    equal(details["crash_id"], id_)
    equal(details["signal"], "SIGSEGV")
    report, = [r for r in p.reports() if r["daemon"] == "worker"]
    equal(report["crash_id"], id_, "one id in report and event")
    check("Section::get" in report["summary"]["where"] and where in report["summary"]["where"], report["summary"])
    for name in ("Section::get", "read_settings", "resample", "Worker::process", "Worker::run"):
        check(name in report["traceback"], f"{name} is in the traceback:\n{report['traceback']}")
    check(len(report["threads"]) == 4, f"main and three threads: {len(report['threads'])}")
    equal((report["experiment"], report["stage"], report["exit"]["signal"]), ("demo", "resample", "SIGSEGV"))
    rows = wait_until(lambda: p.sql("select id, message, traceback, context, stage from pipeline_logs "
                                    "where level = 'ERROR' and daemon = 'worker'"), "the ERROR log")
    equal(len(rows), 1)
    equal(rows[0][0], id_, "one id in event and log")
    check("Section::get" in rows[0][1] and where in rows[0][2], rows)
    equal(json.loads(rows[0][3])["crash_id"], id_)
    equal(rows[0][4], "resample")
    shown = p.run("crash", "show", "worker").stdout
    check("Section::get" in shown.splitlines()[0] and where in shown.splitlines()[0], shown)
    status = p.run("status", code=None).stdout
    check("SIGSEGV" in status and "Section::get" in status, status)


def test_worker_is_back_within_its_backoff_and_goes_on(p):
    up(p)
    crash_worker(p, "bad.job")
    d = p.wait_state("worker", "running")
    equal(d["restarts"], 1)
    ended, = p.sql("select timestamp from pipeline_events where event_type = 'process_crash'") or wait_until(
        lambda: p.sql("select timestamp from pipeline_events where event_type = 'process_crash'"), "the event")
    rows = wait_until(lambda: p.sql("select timestamp from pipeline_events where event_type = 'process_start' and "
                                    "daemon = 'worker' order by timestamp")[1:], "the second start")
    gap = seconds(rows[0][0]) - seconds(ended[0])
    # delay 200 ms, jitter 20 %; what is above is the machine
    check(0.15 <= gap <= 0.25 + 1.0, f"restarted after {gap:.3f} s")
    job(p, "good", "after.job")
    wait_until(lambda: os.path.exists(f"{p.dir}/work/worker/done/after.job"), "the next job is done")


def seconds(timestamp):
    h, m, s = re.search(r"T(\d+):(\d+):([\d.]+)Z", timestamp).groups()
    return int(h) * 3600 + int(m) * 60 + float(s)


def test_every_numbered_line_of_every_incarnation_is_there_once(p):
    up(p)
    for i in range(4):
        for k in range(5):
            job(p, "good", f"good-{i}-{k}.job")
        wait_until(lambda: len(os.listdir(f"{p.dir}/work/worker/done")) == 5 * (i + 1), "five more jobs")
        crash_worker(p, f"bad-{i}.job")
    p.run("down")
    p.assert_nothing_left()
    # file and store, each incarnation by itself
    by_run = {}
    for x in p.log_lines("worker"):
        m = re.match(r"line (\d+): ", x["message"])
        if m:
            by_run.setdefault(x["run"], []).append(int(m.group(1)))
    equal(len(by_run), 5, "incarnations")
    for got in by_run.values():
        assert_each_once(got, first=1)
    rows = p.sql("select run, message from pipeline_logs where daemon = 'worker' and message like 'line %' order by cursor")
    stored = {}
    for run, message in rows:
        stored.setdefault(run, []).append(int(re.match(r"line (\d+)", message).group(1)))
    equal(stored, by_run, "the store has what the file has")
    equal(len(p.reports()), 4 + 1, "four crashes and the pipeline")
    groups = {r["fingerprint"]["group"] for r in p.reports() if r["daemon"] == "worker"}
    equal(len(groups), 1, "the same crash four times is one group")


def test_redis_killed_is_running_again_with_its_data(p):
    up(p)
    wait_until(lambda: redis(p, "ping") == "PONG", "redis answers")
    equal(redis(p, "set", "greeting", "hello"), "OK")
    old = p.pid_of("redis")
    kill9(old)
    wait_until(lambda: p.pid_of("redis") not in (0, old), "another redis")
    wait_until(lambda: redis(p, "ping") == "PONG", "redis answers")
    equal(redis(p, "get", "greeting"), "hello")
    (_, title, details), = wait_until(lambda: events(p, "redis"), "the event")
    equal(json.loads(details)["signal"], "SIGKILL")
    check(p.daemon("redis")["last_exit"]["cause"].startswith("SIGKILL"), p.daemon("redis"))
    p.run("stop", "redis")
    equal(p.daemon("redis")["last_exit"]["failure"], False, "redis ends cleanly when asked")


def test_pipeline_failure_is_recorded_with_both_exceptions(p):
    up(p)
    p.wait_state("pipeline", "exited", "failed")
    rows = wait_until(lambda: p.sql("select message, traceback from pipeline_logs where daemon = 'pipeline' and "
                                    "level = 'ERROR' and traceback like '%direct cause%'"), "the traceback")
    message, traceback = rows[0]
    check("ValueError: expected 12 columns, found 11" in traceback and "KeyError: 'c11'" in traceback, traceback)
    (_, title, details), = wait_until(lambda: events(p, "pipeline", "process_failure"), "the event")
    equal(json.loads(details)["exit_code"], 1)
    lines = [x["message"] for x in p.log_lines("pipeline")]
    equal([m for m in lines if m.startswith("load: ")], [f"load: shard {i}/10" for i in range(1, 11)])
    check("ValueError" in p.run("status", code=None).stdout or "exit 1" in p.run("status", code=None).stdout, "status")


def test_the_demo_itself_runs_to_its_end(p):
    r = subprocess.run([f"{EXAMPLES}/demo"], env={**p.env, "SUPERVISE": BIN, "WORKER": WORKER, "TMPDIR": p.dir},
                       stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120)
    equal(r.returncode, 0, r.stdout + r.stderr)
    for text in ("Section::get", "still here", "ValueError", "process_crash", "SIGKILL"):
        check(text in r.stdout, f"{text} in:\n{r.stdout}")


main()
