#!/usr/bin/env python3
"""Breaks a copy of the stack once per rule of stack_lint.py and sees that rule fail, for that reason.

A rule without such a test fails here, so no rule can be added that never bites. Usage: test_stack_lint.py
"""

import copy
import re
import sys
import unittest

import stack
import stack_lint
from stack_lint import RULES, Subject

BREAKS = {}


def breaks(rule_name, expected):
    """Registers how a stack is broken so that the rule fails with a problem that contains `expected`."""

    def register(function):
        BREAKS.setdefault(rule_name, []).append((expected, function))
        return function

    return register


def service(name):
    """Shorthand: the service of a subject."""
    return lambda subject: subject.services[name]


def label(subject, service_name, key, value):
    subject.services[service_name]["deploy"]["labels"][key] = value


def edit(subject, path, old, new):
    text = subject.read(path)
    assert re.search(old, text, re.M | re.S), (path, old)
    subject.extra[path] = re.sub(old, new, text, count=1, flags=re.M | re.S)


MIDDLEWARES = "docker/traefik/dynamic/middlewares.yml"
STATIC = "docker/traefik/traefik.yml"


@breaks("topology", "loki is missing")
def _(s): del s.services["loki"]


@breaks("topology", "mongo is not in the topology")
def _(s): s.services["mongo"] = copy.deepcopy(s.services["minio"])


for _pod in stack_lint.PODS:
    @breaks(f"replicas_{_pod}", "replicas, not")
    def _(s, pod=_pod): s.services[pod]["deploy"]["replicas"] = 2

    @breaks(f"resources_{_pod}", "limits 1 CPU")
    def _(s, pod=_pod): s.services[pod]["deploy"]["resources"]["limits"]["cpus"] = "1"

    @breaks(f"resources_{_pod}", "reservations 1048576 of memory")
    def _(s, pod=_pod): s.services[pod]["deploy"]["resources"]["reservations"]["memory"] = "1048576"


@breaks("sizes", "prometheus: limits 1 CPU")
def _(s): s.services["prometheus"]["deploy"]["resources"]["limits"]["cpus"] = "1"


@breaks("sizes", "migrate-core has no limit of memory")
def _(s): del s.services["migrate-core"]["deploy"]["resources"]["limits"]["memory"]


@breaks("capacity", "are reserved, more than")
def _(s): s.services["business-pod"]["deploy"]["replicas"] = 12


@breaks("sticky", "samesite is 'none'")
def _(s): label(s, "core-pod", "traefik.http.services.core.loadbalancer.sticky.cookie.sameSite", "none")


@breaks("sticky", "experience-pod: lbswarm")
def _(s): label(s, "experience-pod", "traefik.swarm.lbswarm", "true")


@breaks("round_robin", "business-pod has")
def _(s): label(s, "business-pod", "traefik.http.services.business.loadbalancer.sticky.cookie.name", "x")


@breaks("health", "loki has no health check")
def _(s): del s.services["loki"]["healthcheck"]


@breaks("health", "not its own subcommand")
def _(s): s.services["core-pod"]["healthcheck"]["test"] = ["CMD", "wget", "http://127.0.0.1:8080/health/ready"]


@breaks("health", "minio-init: the check of its image")
def _(s): s.services["minio-init"]["healthcheck"] = {}


@breaks("liveness_only", "redis-2: the check is more than a ping")
def _(s): s.services["redis-2"]["healthcheck"]["test"] = ["CMD", "redis-cli", "cluster", "info"]


@breaks("liveness_only", "kafka-1: the check")
def _(s): s.services["kafka-1"]["healthcheck"]["test"] = ["CMD", "kafka-topics.sh", "--list"]


@breaks("liveness_only", "not /health/ready")
def _(s): label(s, "core-pod", "traefik.http.services.core.loadbalancer.healthcheck.path", "/health")


@breaks("compute_heavy", "no preference")
def _(s): s.services["business-pod"]["deploy"]["placement"]["preferences"] = []


@breaks("compute_heavy", "tied to nodes")
def _(s): s.services["business-pod"]["deploy"]["placement"]["constraints"] = ["node.labels.workload == compute-heavy"]


@breaks("stateless", "core-pod mounts uploads")
def _(s): s.services["core-pod"]["volumes"].append({"type": "volume", "source": "uploads", "target": "/uploads"})


RULE = "traefik.http.routers.api-core.rule"


@breaks("routers", "do not balance")
def _(s): label(s, "core-pod", RULE, "Host(`a`) && (PathPrefix(`/auth`)")


@breaks("routers", "PathRegexp does not mean the same")
def _(s): label(s, "core-pod", RULE, "Host(`a`) && PathRegexp(`^/x`)")


@breaks("routers", "several arguments")
def _(s): label(s, "core-pod", RULE, "Host(`a`, `b`)")


@breaks("routers", "no service kore")
def _(s): label(s, "core-pod", "traefik.http.routers.api-core.service", "kore")


@breaks("routers", "no middleware rl-core@swarm")
def _(s): label(s, "core-pod", "traefik.http.routers.api-core.middlewares", "rl-core@swarm")


@breaks("routers", "router api-core has no tls")
def _(s): del s.services["core-pod"]["deploy"]["labels"]["traefik.http.routers.api-core.tls"]


@breaks("routers", "outside of the file provider")
def _(s): label(s, "core-pod", "traefik.http.middlewares.x.compress", "true")


@breaks("router_table", "api.example.org/api/v1/airports/x goes to api-ai")
def _(s): label(s, "business-pod", "traefik.http.routers.api-ai.rule", "Host(`api.example.org`) && PathPrefix(`/api/v1/ai`)")


@breaks("router_table", "api.example.org/metrics goes to api-core")
def _(s): label(s, "core-pod", RULE, "Host(`api.example.org`)")


@breaks("health_aliases", "/voyage/health becomes /voyage/health")
def _(s): label(s, "business-pod", "traefik.http.routers.business-health.middlewares", "sec-headers-api@file")


@breaks("acme", "not ACME_EMAIL")
def _(s): edit(s, STATIC, r"email: .*?$", "email: somebody@example.com")


@breaks("acme", "more than one Traefik")
def _(s): s.services["traefik"]["deploy"]["replicas"] = 2


@breaks("acme", "no certificate resolver")
def _(s): del s.services["core-pod"]["deploy"]["labels"]["traefik.http.routers.api-core.tls.certResolver"]


@breaks("redirect", "does not redirect")
def _(s): edit(s, STATIC, r"permanent: true", "permanent: false")


@breaks("redirect", "listens on web")
def _(s): label(s, "core-pod", "traefik.http.routers.api-core.entryPoints", "web")


@breaks("tls", "VersionTLS11")
def _(s): edit(s, "docker/traefik/dynamic/tls.yml", "VersionTLS12", "VersionTLS11")


@breaks("tls", "TLS_RSA_WITH_AES_128_CBC_SHA is not")
def _(s): edit(s, "docker/traefik/dynamic/tls.yml", "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", "TLS_RSA_WITH_AES_128_CBC_SHA")


@breaks("compression", "router web does not compress")
def _(s): label(s, "experience-pod", "traefik.http.routers.web.middlewares", "sec-headers-web@file")


@breaks("rate_limits", "rl-core is 1000/50")
def _(s): s.services["traefik"]["environment"]["RATE_LIMIT_CORE_AVG"] = "1000"


@breaks("rate_limits", "router api-webhook is limited")
def _(s): label(s, "business-pod", "traefik.http.routers.api-webhook.middlewares", "rl-business@file")


@breaks("rate_limits", "router api-ai has not rl-ai")
def _(s): label(s, "business-pod", "traefik.http.routers.api-ai.middlewares", "rl-business@file")


@breaks("headers", "stsSeconds is 300")
def _(s): edit(s, MIDDLEWARES, "stsSeconds: 31536000", "stsSeconds: 300")


@breaks("headers", "does not allow xr-spatial-tracking")
def _(s): edit(s, MIDDLEWARES, r"xr-spatial-tracking=\(self\)", "xr-spatial-tracking=()")


@breaks("headers", "overwrites the Content-Security-Policy")
def _(s): edit(s, MIDDLEWARES, "contentTypeNosniff: true", "contentTypeNosniff: true\n        contentSecurityPolicy: default-src 'self'")


@breaks("dashboards_behind_auth", "shows a dashboard to everybody")
def _(s): label(s, "prometheus", "traefik.http.routers.prometheus.middlewares", "sec-headers-web@file")


@breaks("dashboards_behind_auth", "lets everybody in")
def _(s): s.services["grafana"]["environment"]["GF_AUTH_ANONYMOUS_ENABLED"] = "true"


@breaks("traefik_api", "the dashboard is off, or open")
def _(s): edit(s, STATIC, "dashboard: true", "dashboard: true\n  insecure: true")


@breaks("traefik_api", "talks to the engine itself")
def _(s): edit(s, STATIC, "tcp://docker-socket-proxy:2375", "unix:///var/run/docker.sock")


@breaks("traefik_api", "keeps credentials")
def _(s): edit(s, STATIC, "Authorization: drop", "Authorization: keep")


@breaks("forwarded", "trusts")
def _(s): edit(s, STATIC, r"forwardedHeaders:\n *trustedIPs: .*?$", "forwardedHeaders:\n      insecure: true")


@breaks("postgres_pair", "not max_connections=500")
def _(s): s.services["postgres-primary"]["environment"]["PG_EXTRA"] = "-c max_connections=100"


@breaks("postgres_pair", "secrets of the two nodes differs")
def _(s): s.services["postgres-replica"]["secrets"].pop()


@breaks("postgres_pair", "does not belong to postgres-replica alone")
def _(s):
    for name in ("postgres-primary", "postgres-replica"):
        s.services[name]["environment"]["PG_PRIMARY_SERVICE"] = "postgres-replica"


@breaks("postgres_pair", "/dev/shm")
def _(s): s.services["postgres-primary"]["volumes"] = [v for v in s.services["postgres-primary"]["volumes"] if v["target"] != "/dev/shm"]


@breaks("connections", "connections:")
def _(s): s.services["business-pod"]["environment"]["DB_POOL_MAX"] = "8"


@breaks("redis", "redis-2: 2gb noeviction")
def _(s): s.services["redis-2"]["environment"]["REDIS_MAXMEMORY_POLICY"] = "noeviction"


@breaks("redis", "is not one task at its own address")
def _(s): s.services["redis-1"]["deploy"]["endpoint_mode"] = "vip"


@breaks("redis", "CACHE_SUBNET is not the subnet")
def _(s): s.stack["networks"]["cache-network"]["ipam"]["config"][0]["subnet"] = "10.99.0.0/24"


@breaks("kafka", "cluster id")
def _(s): s.services["kafka-2"]["environment"]["CLUSTER_ID"] = "MkU3OEVBNTcwNTJENDM2QQ"


@breaks("kafka", "kafka-3: KAFKA_NODE_ID")
def _(s): s.services["kafka-3"]["environment"]["KAFKA_NODE_ID"] = "2"


@breaks("kafka", "KAFKA_LISTENERS")
def _(s): s.services["kafka-1"]["environment"]["KAFKA_LISTENERS"] = "PLAINTEXT://kafka-1:9092,CONTROLLER://kafka-1:9093"


@breaks("kafka", "the agent would start in the job")
def _(s): s.services["kafka-topics-init"]["environment"]["KAFKA_OPTS"] = "-javaagent:x"


@breaks("kafka_partitions", "kafka-1: 3 partitions")
def _(s): s.services["kafka-1"]["environment"]["KAFKA_NUM_PARTITIONS"] = "3"


@breaks("kafka_replication", "KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR is 1")
def _(s): s.services["kafka-1"]["environment"]["KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR"] = "1"


@breaks("kafka_retention", "24 hours")
def _(s): s.services["kafka-1"]["environment"]["KAFKA_LOG_RETENTION_HOURS"] = "24"


@breaks("kafka_topics", "makes topics by itself")
def _(s): s.services["kafka-1"]["environment"]["KAFKA_AUTO_CREATE_TOPICS_ENABLE"] = "true"


@breaks("minio", "core-pod has MinIO's root account")
def _(s): s.services["core-pod"]["secrets"].append({"source": "minio_root_password", "target": "x", "uid": "1000", "mode": 0o400})


def rendered_as(s, **changed):
    def rerender(**overrides):
        return stack.render(**(overrides | changed))
    s.extra["rerender"] = rerender


@breaks("overridable", "core-pod: (3,")
def _(s): rendered_as(s, CORE_POD_REPLICAS="3")


@breaks("mandatory", "renders without ACME_EMAIL")
def _(s): rendered_as(s, ACME_EMAIL="x@example.org")


@breaks("template", "NEW_SETTING is not in .env.prod.example")
def _(s): edit(s, "compose/docker-compose.bigpods.prod.yml", "APP_ENV: production", "APP_ENV: ${NEW_SETTING:-production}")


@breaks("template", "OLD_SETTING of .env.prod.example is read by nothing")
def _(s): edit(s, ".env.prod.example", r"^STACK_NAME", 'OLD_SETTING="x"\nSTACK_NAME')


@breaks("template", "a secret in the template: SMTP_PASSWORD")
def _(s): edit(s, ".env.prod.example", r"^SMTP_USERNAME", 'SMTP_PASSWORD="x"\nSMTP_USERNAME')


@breaks("template", "not a quoted value")
def _(s): edit(s, ".env.prod.example", r'^STACK_NAME="dreamscape"', "STACK_NAME=dreamscape")


@breaks("no_literal_secrets", "core-pod: REDIS_PASSWORD holds a value")
def _(s): s.services["core-pod"]["environment"]["REDIS_PASSWORD"] = "hunter2"


@breaks("no_literal_secrets", "names a secret that is not mounted")
def _(s): s.services["core-pod"]["environment"]["REDIS_PASSWORD_FILE"] = "/run/secrets/other"


@breaks("secrets", "is not external")
def _(s): s.stack["secrets"]["db_password"] = {"name": "dreamscape_db_password"}


@breaks("secrets", "is not 0400 of user 1000")
def _(s): s.services["core-pod"]["secrets"][0]["mode"] = 0o444


@breaks("secrets", "is not 0400 of user 70")
def _(s): s.services["postgres-primary"]["secrets"][0]["uid"] = "1000"


@breaks("consumers", "jwt_signing_key: mounted by business-pod, core-pod")
def _(s): s.services["business-pod"]["secrets"].append({"source": "jwt_signing_key", "target": "jwt_signing_key", "uid": "1000", "mode": 0o400})


@breaks("known_settings", "core-pod does not read JWT_SECRET_FILE")
def _(s): s.services["core-pod"]["environment"]["JWT_SECRET_FILE"] = "/run/secrets/jwt_signing_key"


@breaks("pod_settings", "TRUSTED_PROXIES is not the subnet")
def _(s): s.services["core-pod"]["environment"]["TRUSTED_PROXIES"] = "0.0.0.0/0"


@breaks("pod_settings", "business-pod: lingers 20, drains 90")
def _(s): s.services["business-pod"]["environment"]["SHUTDOWN_DRAIN_SECONDS"] = "90"


@breaks("networks", "networks:")
def _(s): s.stack["networks"]["extra"] = {"driver": "overlay", "driver_opts": {"encrypted": "true"}}


@breaks("networks", "cache-network is not an encrypted overlay")
def _(s): del s.stack["networks"]["cache-network"]["driver_opts"]


for _name in ("bigpods-network", "database-network", "cache-network", "storage-network", "monitoring-network"):
    @breaks("network_" + _name, "is not encrypted")
    def _(s, name=_name): s.stack["networks"][name]["driver_opts"] = {"encrypted": "false"}

    @breaks("network_" + _name, "internal")
    def _(s, name=_name): s.stack["networks"][name]["internal"] = not s.stack["networks"][name].get("internal")


@breaks("segmentation", "traefik is on")
def _(s): s.services["traefik"]["networks"]["database-network"] = None


@breaks("segmentation", "core-pod is on")
def _(s): del s.services["core-pod"]["networks"]["cache-network"]


@breaks("subnets", "overlaps")
def _(s): s.stack["networks"]["cache-network"]["ipam"]["config"][0]["subnet"] = "10.80.0.0/24"


@breaks("users", "core-pod runs as 0:0")
def _(s): s.services["core-pod"]["user"] = "0:0"


@breaks("users", "autoscaler runs as 1000:0")
def _(s): s.services["autoscaler"]["user"] = "1000:0"


@breaks("users", "grafana runs as None")
def _(s): del s.services["grafana"]["user"]


@breaks("read_only", "minio can write to its root")
def _(s): s.services["minio"]["read_only"] = False


@breaks("long_tmpfs", "core-pod has a short tmpfs")
def _(s): edit(s, "compose/docker-compose.bigpods.prod.yml", r"^  core-pod:$", "  core-pod:\n    tmpfs: [/run]")


@breaks("long_tmpfs", "in the short syntax")
def _(s): edit(s, "compose/docker-compose.bigpods.prod.yml", r"\{type: volume, source: minio_data, target: /data\}", '"minio_data:/data"')


@breaks("hardening", "loki keeps capabilities")
def _(s): del s.services["loki"]["cap_drop"]


@breaks("hardening", "loki is given capabilities")
def _(s): s.services["loki"]["cap_add"] = ["NET_ADMIN"]


@breaks("hardening", "minio has no init")
def _(s): del s.services["minio"]["init"]


@breaks("hardening", "minio has no limit of processes")
def _(s): del s.services["minio"]["deploy"]["resources"]["limits"]["pids"]


@breaks("ports", "grafana publishes 3000")
def _(s): s.services["grafana"]["ports"] = [{"target": 3000, "published": 3000, "mode": "ingress"}]


@breaks("ports", "traefik publishes 80 (ingress)")
def _(s): s.services["traefik"]["ports"][0]["mode"] = "ingress"


@breaks("engine_socket", "grafana has the engine's socket")
def _(s): s.services["grafana"]["volumes"].append({"type": "bind", "source": "/var/run/docker.sock", "target": "/x", "read_only": True})


@breaks("engine_socket", "promtail has the socket to write")
def _(s):
    for volume in s.services["promtail"]["volumes"]:
        volume.pop("read_only", None)


@breaks("engine_socket", "lets requests through")
def _(s): s.services["docker-socket-proxy"]["environment"]["POST"] = "1"


@breaks("images", "has no tag, or latest")
def _(s): s.services["core-pod"]["image"] = "registry.example.org/dreamscape/core-pod:latest"


@breaks("images", "has no digest")
def _(s): s.services["grafana"]["image"] = "grafana/grafana:12.3.0"


@breaks("images", "the digest is the one of the checks")
def _(s): s.deployed = True


@breaks("dockerfiles", "no USER 1000:1000")
def _(s): edit(s, "docker/core-pod/Dockerfile.prod", "USER 1000:1000", "USER root")


@breaks("dockerfiles", "the last stage is")
def _(s): edit(s, "docker/core-pod/Dockerfile.prod", r"FROM \$\{ALPINE_IMAGE\}", "FROM debian:12")


@breaks("dockerfiles", "no --locked")
def _(s): edit(s, "docker/core-pod/Dockerfile.prod", " --locked", "")


@breaks("dockerfiles", "not the toolchain")
def _(s): edit(s, "rust-toolchain.toml", r'channel = ".*?"', 'channel = "1.99.0"')


@breaks("base_images", "traefik: TRAEFIK_IMAGE=traefik:v3.0, images.env says")
def _(s): edit(s, "docker/traefik/Dockerfile", r"traefik:v[\d.]+", "traefik:v3.0")


@breaks("base_images", "cannot be pinned")
def _(s): edit(s, "docker/traefik/Dockerfile", r"FROM \$\{TRAEFIK_IMAGE\}", "FROM traefik:v3.6.2")


@breaks("base_images", "docker-compose.dev.yml: postgres:14-alpine, images.env says postgres:15-alpine")
def _(s): edit(s, "compose/docker-compose.dev.yml", "postgres:15-alpine", "postgres:14-alpine")


@breaks("same_healthcheck", "interval 5s is not 15s")
def _(s): edit(s, "docker/core-pod/Dockerfile.prod", "--interval=15s", "--interval=5s")


@breaks("same_healthcheck", "core-pod/Dockerfile.prod: [")
def _(s): edit(s, "docker/core-pod/Dockerfile.prod", r'CMD \["/core-pod", "healthcheck"\]', 'CMD ["/core-pod", "live"]')


@breaks("postgres_version", "the image is")
def _(s): edit(s, "compose/images.env", "postgres:15-alpine", "postgres:16-alpine")


@breaks("targets", "no service auth-service")
def _(s): s.extra["monitoring/prometheus.yml"] = "scrape_configs: [{job_name: x, static_configs: [{targets: ['auth-service:3001']}]}]"


@breaks("targets", "postgres-primary is on no network of Prometheus")
def _(s):
    s.extra["monitoring/prometheus.yml"] = "scrape_configs: [{job_name: x, dns_sd_configs: [{names: [tasks.postgres-primary]}]}]"


@breaks("targets", "more than monitoring-network")
def _(s): s.services["prometheus"]["networks"]["bigpods-network"] = None


@breaks("retention", "not 30d")
def _(s): s.services["prometheus"]["command"].remove("--storage.tsdb.retention.time=30d")


@breaks("mounted", "data sources are not where")
def _(s):
    for mount in s.services["grafana"]["configs"]:
        mount["target"] = mount["target"].replace("/etc/grafana/provisioning/", "/etc/grafana/")


@breaks("config_files", "is missing")
def _(s): s.stack["configs"]["traefik_tls"]["file"] = "/nonexistent/tls.yml"


@breaks("config_files", "has no hash")
def _(s): s.stack["configs"]["traefik_tls"]["name"] = "dreamscape_traefik_tls"


@breaks("config_files", "filled in by nobody")
def _(s): del s.stack["configs"]["traefik_static"]["template_driver"]


@breaks("templates", "cannot fill in {{ env }}")
def _(s): edit(s, STATIC, "^global:", "# by {{ env }}\nglobal:")


@breaks("templates", "config traefik_middlewares: traefik has no CDN_IP_DEPTH")
def _(s): del s.services["traefik"]["environment"]["CDN_IP_DEPTH"]


@breaks("logging", "loki:")
def _(s): s.services["loki"]["logging"] = {"driver": "syslog", "options": {}}


@breaks("logging", "loki has no labels")
def _(s): s.services["loki"]["labels"] = {}


@breaks("alert_contacts", "not told ALERT_EMAIL_TO")
def _(s): s.services["alertmanager"]["environment"].pop("ALERT_EMAIL_TO")


@breaks("caps", "core-pod: labels say 3-20")
def _(s): label(s, "core-pod", "dreamscape.autoscale.max", "20")


@breaks("caps", "the policy says")
def _(s): edit(s, "docker/autoscaler/policy.yml", "max: 8", "max: 20")


@breaks("caps", "the rules are")
def _(s): edit(s, "docker/autoscaler/policy.yml", "per_replica: 25", "per_replica: 50")


@breaks("autoscaler", "on by default")
def _(s): s.services["autoscaler"]["environment"]["AUTOSCALER_ENABLED"] = "true"


@breaks("updates", "core-pod:")
def _(s): s.services["core-pod"]["deploy"]["update_config"]["parallelism"] = 2


@breaks("updates", "postgres-primary:")
def _(s): s.services["postgres-primary"]["deploy"]["update_config"]["order"] = "start-first"


@breaks("updates", "business-pod: delay 1s")
def _(s): s.services["business-pod"]["deploy"]["update_config"]["delay"] = "1s"


@breaks("rollbacks", "not rolled back")
def _(s): s.services["core-pod"]["deploy"]["update_config"]["max_failure_ratio"] = 0.5


@breaks("rollbacks", "has no rollback_config")
def _(s): del s.services["grafana"]["deploy"]["rollback_config"]


@breaks("restarts", "gives up after 3")
def _(s): s.services["core-pod"]["deploy"]["restart_policy"]["max_attempts"] = 3


@breaks("restarts", "minio-init: restarts on any")
def _(s): s.services["minio-init"]["deploy"]["restart_policy"]["condition"] = "any"


@breaks("restarts", "cadvisor: mode")
def _(s): s.services["cadvisor"]["deploy"]["mode"] = "replicated"


@breaks("backup", "0 4 * * *")
def _(s): s.services["backup"]["environment"]["BACKUP_SCHEDULE"] = "0 4 * * *"


@breaks("backup_store", "one store is enough")
def _(s): s.services["backup"]["environment"]["SOURCE_S3_ENDPOINT"] = "http://minio:9000"


def with_external_backup(subject):
    """The subject becomes the stack with that overlay."""
    subject.__init__(stack.render(stack.COMPOSE / "docker-compose.backup-external.yml", BACKUP_S3_ENDPOINT="https://s3.example.org"), overlays=["backup-external"])
    return subject.services["backup"]


@breaks("backup_store", "objects come from None")
def _(s): del with_external_backup(s)["environment"]["SOURCE_S3_ENDPOINT"]


@breaks("backup_store", "the keys of the store outside")
def _(s): with_external_backup(s)["environment"]["S3_SECRET_KEY_FILE"] = "/run/secrets/backup_s3_secret_key"


@breaks("consumers", "backup_external_s3_secret_key: mounted by nobody; wanted backup")
def _(s):
    backup = with_external_backup(s)
    backup["secrets"] = [mount for mount in backup["secrets"] if mount["source"] != "backup_external_s3_secret_key"]


@breaks("two_versions", "redis is of ${VERSION:?}")
def _(s): edit(s, "compose/docker-compose.bigpods.prod.yml", r"redis:\$\{INFRA_VERSION", "redis:${VERSION")


@breaks("versions", "version 3.8")
def _(s): edit(s, "compose/docker-compose.alloy.yml", r'version: "3.13"', 'version: "3.8"')


class Rules(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.plain = stack.render()

    def subject(self):
        return Subject(copy.deepcopy(self.plain))

    def test_every_rule_has_a_break(self):
        self.assertEqual({rule.__name__ for rule in RULES}, set(BREAKS))

    def test_numbers_are_read(self):
        self.assertEqual([stack_lint.size(text) for text in ("512M", "4G", "1.5G", "4294967296")],
                         [512 * 2**20, 2**32, 3 * 2**29, 2**32])


def break_test(rule, expected, function):
    def test(self):
        subject = self.subject()
        if function(subject) == "skip":
            self.skipTest("not yet there")
        problems = next(found for _, found in stack_lint.check(subject, [rule]))
        self.assertTrue(any(expected in problem for problem in problems), f"{expected!r} not in {problems}")

    return test


for _rule in RULES:
    for _number, (_expected, _function) in enumerate(BREAKS.get(_rule.__name__, []), 1):
        setattr(Rules, f"test_{_rule.__name__.replace('-', '_')}_{_number}", break_test(_rule, _expected, _function))


if __name__ == "__main__":
    try:
        stack.render()
    except stack.Unavailable as reason:
        stack.report("SKIP", "V4", "-", f"each rule of the linter seen to fail ({reason})")
        sys.exit(0)
    result = unittest.main(argv=[sys.argv[0], "-q"], exit=False, verbosity=0).result
    failed = len(result.failures) + len(result.errors)
    stack.report("FAIL" if failed else "PASS", "V4", "-",
                 f"{result.testsRun - failed} of {result.testsRun} broken copies of the stack are refused, each by its rule")
    sys.exit(1 if failed else 0)
