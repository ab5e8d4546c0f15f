#!/usr/bin/env python3
"""V20: the pods themselves, as the stack starts them: with its settings, and with secrets that init-secrets.sh made.

Renders the stack, makes the secrets into a folder (the docker command is a fake one), and asks each pod's own `config` whether it would
start. A setting with a typo, a secret of the wrong form or a missing one is a FAIL here and not at two in the morning.
Usage: pods.py
"""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

import stack
import test_scripts


def program(name, kinds=("release", "debug")):
    """The newest build of a program."""
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", pathlib.Path.home() / ".cache/dreamscape/target"))
    built = [target / kind / name for kind in kinds if (target / kind / name).exists()]
    return max(built, key=lambda path: path.stat().st_mtime, default=None)


def secrets(folder):
    """What init-secrets.sh makes, by the name under /run/secrets."""
    case = test_scripts.Secrets("test_everything_is_made")
    case.setUp()
    try:
        case.init("--skip-optional")
        for name, value in case.values().items():
            (folder / re.sub(r"^dreamscape_|_v1$", "", name)).write_text(value)
    finally:
        case.doCleanups()


def config(binary, environment, folder):
    """What the pod's `config` says of this environment."""
    env = {key: str(value).replace("/run/secrets/", f"{folder}/").replace("{{.Task.Slot}}", "1") for key, value in environment.items()}
    copy = folder / binary.name  # a build may replace the file while it runs
    shutil.copy(binary, copy)
    return subprocess.run([copy, "config"], env=env, capture_output=True, text=True, timeout=60, check=False)


def main():
    failed = False
    try:
        rendered = stack.render()
    except stack.Unavailable as reason:
        stack.report("SKIP", "V20", "R-003,R-008,R-012,R-077", f"the pods take the settings of the stack ({reason})")
        return 0
    folder = pathlib.Path(tempfile.mkdtemp(prefix="pods-"))
    try:
        secrets(folder)
        for pod, requirement in (("core-pod", "R-003"), ("business-pod", "R-008"), ("experience-pod", "R-012")):
            text = f"{pod} takes the settings of the stack, and secrets as init-secrets.sh makes them"
            binary = program(pod)
            if binary is None:
                stack.report("SKIP", "V20", f"{requirement},R-077", f"{text} (it is not built)")
                continue
            done = config(binary, rendered["services"][pod]["environment"], folder)
            leaked = [path.name for path in folder.iterdir() if path.suffix == "" and path.name != pod and path.is_file()
                      and path.stat().st_size < 4096 and len(path.read_text()) > 15 and "placeholder" not in path.read_text()
                      and path.read_text() in done.stdout + done.stderr]
            problem = done.stderr.strip() if done.returncode else f"config prints {leaked}" if leaked else ""
            failed |= bool(problem)
            stack.report("FAIL" if problem else "PASS", "V20", f"{requirement},R-077", f"{text}{': ' + ' '.join(problem.split()) if problem else ''}")
            # without them it must refuse, or the check above shows nothing
            environment = dict(rendered["services"][pod]["environment"])
            for name in ("CORS_ORIGIN", "CLIENT_URL", "REDIS_CLUSTER_NODES"):
                del environment[name]
            done = config(binary, environment, folder)
            named = all(name in done.stderr for name in ("CORS_ORIGIN", "REDIS_CLUSTER_NODES"))
            failed |= not (done.returncode == 78 and named)
            stack.report("PASS" if done.returncode == 78 and named else "FAIL", "V20", f"{requirement},R-077",
                         f"{pod} refuses to start without a setting, and names all that are missing")
        broken = folder / "both"
        broken.write_text("x")
        binary = program("core-pod")
        if binary:
            environment = dict(rendered["services"]["core-pod"]["environment"]) | {"REDIS_PASSWORD": "x"}
            done = config(binary, environment, folder)
            good = done.returncode == 78 and "REDIS_PASSWORD_FILE are both set" in done.stderr
            failed |= not good
            stack.report("PASS" if good else "FAIL", "V20", "R-077", "a secret and its file both set is an error of the start")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
