"""The production stack as its checks see it: rendered by the docker CLI, with what lies around it in the repository.

No engine is needed: `docker stack config` reads, merges and fills in by itself. Without a docker CLI nothing can be rendered, and
whoever asks is told so (`Unavailable`).
"""

import os
import pathlib
import re
import shlex
import shutil
import subprocess

import yaml

ROOT = pathlib.Path(__file__).resolve().parents[4]
COMPOSE = ROOT / "compose"
PROD = COMPOSE / "docker-compose.bigpods.prod.yml"
TEMPLATE = ROOT / ".env.prod.example"
IMAGES = COMPOSE / "images.env"
LINT_ENV = pathlib.Path(__file__).with_name("lint.env")
OVERLAYS = sorted(path for path in COMPOSE.glob("docker-compose.*.yml")
                  # the overlay of the test on an engine is not for production: scripts/stack-test checks what it renders
                  if path != PROD and not any(word in path.name for word in ("dev", "monitoring", "test")))
DIGEST = "@sha256:" + "0" * 64


class Unavailable(Exception):
    """The docker CLI is not here."""


class Refused(Exception):
    """The docker CLI does not take the files; the text is its answer."""


def load(text):
    """YAML, by the C parser where there is one: the rendered stack has thousands of lines."""
    return yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))


def read_env(path, known=None):
    """The assignments of a shell file with quoted values, `${NAME}` filled in from what is known so far."""
    return parse_env(path.read_text(encoding="utf-8"), known)


def parse_env(text, known=None):
    """The same of a text."""
    values = dict(known or {})
    for line in text.splitlines():
        found = re.match(r"([A-Z][A-Z0-9_]*)=(.*)", line)
        if found:
            text = "".join(shlex.split(found.group(2)))
            if not text and values.get(found.group(1)):
                continue  # empty: filled in by what is known
            values[found.group(1)] = re.sub(r"\$\{(\w+)\}", lambda name: values.get(name.group(1), ""), text)
    return values


def settings(**overrides):
    """The environment of a render: the template, completed by lint.env, images with a digest, and overrides on top."""
    values = read_env(LINT_ENV)
    template = read_env(TEMPLATE, values)
    values = {name: template.get(name) or values.get(name, "") for name in template.keys() | values.keys()}
    values |= {name: image + DIGEST for name, image in read_env(IMAGES).items()}
    values |= overrides
    return {name: value for name, value in values.items() if value is not None}


def docker(*arguments, env, engine="tcp://127.0.0.1:1"):
    """Runs the docker CLI with nothing but these settings; `engine` is an address where none answers."""
    program = shutil.which("docker")
    if program is None:
        raise Unavailable("there is no docker CLI")
    base = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "DOCKER_HOST": engine}
    return subprocess.run([program, *arguments], env=base | env, capture_output=True, text=True, timeout=60, check=False)


def files(*overlays):
    """`-c` arguments: the stack and the overlays on top."""
    return [part for path in (PROD, *overlays) for part in ("-c", str(path))]


def render(*overlays, **overrides):
    """The merged stack as `docker stack deploy` would take it."""
    done = docker("stack", "config", *files(*overlays), env=settings(**overrides))
    if done.returncode != 0:
        raise Refused(done.stderr.strip())
    return load(done.stdout)


def fill_in(text, env):
    """What the engine (template_driver) or Traefik makes of `{{ env "NAME" }}`."""
    return re.sub(r'\{\{\s*env\s+"(\w+)"\s*\}\}', lambda found: env.get(found.group(1), ""), text)


def report(status, code, requirements, text):
    """One line of scripts/ci/ops-check.sh."""
    print("\t".join((status, code, requirements or "-", text)), flush=True)
