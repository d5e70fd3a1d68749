# SPDX-License-Identifier: Apache-2.0
"""What the verbs say: names, exit codes, JSON by its schemas, logs from store, spool and files, completion."""
import json
import os
import re
import shutil
import signal
import subprocess

import schema
from harness import BIN, check, equal, main, wait_until

SCHEMAS = os.path.join(os.environ.get("SUPERVISE_SOURCE", os.path.join(os.path.dirname(__file__), "..", "..")), "cli", "schema")

TALKER = ["sh", "-c", "i=0; while [ $i -lt 30 ]; do echo line $i; i=$((i+1)); done; echo ERROR: it broke >&2; exec sleep 1000"]
CRASHER = ["sh", "-c", "echo last words; kill -SEGV $$$$"]  # $$ is a dollar sign in the file


def fits(name, value):
    with open(os.path.join(SCHEMAS, name + ".json"), encoding="utf-8") as f:
        found = schema.problems(value, json.load(f))
    check(not found, f"{name}: " + "; ".join(found[:5]))


def talk(p, **more):
    p.config({"a": {"command": TALKER, "experiment": "exp-1", "stage": "fit"}, **more})
    p.run("up", "--wait")
    wait_until(lambda: "it broke" in p.run("logs", "a").stdout, "the last line")


def test_every_verb_explains_itself(p):
    listed = [line.split()[0] for line in p.run("help").stdout.splitlines() if line.startswith("  ")]
    check(len(listed) > 20 and "__complete" not in listed, listed)
    for verb in listed:
        text = p.run("help", verb).stdout
        check(text.startswith(f"usage: supervise {verb}"), text)
        equal(p.run(verb, "--help").stdout, text)
        check(all(len(line) <= 110 for line in text.splitlines()), f"{verb}: a line is too long")


def test_mistakes_are_answered_with_what_was_meant(p):
    p.config({"web": {"command": ["sleep", "1000"]}})
    for args, word in ((("statsu",), "status"), (("logs", "--sincee", "1h"), "--since"), (("crash", "shwo"), "show"),
                       (("destroy",), "help"), (("validat",), "check")):
        r = p.run(*args, code=64)
        check(word in r.stderr and r.stderr.startswith("supervise: ") and not r.stdout, r.stderr)
    p.run("up")
    r = p.run("stop", "wbe", code=4)
    check("'web'" in r.stderr, r.stderr)
    r = p.run("logs", "wbe", code=4)
    check("'web'" in r.stderr, r.stderr)
    r = p.run("logs", "--since", "soon", code=64)
    check("RFC 3339" in r.stderr, r.stderr)
    r = p.run("logs", "--grep", "a(", code=64)
    check("at character" in r.stderr, r.stderr)
    r = p.run("status", "--columns", "name,nothing", code=64)
    check("LAST EXIT" in r.stderr, r.stderr)


def test_status_codes_are_those_of_the_lsb(p):
    p.config({"up": {"command": ["sleep", "1000"]}, "off": {"command": ["sleep", "1000"], "autostart": False},
              "bad": {"command": ["sh", "-c", "exit 3"], "restart": "never", "autostart": False}})
    p.run("status", code=3)
    p.run("status", "up", code=4)
    p.run("up", "--wait")
    p.run("status", code=0)
    p.run("status", "up", code=0)
    p.run("status", "off", code=3)
    p.run("status", "nothing", code=4)
    p.run("start", "bad", code=None)
    p.wait_state("bad", "exited")
    p.run("status", "bad", code=1)
    p.run("status", code=1)
    p.run("down")
    r = p.run("status", code=3)
    check("no supervisor runs" in r.stdout and "bad" in r.stdout and "exit 3" in r.stdout, r.stdout)
    p.run("stop", "up", code=69)


def test_json_is_as_its_schema_says(p):
    talk(p, b={"command": CRASHER, "restart": "never", "autostart": False})
    fits("status", p.json("status"))
    fits("daemon", p.json("show", "a"))
    fits("action", p.json("restart", "a"))
    p.run("start", "b", code=None)
    wait_until(p.reports, "a report", 40)
    fits("status", p.json("status", code=1))
    for line in p.ndjson("logs"):
        fits("log", line)
    wait_until(lambda: any(e["event_type"] == "process_crash" for e in p.ndjson("events")), "the event of the crash")
    for line in p.ndjson("events"):
        fits("event", line)
    p.config({"a": {"command": ["sleep", "5000"]}})
    fits("reload", p.json("reload"))
    fits("doctor", p.json("doctor", code=None))
    fits("version", p.json("version"))
    fits("check", p.json("check"))
    fits("action", p.json("stop", "a"))
    p.run("down")
    fits("status", p.json("status", code=3))
    p.write("supervise.yaml", "version: 1\nname: t\ndaemons:\n  a: {comand: x}\n")
    wrong = p.json("check", code=78)
    fits("check", wrong)
    check(not wrong["ok"] and wrong["problems"][0]["line"] == 4, wrong)
    for name in ("schema", "show"):
        p.write("supervise.yaml", '{"version":1,"name":"t","daemons":{}}')
        json.loads(p.run("config", name, code=None).stdout or "{}")


def test_logs_are_filtered(p):
    talk(p)
    equal(len(p.run("logs", "-n", "5").stdout.splitlines()), 5)
    equal([r["message"] for r in p.ndjson("logs", "--search", "LINE 2", "-n", "3")], ["line 27", "line 28", "line 29"])
    equal([r["message"] for r in p.ndjson("logs", "--grep", r"^line [45]$")], ["line 4", "line 5"])
    equal([r["message"] for r in p.ndjson("logs", "--grep", "^line", "--invert")], ["ERROR: it broke"])
    equal(len(p.ndjson("logs", "--level", "ERROR")), 1)
    equal(len(p.ndjson("logs", "--level", "=INFO", "--limit", "0")), 30)
    equal(len(p.ndjson("logs", "--stream", "err")), 1)
    equal(len(p.ndjson("logs", "exp-1")), 31, "a word that is no daemon is an experiment")
    equal(len(p.ndjson("logs", "-e", "exp-1", "--stage", "fit", "-d", "a*")), 31)
    equal(len(p.ndjson("logs", "-e", "other")), 0)
    equal(len(p.ndjson("logs", "--pid", str(p.pid_of("a")))), 31)
    equal(len(p.ndjson("logs", "a", "--since", "start")), 31)
    equal(len(p.ndjson("logs", "--until", "1h")), 0)
    equal(p.run("logs", "--raw", "-n", "2", "--stream", "out").stdout, "line 28\nline 29\n")
    equal(p.ndjson("logs", "--reverse", "--stream", "out", "-n", "2")[0]["message"], "line 29")
    context = p.run("logs", "--grep", "line (3|20)$", "-C", "1").stdout.splitlines()
    equal([line.split()[-1] for line in context], ["2", "3", "4", "--", "19", "20", "21"])
    r = p.run("logs", "--limit", "3")
    check("left out" in r.stderr, "a cut result says so")
    check("left out" not in p.run("logs").stderr, "a whole one does not")
    p.run("down")
    equal(len(p.ndjson("logs")), 31, "without a supervisor")


def test_the_last_line_is_there_while_the_writer_is_down(p):
    talk(p)
    os.kill(p.pid_of("writer"), signal.SIGSTOP)
    before = len(p.ndjson("logs"))
    p.run("restart", "a")
    wait_until(lambda: len(p.ndjson("logs")) == before + 31, "the new lines from the spool")
    os.kill(p.pid_of("writer"), signal.SIGCONT)
    wait_until(lambda: len(p.sql("select 1 from pipeline_logs where logger_name = 'stdout'")) == 60, "all of it stored")
    ids = [r["id"] for r in p.ndjson("logs")]
    equal((len(ids), len(set(ids))), (62, 62), "each once")


def test_following_shows_each_line_once(p):
    p.config({"a": {"command": ["sh", "-c", "i=0; while [ $i -lt 60 ]; do echo line $i; i=$((i+1)); sleep 0.03; done; exec sleep 1000"]}})
    p.run("up")
    argv = [BIN, "-c", p.file, "logs", "-f", "-n", "1000", "--raw"]
    with subprocess.Popen(argv, env=p.env, cwd=p.dir, stdout=subprocess.PIPE, text=True) as follow:
        got = []
        for line in follow.stdout:
            got.append(line.strip())
            if got[-1] == "line 59":
                break
        follow.kill()
    equal(got, [f"line {i}" for i in range(60)])


def test_without_a_store_the_log_files_are_read(p):
    p.config({"a": {"command": ["sh", "-c", "i=0; while [ $i -lt 2000 ]; do echo line $i; i=$((i+1)); done; exec sleep 1000"],
                    "instances": 2, "logging": {"max_size": "20K", "keep": 50}}}, store={"type": "none"})
    p.run("up", "--wait")
    wait_until(lambda: len(p.ndjson("logs", "a/1", "--grep", "^line 1999$")) == 1, "the last line")
    lines = [r["message"] for r in p.ndjson("logs", "a/0", "--limit", "0")]
    equal(lines, [f"line {i}" for i in range(2000)], "rotated and compressed files too")
    equal(p.ndjson("logs", "-n", "1")[0]["daemon"][:2], "a/")


def test_text_of_a_daemon_cannot_reach_the_terminal(p):
    p.config({"a": {"command": ["printf", "\\033[2J\\033]0;title\\007evil\\302\\2332J\\r\\n"], "restart": "never"}})
    p.run("up", code=None)
    wait_until(lambda: "evil" in p.run("logs").stdout, "the line")
    for args in (("logs",), ("status",), ("events",), ("show", "a")):
        out = p.run(*args, code=None, env={"LC_ALL": "C.UTF-8"})
        check(not re.search("[\x00-\x08\x0b-\x1f\x7f\x80-\x9f]", out.stdout + out.stderr), f"{args}: {out.stdout!r}")
    check("\\x1b[2J" in p.run("logs").stdout, "shown as what it is")


def test_crashes_are_listed_shown_and_removed(p):
    p.config({"a": {"command": CRASHER, "restart": "never"}, "b": {"command": ["sh", "-c", "exit 4"], "restart": "never"}})
    p.run("crashes", "--exit-code")
    p.run("crash", "show", code=4)
    p.run("up", code=None)
    wait_until(lambda: len(p.reports()) == 2, "two reports", 40)
    p.run("down")
    listed = p.ndjson("crashes")
    equal({r["daemon"] for r in listed}, {"a", "b"})
    table = p.run("crashes").stdout
    check("SIGSEGV" in table and "exit 4" in table, table)
    p.run("crashes", "--exit-code", code=1)
    equal(len(p.run("crashes", "a", "--no-header").stdout.splitlines()), 1)
    equal(len(p.run("crashes", "--since", "1h", "--no-header", "-n", "1").stdout.splitlines()), 1)
    wanted = next(r for r in listed if r["daemon"] == "a")
    for name in ("a", wanted["short_id"], wanted["crash_id"][:34], f"-{2 - listed.index(wanted)}"):
        equal(p.json("crash", "show", name)["crash_id"], wanted["crash_id"], name)
    text = p.run("crash", "show", "a").stdout
    check(text.startswith("a died") and "last words" in text, text)
    around = p.ndjson("logs", "--since", "crash:a")
    check(any(r["message"] == "last words" for r in around) and {r["daemon"] for r in around} == {"a"}, around)
    p.run("crash", "show", "nothing", code=4)
    p.run("crash", "rm", "a")
    equal(len(p.reports()), 1)
    p.run("crash", "rm", "all", code=64)
    p.run("crash", "rm", "all", "--yes")
    equal(len(p.reports()), 0)


def test_a_changed_file_is_noticed(p):
    p.config({"a": {"command": ["sleep", "1000"]}})
    p.run("up")
    check(not p.json("status")["config_changed"], "unchanged")
    p.config({"a": {"command": ["sleep", "2000"]}})
    check(p.json("status")["config_changed"] and "reload" in p.run("status").stderr, "status says so")
    check("reload" in p.run("start", "a").stderr, "start says so")


def test_init_writes_a_file_that_works(p):
    p.run("init")
    check("in order" in p.run("check").stderr, "check")
    p.run("init", code=73)
    os.unlink(p.file)
    p.write("Procfile", "web: sh -c 'echo \"quoted\" $HOME; exec sleep 1000'\n# a comment\nworker_2: exec sleep 1000\n")
    p.run("init", "--force")
    p.run("up", "--wait")
    project = json.loads(p.run("status", "--json").stdout)
    equal({d["name"] for d in project["daemons"]}, {"web", "worker_2"})
    wait_until(lambda: f"quoted {p.dir}" in p.run("logs", "web").stdout, "its line")
    p.run("down")


def test_the_one_running_project_is_found_without_a_file(p):
    p.config({"a": {"command": ["sleep", "1000"]}})
    p.run("up")
    os.makedirs(f"{p.dir}/elsewhere/.git")
    for args in (("status",), ("logs",), ("stop", "a")):
        r = subprocess.run([BIN, *args], cwd=f"{p.dir}/elsewhere", env=p.env, capture_output=True, text=True)
        equal(r.returncode, 0, r.stderr)
    r = subprocess.run([BIN, "start", "a"], cwd=f"{p.dir}/elsewhere", env=p.env, capture_output=True, text=True)
    equal(r.returncode, 66, r.stderr)


def test_output_that_nobody_reads_ends_quietly(p):
    talk(p)
    r = subprocess.run(["bash", "-c", f"'{BIN}' logs --limit 0 | head -c 1; echo ${{PIPESTATUS[0]}}"], cwd=p.dir, env=p.env,
                       capture_output=True, text=True)
    equal(r.stderr, "")
    r = subprocess.run(["bash", "-c", f"'{BIN}' run -- yes 2>/dev/null | head -1"], cwd=p.dir, env=p.env, capture_output=True,
                       text=True, timeout=60)
    equal(r.stdout, "y\n")
    wait_until(lambda: not any(c.startswith("yes") for c in p.processes().values()), "yes is gone")


def test_run_gives_the_command_what_a_shell_would(p):
    env = {"GREETING": "hello", "SUPERVISE_DAEMON": "outer"}
    r = p.run("run", "--", "sh", "-c", "echo $GREETING $SUPERVISE_DAEMON; pwd; umask", env=env)
    lines = r.stdout.splitlines()
    check(lines[0].startswith("hello sh-") and lines[1] == p.dir, r.stdout)
    r = p.run("run", "--", "sh", "-c", "echo ${GREETING-none}")
    equal(r.stdout, "none\n", "a second run does not see the first one's environment")
    r = subprocess.run([BIN, "run", "--", "printf", "a\\000\\377b"], cwd=p.dir, env=p.env, capture_output=True)
    equal(r.stdout, b"a\0\xffb", "bytes come as they were written")
    equal(p.run("run", "--", "/etc/passwd", code=None).returncode, 126)


def completed(p, shell, line):
    """The words that a shell offers for a line."""
    env = {**p.env, "PATH": os.path.dirname(os.path.abspath(BIN)) + ":" + p.env.get("PATH", "/usr/bin:/bin")}
    words = line.split(" ")
    if shell == "bash":
        quoted = " ".join(f"'{w}'" for w in words)
        script = (f'source <(supervise completion bash); COMP_WORDS=({quoted}); COMP_CWORD={len(words) - 1}; compopt() {{ :; }}; '
                  '_supervise; printf "%s\\n" "${COMPREPLY[@]}"')
        argv = ["bash", "-c", script]
    elif shell == "fish":
        argv = ["fish", "--no-config", "-c", f"supervise completion fish | source; complete -C '{line}'"]
    else:
        # a real zsh on a terminal of its own; what the completion would add is written down instead of shown
        script = r'''
zmodload zsh/zpty
zpty z zsh -f -i
zpty -w z 'PS1=; autoload -Uz compinit; compinit -u -D -d "$HOME/dump"; source <(supervise completion zsh)'
zpty -w z 'compadd() { local -a w; builtin compadd -O w "$@"; print -rl -- "${w[@]}" >> "$HOME/words"; builtin compadd "$@"; }'
zpty -w z 'print -r -- ready > "$HOME/ready"'
while [[ ! -s $HOME/ready ]]; do zpty -r z x "*" 2>/dev/null; done
zpty -w -n z "$LINE_TO_COMPLETE"$'\t'
for i in {1..200}; do [[ -s $HOME/words ]] && break; zpty -rt z x 2>/dev/null; sleep 0.02; done
sleep 0.2
zpty -d z
'''
        for name in ("words", "ready"):
            if os.path.exists(f"{p.dir}/{name}"):
                os.unlink(f"{p.dir}/{name}")
        subprocess.run(["zsh", "-f", "-c", script], env={**env, "LINE_TO_COMPLETE": line}, cwd=p.dir, capture_output=True, timeout=60)
        if not os.path.exists(f"{p.dir}/words"):
            return set()
        with open(f"{p.dir}/words", encoding="utf-8") as f:
            return {w.strip() for w in f if w.strip()}
    r = subprocess.run(argv, env=env, cwd=p.dir, capture_output=True, text=True, timeout=60)
    check(not r.stderr, f"{shell}: {r.stderr}")
    return {w.split("\t")[0] for w in r.stdout.splitlines() if w}


def test_completion_in_each_shell(p):
    p.config({"web": {"command": ["sleep", "1000"], "description": "it's 'quoted': yes"},
              "work": {"command": ["sleep", "1000"], "instances": 2}, "other": {"command": ["sleep", "1000"]}})
    shells = [s for s in ("bash", "zsh", "fish") if shutil.which(s)]
    check("bash" in shells, shells)
    for shell in shells:
        got = completed(p, shell, "supervise st")
        check({"start", "stop", "status"} <= got and "logs" not in got, f"{shell}: verbs: {got}")
        got = completed(p, shell, "supervise stop w")
        check({"web", "work", "work/0", "work/1"} <= got and "other" not in got, f"{shell}: daemons: {got}")
        got = completed(p, shell, "supervise logs web --st")
        check({"--stage", "--stream"} <= got and "--since" not in got, f"{shell}: options: {got}")
        got = completed(p, shell, "supervise completion ")
        check({"bash", "zsh", "fish"} <= got, f"{shell}: words: {got}")


if __name__ == "__main__":
    main()
