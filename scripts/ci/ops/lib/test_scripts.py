#!/usr/bin/env python3
"""V8: the scripts of production and of the pods against a docker command that keeps a Swarm in a file (fake/docker).

Prints a line for each requirement; usage: test_scripts.py
"""

import base64
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

import stack

HERE = pathlib.Path(__file__).resolve().parent
REAL = shutil.which("docker")
GIVEN = {
    "stripe_secret_key": "sk_live_5hK2mQ9vT4xW7zA1bC3d",
    "stripe_webhook_secret": "whsec_N8pR3sV6yB9eH2kM5nQ7",
    "sendgrid_api_key": "SG.q7w5e3r1t9y7u5i3o1p9",
}
# keys of a store outside, which another provider made
EXTERNAL = {"backup_external_s3_access_key": "AKIA4T7WQ2ZK9R5MXN3B", "backup_external_s3_secret_key": "vN8pR3sV6yB9eH2kM5nQ7tW4zA1bC3dF6gJ9"}
SETTINGS = {
    "DOMAIN": "travel.test", "ACME_EMAIL": "ops@travel.test", "REGISTRY": "registry.test/dreamscape", "VERSION": "1.2.3",
    "STRIPE_PUBLISHABLE_KEY": "pk_live_abcdefgh", "SMTP_SMARTHOST": "smtp.travel.test:587", "DOCKER_GID": "999",
    "KAFKA_CLUSTER_ID": "MkU3OEVBNTcwNTJENDM2Qg",
}
LABELS = [{"pg": "primary", "redis": "1", "kafka": "1", "edge": "true"}, {"pg": "replica", "redis": "2", "kafka": "2", "minio": "true"},
          {"redis": "3", "kafka": "3", "monitoring": "true"}]


class Case(unittest.TestCase):
    """A copy of what the scripts read, an empty Swarm, and a way to run a script in it."""

    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="ops-"))
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        self.root = self.folder / "tree"
        for name in ("compose", "docker", "scripts", "monitoring"):
            shutil.copytree(stack.ROOT / name, self.root / name, symlinks=True, dirs_exist_ok=True,
                            ignore=shutil.ignore_patterns("node_modules", "__pycache__", "images.lock", "test_*.py"))
        (self.root / "docs").mkdir()
        for name in (".env.prod.example", "docs/configuration.md", "rust-toolchain.toml"):
            shutil.copy(stack.ROOT / name, self.root / name)
        self.env_file = self.root / ".env.prod"
        self.write_settings()
        self.fake = self.folder / "swarm"
        self.fake.mkdir()
        self.path = self.folder / "bin"
        self.path.mkdir()
        # the interpreter itself: a wrapper in PATH would be started hundreds of times
        text = (HERE / "fake/docker").read_text().replace("#!/usr/bin/env python3", f"#!{os.path.realpath(sys.executable)} -IS", 1)
        (self.path / "docker").write_text(text)
        (self.path / "docker").chmod(0o755)
        for name, text in (("ss", "exit 0"), ("getent", "exit 0"), ("timedatectl", "echo yes")):
            (self.path / name).write_text(f"#!/bin/sh\n{text}\n")
            (self.path / name).chmod(0o755)
        self.set(version="29.9.3", swarm="active true", secrets=[], configs=[], services={}, nodes={"n1": {}}, pulled=[],
                 used_secrets=[], used_configs=[])

    def write_settings(self, **changes):
        text = (self.root / ".env.prod.example").read_text()
        for name, value in (SETTINGS | changes).items():
            text, count = re.subn(rf'^{name}=.*$', f'{name}="{value}"', text, flags=re.M)
            self.assertEqual(count, 1, name)
        self.env_file.write_text(text)

    def set(self, **changes):
        path = self.fake / "state.json"
        state = json.loads(path.read_text()) if path.exists() else {}
        path.write_text(json.dumps(state | changes))

    def get(self):
        return json.loads((self.fake / "state.json").read_text())

    def run_script(self, script, *arguments, code=0, cwd=None, **environment):
        env = {"PATH": f"{self.path}:{os.environ['PATH']}", "HOME": str(self.folder), "FAKE_STATE": str(self.fake),
               "REAL_DOCKER": REAL or "", "DEPLOY_POLL_SECONDS": "0", "FAKE_SITE": str(pathlib.Path(stack.yaml.__file__).parents[1]), "TMPDIR": str(self.folder), "LC_ALL": "C.UTF-8"}
        done = subprocess.run([script, *arguments], cwd=cwd or self.root, env=env | environment, stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, timeout=120, check=False)
        transcript = done.stdout + done.stderr
        self.assertEqual(done.returncode, code, f"{script} {arguments}: {transcript}")
        for name, value in self.values().items():
            if not value.startswith(("placeholder", "https://placeholder")):
                for part in [value, *re.findall(r"[A-Za-z0-9]{20,}", value)]:
                    self.assertNotIn(part, transcript, f"{name} is in the transcript")
        return transcript

    def init(self, *arguments, **options):
        given = self.folder / "given"
        given.mkdir(exist_ok=True)
        for name, value in GIVEN.items():
            (given / name).write_text(value + "\n")
        return self.run_script("scripts/production/init-secrets.sh", "--from-dir", str(given), *arguments, **options)

    def deploy(self, *arguments, images=False, **options):
        # resolving images is a dozen calls that one test looks at
        local = [] if images else ["--local-images"]
        return self.run_script("scripts/production/deploy.sh", "--no-smoke", *local, *arguments, **options)

    def values(self):
        folder = self.fake / "secrets"
        return {path.name: path.read_text() for path in sorted(folder.iterdir())} if folder.exists() else {}

    def calls(self):
        return [json.loads(line) for line in (self.fake / "calls").read_text().splitlines()]

    def forget(self):
        (self.fake / "calls").write_text("")


def proves(requirements, text):
    """What a test shows, for the table."""

    def mark(function):
        function.proves = (requirements, text)
        return function

    return mark


class Secrets(Case):
    @proves("R-063,R-070,R-071,R-072,R-073,R-074,R-075,R-076", "init-secrets.sh makes every secret of the stack, run as ./init-secrets.sh")
    def test_everything_is_made(self):
        given = self.folder / "given"
        given.mkdir()
        for name, value in GIVEN.items():
            (given / name).write_text(value)
        self.run_script("./init-secrets.sh", "--from-dir", str(given), "--skip-optional", cwd=self.root / "scripts/production")
        keys = set(stack.load(stack.PROD.read_text())["secrets"])
        self.assertEqual(set(self.values()), {f"dreamscape_{key}_v1" for key in keys})
        self.assertEqual(self.values()["dreamscape_stripe_secret_key_v1"], GIVEN["stripe_secret_key"])
        self.assertEqual(self.values()["dreamscape_openai_api_key_v1"], "placeholder-not-configured")

    @proves("R-071,R-072,R-073,R-075,R-076", "generated values have their form, 256 bits, and are new for each installation")
    def test_values(self):
        self.init("--skip-optional")
        first = {name.removeprefix("dreamscape_").removesuffix("_v1"): value for name, value in self.values().items()}
        for name in ("db_password", "db_replication_password", "db_exporter_password", "redis_password", "redis_admin_password",
                     "service_client_secret_business", "service_client_secret_experience", "grafana_admin_password",
                     "backup_encryption_key", "minio_root_password", "s3_secret_key"):
            self.assertRegex(first[name], r"^[A-Za-z0-9]{43}$", name)
        self.assertRegex(first["s3_access_key"], r"^[A-Z0-9]{20}$")
        for name in ("jwt_signing_key", "data_encryption_key"):
            self.assertEqual(len(base64.urlsafe_b64decode(first[name] + "=")), 32, name)
            self.assertRegex(first[name], r"^[A-Za-z0-9]+$")
        self.assertRegex(first["db_url_auth"], r"^postgres://auth_service:[A-Za-z0-9]{43}@postgres-rw:5432/dreamscape_prod$")
        self.assertEqual(json.loads(first["redis_exporter_passwords"])["redis://redis-2:6379"], first["redis_password"])
        self.assertEqual(first["service_clients"], f"business-pod={first['service_client_secret_business']},"
                         f"experience-pod={first['service_client_secret_experience']}")
        user, _, hashed = first["traefik_users"].partition(":")
        self.assertEqual(user, "admin")
        check = subprocess.run(["perl", "-e", "local $/; my $p = <STDIN>; print crypt($p, $ARGV[0])", hashed], capture_output=True, text=True,
                               input=first["grafana_admin_password"], check=True).stdout
        self.assertEqual(check, hashed)
        secret = {name for name, value in first.items() if value.startswith("placeholder") or name in GIVEN or "slack" in name}
        self.set(secrets=[])
        shutil.rmtree(self.fake / "secrets")
        self.init("--skip-optional")
        for name, value in self.values().items():
            short = name.removeprefix("dreamscape_").removesuffix("_v1")
            if short not in secret:
                self.assertNotEqual(value, first[short], short)

    @proves("R-073", "no generated value looks like the text of a template, which the pods would refuse: a few hundred are drawn")
    def test_no_placeholders(self):
        script = (self.root / "scripts/production/init-secrets.sh").read_text()
        functions = script[script.index("looks_like_template() {"):script.index("# The line of a password file")]
        # an alphabet of two letters makes the accident likely
        done = subprocess.run(["bash", "-c", functions + "\nfor i in {1..150}; do random_text 12 XY; echo $REPLY; done; "
                               "for i in {1..20}; do random_key; echo $REPLY; done"], capture_output=True, text=True, check=True)
        values = done.stdout.split()
        self.assertEqual(len(values), 170)
        for value in values:
            self.assertNotIn("xxx", value.lower())

    @proves("R-078", "no value is printed, on a command line, in the environment of a program, or in a file")
    def test_nothing_leaks(self):
        self.init("--skip-optional", FAKE_LOOK="1", STRIPE_SECRET_KEY=GIVEN["stripe_secret_key"], OPENAI_API_KEY="sk-proj-8sK3nV7qLw2xYz5tBdEf")
        os.remove(self.folder / "given/stripe_secret_key")
        seen = (self.fake / "seen").read_text()
        calls = (self.fake / "calls").read_text()
        self.assertIn("scripts/production/init-secrets.sh", seen)
        for name, value in self.values().items():
            if "placeholder" in value:
                continue
            self.assertNotIn(value, calls, name)
            # what the operator exported is in the environment of the script itself, and must be in no other
            limit = 1 if "openai" in name or "stripe_secret_key" in name else 0
            for line in seen.splitlines():
                if value in line:
                    limit -= 1
                    self.assertTrue(limit >= 0 or line.startswith(("STRIPE_SECRET_KEY=", "OPENAI_API_KEY=")), name)
        for path in self.folder.rglob("*"):
            if path.is_file() and not path.is_relative_to(self.fake) and path.parent.name != "given":
                text = path.read_text(errors="replace")
                for name, value in self.values().items():
                    if "placeholder" not in value:
                        self.assertNotIn(value, text, f"{name} is in {path}")

    @proves("R-078", "docker does not inherit a value that the operator exported")
    def test_exports_end_here(self):
        recorder = self.path / "docker"
        text = recorder.read_text().replace("def save():", "open(f'{FOLDER}/own', 'a').write(repr(dict(os.environ)))\n\n\ndef save():")
        recorder.write_text(text)
        self.init("--skip-optional", OPENAI_API_KEY="sk-proj-8sK3nV7qLw2xYz5tBdEf")
        self.assertNotIn("sk-proj-8sK3nV7qLw2xYz5tBdEf", (self.fake / "own").read_text())
        self.assertEqual(self.values()["dreamscape_openai_api_key_v1"], "sk-proj-8sK3nV7qLw2xYz5tBdEf")

    @proves("R-063,R-079", "a second run makes nothing; a secret that went missing is made again, with what belongs to it")
    def test_again(self):
        self.init("--skip-optional")
        before = self.values()
        self.assertIn("all", self.init("--skip-optional"))
        self.assertEqual(self.values(), before)
        state = self.get()
        state["secrets"].remove("dreamscape_redis_exporter_passwords_v1")
        self.set(**state)
        os.remove(self.fake / "secrets/dreamscape_redis_exporter_passwords_v1")
        self.init("--skip-optional")
        values = self.values()
        exporter = values["dreamscape_redis_exporter_passwords_v1"]
        self.assertEqual(json.loads(exporter)["redis://redis-1:6379"], values["dreamscape_redis_password_v2"])

    @proves("R-074", "template values, empty ones, test keys and foreign keys are refused; then nothing at all is made")
    def test_refusals(self):
        for name, value, expected in (("stripe_secret_key", "sk_live_your_key_here", "template"), ("stripe_secret_key", "", "empty"),
                                      ("stripe_secret_key", "sk_test_51abcdefgh", "--allow-test-keys"),
                                      ("stripe_secret_key", "pk_live_51abcdefgh", "no key of Stripe's"),
                                      ("stripe_webhook_secret", "rk9f2m4x8q1z", "no signing secret"),
                                      ("stripe_webhook_secret", "whsec_ab cd", "white space")):
            GIVEN_BEFORE = GIVEN[name]
            GIVEN[name] = value
            try:
                text = self.init("--skip-optional", code=1)
            finally:
                GIVEN[name] = GIVEN_BEFORE
            self.assertIn(expected, text)
            if value:
                self.assertNotIn(value, text)
            self.assertEqual(self.values(), {})
        self.assertIn("--skip openai_api_key", self.init(code=1))
        GIVEN["stripe_secret_key"], before = "sk_test_51abcdefgh", GIVEN["stripe_secret_key"]
        try:
            self.init("--skip-optional", "--allow-test-keys")
        finally:
            GIVEN["stripe_secret_key"] = before

    @proves("R-079", "--rotate makes the next version of a secret and of what is derived from it, of nothing else")
    def test_rotation(self):
        self.init("--skip-optional")
        before = self.values()
        self.init("--rotate", "redis_password")
        after = self.values()
        self.assertEqual(set(after) - set(before), {"dreamscape_redis_password_v2", "dreamscape_redis_exporter_passwords_v2"})
        self.assertNotEqual(after["dreamscape_redis_password_v2"], after["dreamscape_redis_password_v1"])
        self.init("--rotate", "stripe_webhook_secret")
        self.assertIn("dreamscape_stripe_webhook_secret_v2", self.values())
        self.assertIn("keys rotate", self.init("--rotate", "jwt_signing_key", code=2))
        self.assertIn("data_encryption_key.previous", self.init("--rotate", "data_encryption_key", code=3))
        self.set(containers=["dreamscape_core-pod"])
        self.init("--rotate", "data_encryption_key")
        new, _, old = self.values()["dreamscape_data_encryption_key_v2"].partition(",")
        self.assertEqual(old, before["dreamscape_data_encryption_key_v1"])
        self.assertNotEqual(new, old)

    @proves("R-061,R-063", "a worker, a Swarm that is off and a name that is none are refused with what to type")
    def test_prerequisites(self):
        self.set(swarm="inactive false")
        self.assertIn("docker swarm init", self.init(code=3))
        self.set(swarm="active false")
        self.assertIn("manager", self.init(code=3))
        self.set(swarm="active true")
        self.init("--rotate", "nonsense", code=2)
        self.init("--skip", "db_password", code=2)
        self.init("--nonsense", code=2)
        self.assertIn("Usage:", self.run_script("scripts/production/init-secrets.sh", "--help"))

    @proves("R-063", "--list names versions, ages and what is missing; --dry-run makes nothing")
    def test_list(self):
        self.assertIn("would make dreamscape_db_password_v1", self.init("--skip-optional", "--dry-run"))
        self.assertEqual(self.values(), {})
        self.assertRegex(self.init("--list"), r"db_password +missing")
        self.init("--skip-optional")
        self.assertRegex(self.init("--list"), r"db_password +v1 +2 days ago")

    @proves("R-051", "a Kafka cluster id is made once and written into the settings")
    def test_cluster_id(self):
        self.write_settings(KAFKA_CLUSTER_ID="")
        self.init("--skip-optional", "--env-file", str(self.env_file))
        found = re.search(r'^KAFKA_CLUSTER_ID="(.*)"$', self.env_file.read_text(), re.M).group(1)
        self.assertRegex(found, r"^[A-Za-z0-9_][A-Za-z0-9_-]{21}$")
        self.init("--env-file", str(self.env_file))
        self.assertIn(found, self.env_file.read_text())

    @proves("R-074,R-076", "backups outside of the stack: the keys of that store are asked for, and only then")
    def test_external_backup(self):
        self.write_settings(BACKUP_S3_ENDPOINT="https://s3.backups.test")
        text = self.init("--skip-optional", code=1)
        for name in ("backup_external_s3_access_key", "backup_external_s3_secret_key"):
            self.assertIn(f"{name} is empty", text)
        self.assertEqual(self.values(), {})
        for name, value in EXTERNAL.items():
            (self.folder / "given" / name).write_text(value)
        self.init("--skip-optional")
        self.assertEqual({name: self.values()[f"dreamscape_{name}_v1"] for name in EXTERNAL}, EXTERNAL)
        # and the stack's own account is made as ever: the objects are read with it
        self.assertRegex(self.values()["dreamscape_backup_s3_access_key_v1"], r"^[A-Z0-9]{20}$")


@unittest.skipUnless(REAL, "there is no docker CLI to render with")
class Deploy(Case):
    def setUp(self):
        super().setUp()
        # what other parts of the repository bring, where this tree has it not yet
        for path in re.findall(r"file: \.\./(\S+)", (self.root / "compose/docker-compose.bigpods.prod.yml").read_text()):
            if not (self.root / path).exists():
                (self.root / path).parent.mkdir(parents=True, exist_ok=True)
                (self.root / path).write_text("# not yet\n")
        keys = stack.load(stack.PROD.read_text())["secrets"]
        self.set(secrets=[f"dreamscape_{key}_v1" for key in keys])

    def lint_off(self):
        """Rules about files that other parts bring are for the linter's own check."""
        (self.root / "scripts/ci/ops/lib/stack_lint.py").write_text("")

    @proves("R-001,R-064", "deploy.sh: prerequisites, images, deploy, health, addresses, in this order")
    def test_phases(self):
        self.lint_off()
        text = self.deploy(images=True)
        self.assertEqual(re.findall(r"^== (\d/5 [a-z ]+)", text, re.M),
                         ["1/5 prerequisites", "2/5 images", "3/5 deploy", "4/5 health", "5/5 where everything answers"])
        for url in ("https://travel.test", "https://api.travel.test", "https://grafana.travel.test"):
            self.assertIn(url, text)
        names = [" ".join(call[:2]) for call in self.calls()]
        self.assertLess(names.index("secret ls"), names.index("stack config"))
        self.assertLess(names.index("stack config"), names.index("stack deploy"))
        call = next(call for call in self.calls() if call[:2] == ["stack", "deploy"] and "--help" not in call)
        for wanted in ("--with-registry-auth", "--prune", "--detach=true", "--resolve-image"):
            self.assertIn(wanted, call)
        self.assertEqual(len(self.get()["services"]), 32)

    @proves("R-076,R-133", "backups outside of the stack: deploy.sh adds the overlay, wants its secrets and names their newest versions")
    def test_external_backup(self):
        self.write_settings(BACKUP_S3_ENDPOINT="https://s3.backups.test", BACKUP_S3_REGION="eu-west-3")
        self.assertIn("secrets are missing (backup_external_s3_access_key backup_external_s3_secret_key)", self.deploy(code=3))
        self.set(secrets=self.get()["secrets"] + [f"dreamscape_{name}_v{version}" for name in EXTERNAL for version in (1, 2)])
        recorder = self.root / "scripts/ci/ops/lib/stack_lint.py"
        recorder.write_text("import shutil, sys\nopen(%r, 'w').write(' '.join(sys.argv))\n"
                            "shutil.copy(sys.argv[sys.argv.index('--rendered') + 1], %r)\n" % (str(self.fake / "arguments"), str(self.fake / "rendered")))
        self.deploy(images=True)
        self.assertIn("--overlay backup-external", (self.fake / "arguments").read_text())
        rendered = stack.load((self.fake / "rendered").read_text())
        backup = rendered["services"]["backup"]
        wanted = {"S3_ENDPOINT": "https://s3.backups.test", "S3_REGION": "eu-west-3", "SOURCE_S3_ENDPOINT": "http://minio:9000",
                  "S3_SECRET_KEY_FILE": "/run/secrets/backup_external_s3_secret_key", "SOURCE_S3_SECRET_KEY_FILE": "/run/secrets/backup_s3_secret_key"}
        self.assertEqual({name: backup["environment"].get(name) for name in wanted}, wanted)
        self.assertEqual(len(backup["secrets"]), 7)
        self.assertEqual(rendered["secrets"]["backup_external_s3_access_key"]["name"], "dreamscape_backup_external_s3_access_key_v2")

    @proves("R-065", "a second deploy changes no service; the jobs that look after things run again")
    def test_idempotent(self):
        self.lint_off()
        self.deploy()
        before = {name: service["version"] for name, service in self.get()["services"].items()}
        self.forget()
        self.deploy()
        services = self.get()["services"]
        self.assertEqual({name: service["version"] for name, service in services.items()}, before)
        self.assertEqual({name.removeprefix("dreamscape_") for name, service in services.items() if service["forced"]},
                         {"minio-init", "kafka-topics-init", "redis-cluster-init"})
        self.assertNotIn("pull", [call[0] for call in self.calls()])

    @proves("R-125", "a service that was scaled to 7 stays at 7")
    def test_replicas_stay(self):
        self.lint_off()
        self.deploy()
        state = self.get()
        state["services"]["dreamscape_core-pod"]["replicas"] = 7
        self.set(**state)
        self.assertIn("core-pod stays at 7", self.deploy())
        self.assertEqual(self.get()["services"]["dreamscape_core-pod"]["replicas"], 7)
        self.assertEqual(self.get()["services"]["dreamscape_business-pod"]["replicas"], 5)

    @proves("R-002", "engine 19.03 is refused, 20.10.0 to 20.10.23 too unless accepted, old ones are warned about, 29.9.3 is fine")
    def test_engines(self):
        self.lint_off()
        for version in ("19.03.15",):
            self.set(version=version)
            self.assertIn("20.10 or newer", self.deploy("--dry-run", "--accept-unpatched-overlay", code=3))
        for version in ("20.10.0", "20.10.23", "23.0.2"):
            self.set(version=version)
            self.assertIn("--accept-unpatched-overlay", self.deploy("--dry-run", code=3))
        self.assertIn("accepted", self.deploy("--dry-run", "--accept-unpatched-overlay"))
        self.set(version="20.10.24+dfsg1")
        self.assertIn("CVE-2026", self.deploy("--dry-run"))
        self.set(version="29.9.3")
        self.assertNotIn("CVE", self.deploy("--dry-run"))
        self.assertIn("Traefik 2.10 cannot", self.deploy("--dry-run", "--traefik-v2", code=3))

    @proves("R-061", "a Swarm that is off: the command is said")
    def test_swarm_off(self):
        self.set(swarm="inactive false")
        self.assertIn("docker swarm init", self.deploy(code=3))

    @proves("R-031,R-062", "settings that are missing are named all at once; latest is no version; no .env.prod, no deploy")
    def test_settings(self):
        self.write_settings(DOMAIN="", ACME_EMAIL="")
        text = self.deploy(code=3)
        self.assertIn("DOMAIN", text)
        self.assertIn("ACME_EMAIL", text)
        self.write_settings(VERSION="latest")
        self.assertIn("never latest", self.deploy(code=3))
        self.write_settings(ENABLE_TRACING="true")
        self.assertIn("OTEL_EXPORTER_OTLP_ENDPOINT", self.deploy(code=3))
        self.env_file.unlink()
        self.assertIn("cp .env.prod.example .env.prod", self.deploy(code=3))
        self.deploy("--nonsense", code=2)

    @proves("R-070", "secrets that are missing are named, and nothing is deployed")
    def test_secrets_missing(self):
        state = self.get()
        state["secrets"].remove("dreamscape_jwt_signing_key_v1")
        self.set(**state)
        text = self.deploy(code=3)
        self.assertIn("jwt_signing_key", text)
        self.assertIn("init-secrets.sh", text)
        self.assertEqual(self.get()["services"], {})

    @proves("R-064,R-131", "an update that does not become healthy: exit 1, and the pods that were changed go back")
    def test_rollback(self):
        self.lint_off()
        self.deploy()
        self.write_settings(VERSION="1.2.4")
        self.set(unhealthy=["core-pod"])
        self.forget()
        self.assertIn("did not become healthy", self.deploy(code=1))
        rolled = [call[-1] for call in self.calls() if call[:2] == ["service", "rollback"]]
        self.assertEqual(rolled, ["dreamscape_business-pod", "dreamscape_experience-pod"])
        self.set(unhealthy=[], stuck=["experience-pod"])
        self.write_settings(VERSION="1.2.5")
        self.assertIn("not healthy after 1 s", self.deploy("--timeout", "1", code=1))

    @proves("R-130", "an update migrates first, with the new image; a migration that fails stops everything before the pods change")
    def test_migrations_first(self):
        self.lint_off()
        self.deploy()
        self.forget()
        self.write_settings(VERSION="1.3.0")
        self.deploy()
        names = [" ".join([*call[:2], call[-1]]) for call in self.calls() if "--help" not in call]
        self.assertLess(names.index("service update dreamscape_migrate-core"), names.index("stack deploy dreamscape"))
        self.set(failing_jobs=["dreamscape_migrate-business"])
        self.write_settings(VERSION="1.4.0")
        self.assertIn("nothing else was changed", self.deploy(code=1))
        self.assertEqual(self.get()["services"]["dreamscape_core-pod"]["image"], "registry.test/dreamscape/core-pod:1.3.0")

    @proves("R-130", "a release of the pods restarts nothing that holds data; new images of that go node after node, first")
    def test_infra_version(self):
        self.lint_off()
        self.deploy()
        self.write_settings(VERSION="1.3.0")
        before = {name: service["version"] for name, service in self.get()["services"].items()}
        self.deploy()
        changed = {name for name, service in self.get()["services"].items() if service["version"] != before[name]}
        self.assertEqual(changed, {f"dreamscape_{name}" for name in (
            "core-pod", "business-pod", "experience-pod", "migrate-core", "migrate-business", "autoscaler", "backup")})
        self.write_settings(VERSION="1.3.0", INFRA_VERSION="1.3.0")
        self.forget()
        self.deploy()
        names = [" ".join([*call[:2], call[-1]]) for call in self.calls() if "--help" not in call]
        order = [names.index(f"service update dreamscape_{name}") for name in (
            "redis-1", "redis-2", "redis-3", "kafka-1", "kafka-2", "kafka-3", "postgres-replica", "postgres-primary", "minio")]
        self.assertEqual(order, sorted(order))
        self.assertLess(order[-1], names.index("stack deploy dreamscape"))
        self.assertEqual(self.get()["services"]["dreamscape_traefik"]["image"], "registry.test/dreamscape/traefik:1.3.0")

    @proves("R-079", "a rotated secret is rolled out to its services alone, then the old version is removed")
    def test_rotation(self):
        self.lint_off()
        self.deploy()
        before = {name: service["version"] for name, service in self.get()["services"].items()}
        state = self.get()
        state["secrets"].append("dreamscape_stripe_webhook_secret_v2")
        self.set(**state)
        text = self.deploy()
        changed = {name for name, service in self.get()["services"].items() if service["version"] != before[name]}
        self.assertEqual(changed, {"dreamscape_business-pod"})
        self.assertIn("removed the old secret dreamscape_stripe_webhook_secret_v1", text)
        self.assertNotIn("dreamscape_stripe_webhook_secret_v1", self.get()["secrets"])

    @proves("R-079", "rotate-secret.sh: the next version, rolled out, the old one gone, in one command")
    def test_rotate_secret(self):
        self.lint_off()
        recorder = self.root / "scripts/bigpods/smoke-prod-test.sh"
        recorder.write_text("#!/bin/bash\nexit 0\n")
        self.set(secrets=[])
        self.init("--skip-optional")
        self.deploy()
        (self.root / "compose/images.lock").write_text("".join(
            f'{name}="{image}{stack.DIGEST}"\n' for name, image in stack.read_env(self.root / "compose/images.env").items()))
        self.run_script("scripts/production/rotate-secret.sh", "s3_access_key")
        names = self.get()["secrets"]
        for key in ("s3_access_key", "s3_secret_key"):
            self.assertIn(f"dreamscape_{key}_v2", names)
            self.assertNotIn(f"dreamscape_{key}_v1", names)
        self.run_script("scripts/production/rotate-secret.sh", code=2)
        self.forget()
        self.run_script("scripts/production/rotate-secret.sh", "s3_access_key", "--", "--redis-replicas")
        call = next(call for call in self.calls() if call[:2] == ["stack", "deploy"] and "--help" not in call)
        self.assertTrue(any("redis-6" in part for part in call))

    @proves("R-001", "a changed file of configuration is a new config, the old one is removed")
    def test_configs(self):
        self.lint_off()
        self.deploy()
        before = set(self.get()["configs"])
        path = self.root / "docker/traefik/dynamic/tls.yml"
        path.write_text(path.read_text() + "# changed\n")
        self.deploy()
        after = set(self.get()["configs"])
        self.assertEqual({name.rpartition("_")[0] for name in before ^ after}, {"dreamscape_traefik_tls"})
        self.assertEqual(len(before), len(after))

    @proves("R-060", "several nodes: every stateful service needs its label; a node that is too small is warned about")
    def test_nodes(self):
        self.lint_off()
        self.assertIn("--profile small fits", self.deploy("--dry-run"))
        self.assertNotIn("--profile small fits", self.deploy("--dry-run", "--profile", "small"))
        self.set(nodes={"n1": {}, "n2": {}, "n3": {}})
        self.assertIn("pg=primary", self.deploy("--dry-run", code=3))
        self.set(nodes={f"n{number}": labels for number, labels in enumerate(LABELS)})
        self.deploy()
        call = next(call for call in self.calls() if call[:2] == ["stack", "deploy"] and "--help" not in call)
        self.assertTrue(any("multi-node" in part for part in call))

    @proves("R-097", "digests are resolved once and locked; --local-images asks for none; a dry run writes nothing")
    def test_images(self):
        self.lint_off()
        lock = self.root / "compose/images.lock"
        self.deploy("--dry-run", images=True)
        self.assertFalse(lock.exists())
        self.deploy(images=True)
        locked = stack.read_env(lock)
        self.assertRegex(locked["PROMETHEUS_IMAGE"], r"^prom/prometheus:v[\d.]+@sha256:[0-9a-f]{64}$")
        self.assertNotIn("ALLOY_IMAGE", locked)
        self.assertEqual(self.get()["services"]["dreamscape_prometheus"]["image"], locked["PROMETHEUS_IMAGE"])
        self.forget()
        self.deploy("--local-images")
        self.assertNotIn("pull", [call[0] for call in self.calls()])

    @proves("R-001,R-097", "deploy.sh lints what it is about to deploy, and refuses what breaks a rule")
    def test_lint(self):
        path = self.root / "compose/docker-compose.bigpods.prod.yml"
        path.write_text(path.read_text().replace("    read_only: true\n", "    read_only: false\n", 1))
        text = self.deploy(code=1, images=True)
        self.assertIn("breaks a rule", text)
        self.assertIn("can write to its root", text)
        self.assertIn("can write to its root", self.deploy(code=1))
        self.assertEqual(self.get()["services"], {})
        self.assertIn("lint: left out", self.deploy("--no-lint"))

    @proves("R-041", "the alias postgres-rw follows the declared primary")
    def test_promoted(self):
        self.lint_off()
        self.write_settings(PG_PRIMARY_SERVICE="postgres-replica")
        recorder = self.path / "docker"
        recorder.write_text(recorder.read_text().replace('    import yaml\n', '    import yaml\n    open(f"{FOLDER}/rendered", "w").write(done.stdout)\n'))
        self.deploy()
        rendered = stack.load((self.fake / "rendered").read_text())["services"]
        self.assertEqual(rendered["postgres-replica"]["networks"]["database-network"]["aliases"], ["postgres-rw"])
        self.assertEqual(rendered["postgres-primary"]["networks"]["database-network"]["aliases"], ["postgres-ro"])


class Pods(Case):
    SCRIPTS = ("build", "dev", "debug", "deploy", "backup", "maintenance", "logs", "monitoring", "scale")

    @proves("R-138", "U-01, U-02, U-05: the scripts of bigpods are there, executable, begin with #!/bin/bash, and --help prints Usage:")
    def test_scripts(self):
        for path in [self.root / f"scripts/bigpods/{name}-bigpods.sh" for name in (*self.SCRIPTS, "prod", "reset")] + \
                    [self.root / "scripts/bigpods/smoke-prod-test.sh", self.root / "scripts/bigpods/generate-prod-secret.sh"]:
            self.assertTrue(os.access(path, os.X_OK), path)
            self.assertEqual(path.read_text().splitlines()[0], "#!/bin/bash", path)
            self.assertRegex(self.run_script(str(path), "--help"), r"^Usage:")
            self.assertIn("set -e", path.read_text())
        for name in ("build", "dev", "debug", "deploy"):
            self.assertIn("exit ", (self.root / f"scripts/bigpods/{name}-bigpods.sh").read_text())

    @proves("R-138", "U-03, U-04: common.sh gives its functions when sourced, the configuration names pods and environments")
    def test_common(self):
        done = self.run_script("bash", "-c", ". scripts/bigpods/lib/common.sh; for f in log_info log_error log_warn validate_pod_name "
                               "check_service_health; do declare -F $f; done; validate_pod_name core && ! validate_pod_name mongo")
        self.assertIn("check_service_health", done)
        config = stack.load((self.root / "scripts/.dreamscape.config.yml").read_text())
        self.assertTrue({"core", "business", "experience"} <= set(config["bigpods"]))
        self.assertIn("environments", config)

    @proves("R-120", "scaling works as typed, within the caps of the connection budget")
    def test_scale(self):
        self.set(services={f"dreamscape_{pod}-pod": {"replicas": 3, "image": "x", "version": 1, "hash": ""}
                           for pod in ("core", "business", "experience")})
        for pod, count in (("core", 5), ("business", 10), ("business", 8), ("experience", 6)):
            self.run_script("scripts/bigpods/scale-bigpods.sh", pod, str(count))
            self.assertEqual(self.get()["services"][f"dreamscape_{pod}-pod"]["replicas"], count)
        self.assertIn("at most", self.run_script("scripts/bigpods/scale-bigpods.sh", "core", "9", code=2))
        self.run_script("scripts/bigpods/scale-bigpods.sh", "core", "2", code=2)
        self.run_script("scripts/bigpods/scale-bigpods.sh", "core", "2", "--force")
        self.run_script("scripts/bigpods/scale-bigpods.sh", "mongo", "2", code=2)

    @proves("R-138", "prod-bigpods.sh: status, rollback, down with a confirmation; reset refuses production")
    def test_front_door(self):
        self.set(services={"dreamscape_core-pod": {"replicas": 3, "image": "x", "version": 1, "hash": ""}})
        self.assertIn("core-pod", self.run_script("scripts/bigpods/prod-bigpods.sh", "status"))
        self.run_script("scripts/bigpods/prod-bigpods.sh", "rollback", "core")
        self.run_script("scripts/production/rollback.sh", "core")
        self.assertIn("core-pod", self.run_script("scripts/production/status.sh"))
        self.assertIn("--availability drain", self.run_script("scripts/production/drain-node.sh", "n1", "--dry-run"))
        self.assertEqual(self.get()["services"]["dreamscape_core-pod"]["state"], "rollback_completed")
        self.assertIn("--yes", self.run_script("scripts/bigpods/prod-bigpods.sh", "down", code=2))
        self.run_script("scripts/bigpods/reset-bigpods.sh", "rehearsal", "--yes", code=2)
        self.assertTrue(self.get()["services"])
        self.run_script("scripts/bigpods/prod-bigpods.sh", "down", "--yes")
        self.assertEqual(self.get()["services"], {})
        self.run_script("scripts/bigpods/prod-bigpods.sh", "nonsense", code=2)

    @proves("R-138", "images are built one by one, with version, revision and the locked digests of their bases; never latest")
    def test_build(self):
        (self.root / "compose/images.lock").write_text(f'ALPINE_IMAGE="alpine:3.22@sha256:{"a" * 64}"\n')
        self.run_script("scripts/bigpods/build-bigpods.sh", "core", "traefik", "--push")
        builds = [call for call in self.calls() if call[0] == "build"]
        self.assertIn("registry.test/dreamscape/core-pod:1.2.3", builds[0])
        self.assertIn(f"ALPINE_IMAGE=alpine:3.22@sha256:{'a' * 64}", builds[0])
        self.assertEqual(len([call for call in self.calls() if call[0] == "push"]), 2)
        self.run_script("scripts/bigpods/build-bigpods.sh", "core", "--version", "latest", code=2)

    @proves("R-137", "the smoke test runs every check although some fail, counts them, and fails")
    def test_smoke(self):
        names = self.run_script("scripts/bigpods/smoke-prod-test.sh", "--list")
        for name in ("services", "networks", "specs", "replication", "redis", "kafka-quorum", "redirect", "old-tls", "health-voyage", "pin"):
            self.assertRegex(names, rf"(?m)^{name} ")
        text = self.run_script("scripts/bigpods/smoke-prod-test.sh", "--no-public", code=1)
        checks = len(re.findall(r"^(?:PASS|FAIL)  ", text, re.M))
        self.assertEqual(checks, len(self.run_script("scripts/bigpods/smoke-prod-test.sh", "--list", "--no-public").splitlines()))
        self.assertRegex(text, r"smoke test: \d+ passed, \d+ failed")
        lines = self.run_script("scripts/bigpods/smoke-prod-test.sh", "--no-public", "--json", code=1).splitlines()
        self.assertEqual({json.loads(line)["check"] for line in lines if line.startswith("{")} & {"services", "redis"}, {"services", "redis"})

    @proves("R-138", "development in containers goes through docker compose")
    def test_dev(self):
        self.run_script("scripts/bigpods/dev-bigpods.sh", "up")
        self.assertTrue(any(call[0] == "compose" and call[-3:] == ["up", "--build", "--detach"] for call in self.calls()))
        self.run_script("scripts/bigpods/dev-bigpods.sh", "nonsense", code=2)


class Lines(unittest.TextTestResult):
    """Prints a line of the table for each test."""

    def line(self, test, status, reason=""):
        requirements, text = getattr(getattr(test, test._testMethodName), "proves", ("-", test._testMethodName))
        stack.report(status, "V8", requirements, text + (f": {reason}" if reason else ""))

    def addSuccess(self, test):
        super().addSuccess(test)
        self.line(test, "PASS")

    def addFailure(self, test, err):
        super().addFailure(test, err)
        self.line(test, "FAIL", " ".join(str(err[1]).split())[:500])

    def addError(self, test, err):
        super().addError(test, err)
        self.line(test, "FAIL", " ".join(f"{err[0].__name__}: {err[1]}".split())[:500])

    def addSkip(self, test, reason):
        super().addSkip(test, reason)
        self.line(test, "SKIP", reason)


if __name__ == "__main__":
    runner = unittest.TextTestRunner(stream=sys.stderr, resultclass=Lines, verbosity=0)
    unittest.main(argv=sys.argv, testRunner=runner)
