#!/usr/bin/env python3
"""V4: asserts every figure and rule of the operations contract on the rendered production stack.

Each rule is a function over a `Subject` that yields what is wrong, nothing if all is well; the requirements it proves stand on
its decorator. `test_stack_lint.py` breaks a copy of the stack once per rule and sees exactly that rule fail.

Usage: stack_lint.py                      renders the stack of this repository, alone and with each overlay
       stack_lint.py --rendered FILE      checks a file that is about to be deployed (scripts/production/deploy.sh)
"""

import argparse
import pathlib
import re
import sys

import stack
from stack import ROOT

PODS = {
    # replicas, limits, reservations, cap of the autoscaler, what R-120 scales to
    "core-pod": (3, ("2", "4G"), ("1", "2G"), 8, 5, ("R-004", "R-005")),
    "business-pod": (5, ("4", "8G"), ("2", "4G"), 12, 10, ("R-009", "R-010")),
    "experience-pod": (4, ("2", "4G"), ("1", "2G"), 10, 6, ("R-013", "R-014")),
}
JOBS = {"migrate-core", "migrate-business", "redis-cluster-init", "kafka-topics-init", "minio-init"}
GLOBAL = {"promtail", "node-exporter", "cadvisor"}
REDIS = ["redis-1", "redis-2", "redis-3"]
KAFKA = ["kafka-1", "kafka-2", "kafka-3"]
B, D, C, S, M = (name + "-network" for name in ("bigpods", "database", "cache", "storage", "monitoring"))
INTERNAL = {D, C, S}

# operations §2 and §6.1: limit (cpu, memory), reservation or None where the contract names none, networks, user, update order
TABLE = {
    "core-pod": (None, None, {B, D, C, S, M}, "1000:1000", "start-first"),
    "business-pod": (None, None, {B, D, C, S, M}, "1000:1000", "start-first"),
    "experience-pod": (None, None, {B, C, S, M}, "1000:1000", "start-first"),
    "traefik": (("1", "512M"), ("0.25", "128M"), {B, M}, "1000:1000", "stop-first"),
    "postgres-primary": (("4", "8G"), ("1", "4G"), {D}, "70:70", "stop-first"),
    "postgres-replica": (("4", "8G"), ("1", "4G"), {D}, "70:70", "stop-first"),
    "redis-1": (("1", "3G"), ("0.25", "2G"), {C}, "999:1000", "stop-first"),
    "redis-2": (("1", "3G"), ("0.25", "2G"), {C}, "999:1000", "stop-first"),
    "redis-3": (("1", "3G"), ("0.25", "2G"), {C}, "999:1000", "stop-first"),
    "redis-cluster-init": (("0.2", "64M"), None, {C}, "999:1000", None),
    "kafka-1": (("2", "3G"), ("0.5", "1536M"), {B, M}, "1000:1000", "stop-first"),
    "kafka-2": (("2", "3G"), ("0.5", "1536M"), {B, M}, "1000:1000", "stop-first"),
    "kafka-3": (("2", "3G"), ("0.5", "1536M"), {B, M}, "1000:1000", "stop-first"),
    "kafka-topics-init": (("0.5", "512M"), None, {B}, "1000:1000", None),
    "minio": (("1", "2G"), ("0.5", "1G"), {S, M}, "1000:1000", "stop-first"),
    "minio-init": (("0.2", "64M"), None, {S}, "1000:1000", None),
    "migrate-core": (None, None, {D}, "1000:1000", None),
    "migrate-business": (None, None, {D}, "1000:1000", None),
    "prometheus": (("2", "4G"), ("0.5", "2G"), {M}, "65534:65534", "stop-first"),
    "alertmanager": (("0.2", "128M"), ("0.05", "64M"), {M}, "65534:65534", "stop-first"),
    "grafana": (("1", "512M"), ("0.1", "256M"), {M}, "472:0", "stop-first"),
    "loki": (("1", "2G"), ("0.25", "512M"), {M, S}, "10001:10001", "stop-first"),
    "promtail": (("0.2", "256M"), ("0.1", "128M"), {M}, "0:0", "stop-first"),
    "node-exporter": (("0.2", "256M"), None, {M}, "65534:65534", "stop-first"),
    "cadvisor": (("0.2", "256M"), None, {M}, None, "stop-first"),
    "postgres-exporter": (("0.2", "128M"), None, {M, D}, "65534:65534", "stop-first"),
    "redis-exporter": (("0.2", "128M"), None, {M, C}, "59000:59000", "stop-first"),
    "kafka-exporter": (("0.2", "128M"), None, {M, B}, "65534:65534", "stop-first"),
    "blackbox-exporter": (("0.2", "128M"), None, {M, B}, "65534:65534", "stop-first"),
    "docker-socket-proxy": (("0.1", "64M"), None, {M}, "0:0", "stop-first"),
    "autoscaler": (("0.2", "64M"), ("0.05", None), {M}, "1000:*", "stop-first"),
    "backup": (("1", "512M"), ("0.1", "256M"), {D, S, M}, "70:70", "stop-first"),
}
ROOT_USERS = {"promtail": "reads all logs through the engine's socket", "docker-socket-proxy": "opens the engine's socket",
              "cadvisor": "reads the control groups of all containers"}
WRITABLE_ROOT = {"cadvisor"}
WITH_CAPABILITIES = {"cadvisor"}
SOCKET = {"promtail", "docker-socket-proxy", "autoscaler"}
OWN_INIT = set(PODS) | {"migrate-core", "migrate-business"}
OWN_IMAGES = {"core-pod", "business-pod", "experience-pod", "traefik", "postgres", "redis", "kafka", "minio", "backup", "autoscaler",
              "traefik-v2.10"}

# operations §6.2, with what our services read in place of it: an address per service's role, and the list of service clients
CONSUMERS = {
    "db_password": {"postgres-primary", "postgres-replica", "migrate-core", "migrate-business", "backup"},
    "db_replication_password": {"postgres-primary", "postgres-replica", "backup"},
    "db_exporter_password": {"postgres-primary", "postgres-replica", "postgres-exporter"},
    **{f"db_url_{name}": {pod, "postgres-primary", "postgres-replica"} for pod, names in
       {"core-pod": ("auth", "user", "mail"), "business-pod": ("voyage", "payment", "ai")}.items() for name in names},
    "redis_password": {*PODS, *REDIS},
    "redis_admin_password": {*REDIS, "redis-cluster-init"},
    "redis_exporter_passwords": {"redis-exporter"},
    "jwt_signing_key": {"core-pod"},
    "data_encryption_key": {"core-pod", "business-pod"},
    "service_clients": {"core-pod"},
    "service_client_secret_business": {"business-pod"},
    "service_client_secret_experience": {"experience-pod"},
    "s3_access_key": {*PODS, "minio-init"},
    "s3_secret_key": {*PODS, "minio-init"},
    "backup_s3_access_key": {"backup", "minio-init"},
    "backup_s3_secret_key": {"backup", "minio-init"},
    "minio_root_user": {"minio", "minio-init"},
    "minio_root_password": {"minio", "minio-init"},
    "backup_encryption_key": {"backup"},
    **{name: {"business-pod"} for name in ("amadeus_api_key", "amadeus_api_secret", "duffel_api_token", "openweather_api_key",
                                           "openai_api_key", "stripe_secret_key", "stripe_webhook_secret")},
    "sendgrid_api_key": {"core-pod"},
    "grafana_admin_password": {"grafana"},
    "traefik_users": {"traefik"},
    **{name: {"alertmanager"} for name in ("smtp_password", "slack_webhook_url", "pagerduty_routing_key")},
}
# With backup-external: the keys of a store outside of the stack
EXTERNAL = {"backup_external_s3_access_key", "backup_external_s3_secret_key"}
# Names the contract fixes for adapters and pods that read them in a later release.
PLANNED = {
    "core-pod": set(),
    "business-pod": {"AMADEUS_API_KEY_FILE", "AMADEUS_API_SECRET_FILE", "DUFFEL_API_TOKEN_FILE", "OPENWEATHER_API_KEY_FILE",
                     "OPENAI_API_KEY_FILE", "DATA_ENCRYPTION_KEY_FILE", "S3_ENDPOINT", "S3_REGION", "S3_BUCKET",
                     "S3_ACCESS_KEY_FILE", "S3_SECRET_KEY_FILE"},
    "experience-pod": {"S3_ENDPOINT", "S3_REGION", "S3_BUCKET", "S3_ACCESS_KEY_FILE", "S3_SECRET_KEY_FILE",
                       "SERVICE_CLIENT_SECRET_FILE", "CDN_ENABLED", "CDN_DOMAIN", "CDN_ORIGIN"},
}
# Read by every pod, listed where one of its services has a database: <SERVICE>_DATABASE_URL wins over DATABASE_URL.
SERVICE_URLS = {"core-pod": ("AUTH", "USER", "MAIL"), "business-pod": ("VOYAGE", "PAYMENT", "AI"), "experience-pod": ()}
# Kept in the template so that old files load; nothing reads them (operations §6.3).
KEPT = {"CORS_CREDENTIALS", "SESSION_COOKIE_SECURE", "SESSION_COOKIE_HTTPONLY", "SESSION_COOKIE_SAMESITE", "SESSION_MAX_AGE"}
# Filled in by deploy.sh from other settings, or from what it finds.
DERIVED = {"PG_PRIMARY_ALIAS", "PG_REPLICA_ALIAS"}
SECRET_NAME = re.compile(r"PASSWORD|SECRET|TOKEN|API_KEY|PRIVATE")

UNITS = {"": 1, "B": 1, "K": 2**10, "M": 2**20, "G": 2**30}


def size(text):
    """Bytes of 512M, 4G or 4294967296."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGB]?)B?", str(text).upper())
    if not found:
        raise ValueError(text)
    return int(float(found.group(1)) * UNITS[found.group(2)])


class Subject:
    """A rendered stack, and the files of the repository that belong to it."""

    def __init__(self, rendered, *, small=False, deployed=False, local=False, overlays=()):
        self.stack = rendered
        self.small = small
        self.deployed = deployed
        self.local = local  # images of this engine, which no registry has a digest of
        self.overlays = frozenset(overlays)
        self.services = rendered.get("services", {})
        self.extra = {}  # replacements of files, for tests

    def read(self, path):
        """The text of a file of the repository."""
        return self.extra.get(path) or (ROOT / path).read_text(encoding="utf-8")

    def yaml(self, path, env=None):
        """A YAML file with its `{{ env }}` filled in."""
        return stack.load(stack.fill_in(self.read(path), env or self.services["traefik"]["environment"]))

    def deploy(self, name):
        """The `deploy` of a service."""
        return self.services[name].get("deploy", {})

    def env(self, name):
        """The environment of a service."""
        return self.services[name].get("environment") or {}

    def labels(self):
        """All of Traefik's labels: (service, key, value)."""
        for name in self.services:
            for key, value in (self.deploy(name).get("labels") or {}).items():
                if key.startswith("traefik."):
                    yield name, key, str(value)

    def routers(self):
        """The routers by name, each with its keys and the service that carries its labels."""
        found = {}
        for service, key, value in self.labels():
            part = re.fullmatch(r"traefik\.http\.routers\.([\w-]+)\.(.+)", key)
            if part:
                found.setdefault(part.group(1), {"on": service})[part.group(2).lower()] = value
        return found


RULES = []


def rule(requirements, text, *, code="V4", base=False):
    """Registers a rule. `base`: about files and the plain stack, so not asked again with each overlay."""

    def register(function):
        function.requirements, function.text, function.code, function.base = requirements, text, code, base
        RULES.append(function)
        return function

    return register


# ---------------------------------------------------------------------------------------------------------------- services


@rule("R-001", "the stack has exactly the services of the topology")
def topology(subject):
    names = set(subject.services)
    allowed = set(TABLE) | ({"redis-4", "redis-5", "redis-6"} if "redis-6" in subject.overlays else set())
    for name in sorted(set(TABLE) - names):
        yield f"{name} is missing"
    for name in sorted(names - allowed):
        yield f"{name} is not in the topology"


def pod_rule(pod):
    replicas, limits, reservations, _cap, _scale, (r_replicas, r_resources) = PODS[pod]

    @rule(r_replicas, f"{pod}: {replicas} replicas")
    def _replicas(subject):
        found = subject.deploy(pod).get("replicas")
        if not (found == replicas or (subject.deployed and found and found >= replicas)):
            yield f"{pod} has {found} replicas, not {replicas}"

    @rule(r_resources, f"{pod}: {limits[0]} CPU / {limits[1]} limit, {reservations[0]} / {reservations[1]} reserved")
    def _resources(subject):
        yield from resources(subject, pod, limits, None if subject.small else reservations)

    _replicas.__name__, _resources.__name__ = f"replicas_{pod}", f"resources_{pod}"


def resources(subject, name, limits, reservations):
    found = subject.deploy(name).get("resources", {})
    for kind, wanted in (("limits", limits), ("reservations", reservations)):
        if wanted is None:
            continue
        cpu, memory = wanted
        has = found.get(kind, {})
        if float(has.get("cpus", 0)) != float(cpu):
            yield f"{name}: {kind} {has.get('cpus')} CPU, not {cpu}"
        if memory and size(has.get("memory", 0)) != size(memory):
            yield f"{name}: {kind} {has.get('memory')} of memory, not {memory}"


for _pod in PODS:
    pod_rule(_pod)


@rule("-", "every other service: limits and reservations of the topology table, and limits of processes")
def sizes(subject):
    for name in subject.services:
        wanted = TABLE.get(name, TABLE["redis-1"] if name.startswith("redis-") else (None, None, None, None, None))
        yield from resources(subject, name, wanted[0], None if subject.small else wanted[1])
        if not subject.deploy(name).get("resources", {}).get("limits", {}).get("cpus"):
            yield f"{name} has no limit of CPU"
        if not subject.deploy(name).get("resources", {}).get("limits", {}).get("memory"):
            yield f"{name} has no limit of memory"


@rule("R-060", "reservations: about 23 CPU / 57 GB in full, at most 14 CPU / 28 GB with profile-small")
def capacity(subject):
    cpu = memory = 0
    for name in subject.services:
        count = subject.deploy(name).get("replicas", 1)
        reserved = subject.deploy(name).get("resources", {}).get("reservations", {})
        cpu += count * float(reserved.get("cpus", 0))
        memory += count * size(reserved.get("memory", 0))
    most = (14, 28) if subject.small else (26, 66)
    if not subject.deployed and (cpu > most[0] or memory > most[1] * 2**30):
        yield f"{cpu:.2f} CPU and {memory / 2**30:.1f} GB are reserved, more than {most[0]} and {most[1]}"


@rule("R-006", "core: sticky cookie ds_core (Secure, HttpOnly, SameSite=Lax), balanced by Traefik itself")
def sticky(subject):
    labels = {key.lower(): value for service, key, value in subject.labels() if service == "core-pod"}
    base = "traefik.http.services.core.loadbalancer.sticky.cookie."
    for key, wanted in (("name", "ds_core"), ("secure", "true"), ("httponly", "true"), ("samesite", "lax")):
        if labels.get(base + key, "").lower() != wanted:
            yield f"core's sticky cookie: {key} is {labels.get(base + key)!r}, not {wanted!r}"
    for name in PODS:
        if dict((k, v) for s, k, v in subject.labels() if s == name).get("traefik.swarm.lbswarm") != "false":
            yield f"{name}: lbswarm is not false"


@rule("R-026", "sticky labels on core only; business and experience are balanced round-robin")
def round_robin(subject):
    for service, key, _value in subject.labels():
        if "sticky" in key.lower() and service != "core-pod":
            yield f"{service} has {key}"


@rule("R-007", "a health check on every long-running service, none on jobs; a pod's is its own subcommand")
def health(subject):
    for name, service in subject.services.items():
        check = service.get("healthcheck") or {}
        if name in JOBS:
            if not check.get("disable"):
                yield f"{name}: the check of its image is not switched off"
        elif check.get("disable") or not check.get("test"):
            yield f"{name} has no health check"
    for name in PODS:
        if (subject.services[name].get("healthcheck") or {}).get("test") != ["CMD", f"/{name}", "healthcheck"]:
            yield f"{name}: the check is not its own subcommand"


@rule("R-007,R-086", "the checks of quorum systems ask their own process only; a database outage replaces no pod")
def liveness_only(subject):
    for name in REDIS:
        # docker/redis/healthcheck.sh is a PING of the node itself
        if subject.services[name]["healthcheck"]["test"] != ["CMD", "healthcheck.sh"]:
            yield f"{name}: the check is more than a ping"
    for name in KAFKA:
        if "/dev/tcp/127.0.0.1/9093" not in " ".join(subject.services[name]["healthcheck"]["test"]):
            yield f"{name}: the check is not the open port of the controller"
    for _service, key, value in subject.labels():
        if key.endswith("healthcheck.path") and value != "/health/ready":
            yield f"{key} is {value}, not /health/ready"


@rule("R-011", "business: spread over workload labels as a preference, never a constraint")
def compute_heavy(subject):
    placement = subject.deploy("business-pod").get("placement", {})
    if {"spread": "node.labels.workload"} not in (placement.get("preferences") or []):
        yield "business-pod has no preference for node.labels.workload"
    if placement.get("constraints"):
        yield "business-pod is tied to nodes"


@rule("R-017", "pods keep no state: no volume but a tmpfs")
def stateless(subject):
    for name in PODS:
        for volume in subject.services[name].get("volumes", []):
            if volume.get("type") != "tmpfs":
                yield f"{name} mounts {volume.get('source')}"


# -------------------------------------------------------------------------------------------------------------------- edge

MATCHERS = {"Host", "Path", "PathPrefix"}


def dynamic(subject):
    return subject.yaml("docker/traefik/dynamic/middlewares.yml")["http"]["middlewares"]


@rule("R-020", "every router has rule, entry point, TLS, service and priority; its grammar is that of Traefik 2.10 and 3")
def routers(subject):
    services = {part.group(1) for _s, key, _v in subject.labels()
                if (part := re.match(r"traefik\.http\.services\.([\w-]+)\.", key))} | {"api@internal"}
    known = dynamic(subject)
    for name, router in subject.routers().items():
        for key in ("rule", "entrypoints", "tls", "service", "priority"):
            if not router.get(key):
                yield f"router {name} has no {key}"
        text = router.get("rule", "")
        if text.count("`") % 2 or text.count("(") != text.count(")"):
            yield f"router {name}: quotes or brackets do not balance"
        for matcher, arguments in re.findall(r"(\w+)\(((?:`[^`]*`(?:,\s*)?)+)\)", text):
            if matcher not in MATCHERS:
                yield f"router {name}: {matcher} does not mean the same in Traefik 2.10 and 3"
            if arguments.count("`") != 2:
                yield f"router {name}: {matcher} with several arguments is gone in Traefik 3"
        if re.sub(r"\w+\(`[^`]*`\)|\|\||&&|[()\s]", "", text):
            yield f"router {name}: cannot read the rule {text}"
        if router.get("service") not in services:
            yield f"router {name}: no service {router.get('service')}"
        for used in filter(None, router.get("middlewares", "").split(",")):
            base, _, provider = used.partition("@")
            if provider != "file" or base not in known:
                yield f"router {name}: no middleware {used} in the file provider"
    for service, key, _value in subject.labels():
        if ".middlewares." in key and not key.startswith("traefik.http.routers."):
            yield f"{service}: {key} defines a middleware outside of the file provider"


# (URL, router that must win, service)
ROUTES = [
    ("example.org/", "web", "experience"), ("www.example.org/voyages", "web", "experience"),
    ("example.org/api/v1/flights/search", "web-api", "experience"), ("example.org/socket.io/", "web-ws", "experience"),
    ("example.org/health", "root-health", "experience"), ("example.org/api/v1/payment/webhook", "web-webhook", "experience"),
    ("api.example.org/health", "api-core", "core"), ("api.example.org/auth/health", "core-health", "core"),
    ("api.example.org/users/health", "core-health", "core"), ("api.example.org/api/v1/auth/login", "api-core", "core"),
    ("api.example.org/api/auth/login", "api-core", "core"), ("api.example.org/api/v1/admin/users", "api-core", "core"),
    ("api.example.org/socket.io/", "api-core", "core"), ("api.example.org/uploads/avatars/a.png", "api-core", "core"),
    ("api.example.org/.well-known/jwks.json", "api-core", "core"),
    ("api.example.org/voyage/health", "business-health", "business"), ("api.example.org/payment/health", "business-health", "business"),
    ("api.example.org/ai/health", "business-health", "business"), ("api.example.org/panorama/health", "experience-health", "experience"),
    ("api.example.org/gateway/health", "gateway-health", "experience"),
    *((f"api.example.org{prefix}/{family}/x", "api-voyage", "business") for prefix in ("/api", "/api/v1") for family in
      ("voyage", "voyages", "itineraries", "bookings", "flights", "search-history", "price-alerts", "cart", "locations",
       "activities", "hotels", "accommodations", "transfers", "airlines", "airports")),
    *((f"api.example.org{prefix}/{family}/x", "api-ai", "business") for prefix in ("/api", "/api/v1") for family in
      ("ai", "recommendations", "context", "predictions")),
    ("api.example.org/api/v1/payment/create-intent", "api-payment", "business"),
    ("api.example.org/api/payment/history", "api-payment", "business"),
    ("api.example.org/api/v1/payment/webhook", "api-webhook", "business"),
    ("api.example.org/api/vr/sessions", "api-experience", "experience"),
    ("api.example.org/api/v1/vr/sessions", "api-experience", "experience"),
    ("api.example.org/api/v1/panorama/environments", "api-experience", "experience"),
    ("grafana.example.org/d/x", "grafana", "grafana"), ("prometheus.example.org/graph", "prometheus", "prometheus"),
    ("traefik.example.org/dashboard/", "traefik", "api@internal"),
    ("api.example.org/metrics", None, None), ("api.example.org/status", None, None), ("evil.example.com/", None, None),
]


def matches(text, host, path):
    """Evaluates a rule of Traefik's grammar that `routers` has accepted."""
    def one(found):
        matcher, argument = found.group(1), found.group(2)
        value = host == argument if matcher == "Host" else path == argument if matcher == "Path" else path.startswith(argument)
        return f" {value} "

    code = re.sub(r"(\w+)\(`([^`]*)`\)", one, text).replace("||", " or ").replace("&&", " and ")
    if not re.fullmatch(r"(True|False|and|or|[()\s])*", code):
        raise ValueError(text)
    return eval(code, {"__builtins__": {}})  # nothing but the words above can stand in it


@rule("R-136", "the router table of the contract: every host and path goes to its pod, and nothing else is public")
def router_table(subject):
    found = subject.routers()
    for url, wanted, service in ROUTES:
        host, _, path = url.partition("/")
        hits = [(int(router["priority"]), name) for name, router in found.items()
                if matches(router.get("rule", ""), host.replace("example.org", domain(subject)), "/" + path)]
        name = max(hits)[1] if hits else None
        if name != wanted or (name and found[name]["service"] != service):
            yield f"{url} goes to {name}, not to {wanted}"
        if len([hit for hit in hits if hit[0] == max(hits)[0]]) > 1:
            yield f"{url}: two routers with the same priority"


@rule("R-136", "short names of a service's health lead to the path that the pod serves")
def health_aliases(subject):
    known, found = dynamic(subject), subject.routers()
    for name, served in HEALTH.items():
        path = f"/{name}/health"
        hits = [(int(router["priority"]), router) for router in found.values()
                if matches(router.get("rule", ""), f"api.{domain(subject)}", path)]
        router = max(hits, key=lambda hit: hit[0])[1] if hits else {}
        for used in filter(None, router.get("middlewares", "").split(",")):
            middleware = known.get(used.partition("@")[0], {})
            if "replacePathRegex" in middleware:
                replacement = re.sub(r"\$(\d)", r"\\\1", middleware["replacePathRegex"]["replacement"])
                path = re.sub(middleware["replacePathRegex"]["regex"], replacement, path)
            path = middleware.get("replacePath", {}).get("path", path)
        if path != served:
            yield f"/{name}/health becomes {path}, not {served}"


# where the pods serve the health of their services (asked by stack-live.sh)
HEALTH = {**{name: f"/api/v1/{name}/health" for name in ("auth", "users", "voyage", "payment", "ai", "panorama")}, "gateway": "/api/health"}


def domain(subject):
    host = re.search(r"Host\(`grafana\.([^`]+)`\)", subject.routers()["grafana"]["rule"])
    return host.group(1) if host else ""


@rule("R-021", "Let's Encrypt: address and server from settings, one store on a volume, used by every router")
def acme(subject):
    config = static(subject)
    acme_config = config.get("certificatesResolvers", {}).get("letsencrypt", {}).get("acme", {})
    env = subject.env("traefik")
    if acme_config.get("email") != env.get("ACME_EMAIL") or not env.get("ACME_EMAIL"):
        yield "the address for Let's Encrypt is not ACME_EMAIL"
    if acme_config.get("caServer") != env.get("ACME_CA_SERVER"):
        yield "the server is not ACME_CA_SERVER"
    if acme_config.get("storage") != "/acme/acme.json":
        yield "the store is not /acme/acme.json"
    if not ("tlsChallenge" in acme_config or "httpChallenge" in acme_config):
        yield "no challenge"
    if {"type": "volume", "source": "acme", "target": "/acme"} not in subject.services["traefik"].get("volumes", []):
        yield "the store is on no volume"
    if subject.deploy("traefik").get("replicas") != 1:
        yield "more than one Traefik would share the store"
    for name, router in subject.routers().items():
        if router.get("tls.certresolver") != "letsencrypt":
            yield f"router {name} has no certificate resolver"


def static(subject):
    return subject.yaml("docker/traefik/traefik-v2.10.yml" if "traefik-v2.10" in subject.overlays else "docker/traefik/traefik.yml")


@rule("R-022", "port 80 redirects to 443 for good; no router listens on it")
def redirect(subject):
    entry = static(subject)["entryPoints"]
    to = entry["web"].get("http", {}).get("redirections", {}).get("entryPoint", {})
    if (to.get("to"), to.get("scheme"), to.get("permanent")) != ("websecure", "https", True):
        yield "the entry point web does not redirect to websecure for good"
    if (entry["web"]["address"], entry["websecure"]["address"]) != (":80", ":443"):
        yield "the entry points are not 80 and 443"
    for name, router in subject.routers().items():
        if router.get("entrypoints") != "websecure":
            yield f"router {name} listens on {router.get('entrypoints')}"


@rule("R-023", "TLS 1.2 and newer, authenticated ciphers, strict names")
def tls(subject):
    options = subject.yaml("docker/traefik/dynamic/tls.yml")["tls"]["options"]["default"]
    if options.get("minVersion") != "VersionTLS12":
        yield f"the oldest version is {options.get('minVersion')}"
    if options.get("sniStrict") is not True:
        yield "names are not strict"
    for cipher in options.get("cipherSuites") or ["none"]:
        if not ("ECDHE" in cipher and ("GCM" in cipher or "CHACHA20_POLY1305" in cipher)):
            yield f"{cipher} is not an authenticated cipher with forward secrecy"


@rule("R-024", "compression on every router of a pod but sockets, webhooks and health")
def compression(subject):
    if "compress" not in dynamic(subject):
        yield "no middleware compress"
    for name, router in subject.routers().items():
        if router["on"] in PODS and name not in {"web-ws", "api-webhook", "web-webhook", "root-health"} and not name.endswith("-health"):
            if "compress@file" not in router.get("middlewares", ""):
                yield f"router {name} does not compress"


@rule("R-027", "rate limits: core 100/50, AI 20/20, business 50/50, web 200/100, a second, by client; none on webhooks")
def rate_limits(subject):
    known = dynamic(subject)
    wanted = {"rl-core": (100, 50), "rl-ai": (20, 20), "rl-business": (50, 50), "rl-web": (200, 100)}
    for name, figures in wanted.items():
        limit = known.get(name, {}).get("rateLimit", {})
        if (limit.get("average"), limit.get("burst")) != figures and not subject.deployed:
            yield f"{name} is {limit.get('average')}/{limit.get('burst')}, not {figures[0]}/{figures[1]}"
        if limit.get("period") != "1s" or "ipStrategy" not in limit.get("sourceCriterion", {}):
            yield f"{name} does not count clients by the second"
    by_router = {"web": "rl-web", "web-api": "rl-business", "web-ws": "rl-business", "api-core": "rl-core", "api-voyage": "rl-business",
                 "api-payment": "rl-business", "api-ai": "rl-ai", "api-experience": "rl-business"}
    found = subject.routers()
    for name, limit in by_router.items():
        if limit + "@file" not in found.get(name, {}).get("middlewares", ""):
            yield f"router {name} has not {limit}"
    for name in ("api-webhook", "web-webhook"):
        if "rl-" in found.get(name, {}).get("middlewares", "rl-"):
            yield f"router {name} is limited"


@rule("R-028", "security headers: those of pages and of the API, Server and X-Powered-By taken away")
def headers(subject):
    known = dynamic(subject)
    for name, referrer, opener in (("sec-headers-web", "strict-origin-when-cross-origin", "same-origin-allow-popups"),
                                   ("sec-headers-api", "no-referrer", "same-origin")):
        has = known.get(name, {}).get("headers", {})
        extra = has.get("customResponseHeaders", {})
        for key, wanted in (("stsSeconds", 31536000), ("stsIncludeSubdomains", True), ("contentTypeNosniff", True),
                            ("customFrameOptionsValue", "SAMEORIGIN"), ("referrerPolicy", referrer)):
            if has.get(key) != wanted:
                yield f"{name}: {key} is {has.get(key)!r}, not {wanted!r}"
        if extra.get("Cross-Origin-Opener-Policy") != opener:
            yield f"{name}: Cross-Origin-Opener-Policy is not {opener}"
        for header in ("Server", "X-Powered-By"):
            if extra.get(header) != "":
                yield f"{name} does not take {header} away"
        # it would replace the pod's own, which depends on the path
        if "contentSecurityPolicy" in has or "Content-Security-Policy" in extra:
            yield f"{name} overwrites the Content-Security-Policy of the pods"
    policy = known["sec-headers-web"]["headers"].get("permissionsPolicy", "")
    for feature in ("xr-spatial-tracking=(self)", "gyroscope=(self)", "accelerometer=(self)", "fullscreen=(self)",
                    'payment=(self "https://js.stripe.com")'):
        if feature not in policy:
            yield f"sec-headers-web: the permissions policy does not allow {feature}"
    for name, router in subject.routers().items():
        if name != "root-health" and "sec-headers-" not in router.get("middlewares", ""):
            yield f"router {name} has no security headers"


@rule("R-029", "grafana, prometheus and traefik dashboards; the last two behind basic authentication from a secret")
def dashboards_behind_auth(subject):
    found = subject.routers()
    for name in ("grafana", "prometheus", "traefik"):
        if f"Host(`{name}." not in found.get(name, {}).get("rule", ""):
            yield f"no router for {name}."
    for name, router in found.items():
        open_to_all = "basic-auth@file" not in router.get("middlewares", "")
        if (router.get("service") in {"api@internal", "prometheus"}) and open_to_all:
            yield f"router {name} shows a dashboard to everybody"
    if dynamic(subject).get("basic-auth", {}).get("basicAuth", {}).get("usersFile") != "/run/secrets/traefik_users":
        yield "the users are not those of the secret"
    if subject.env("grafana").get("GF_AUTH_ANONYMOUS_ENABLED") != "false":
        yield "Grafana lets everybody in"


@rule("R-030", "Traefik: dashboard without the insecure port, metrics, JSON access log without credentials")
def traefik_api(subject):
    config = static(subject)
    if config.get("api", {}).get("dashboard") is not True or config["api"].get("insecure"):
        yield "the dashboard is off, or open"
    if config.get("metrics", {}).get("prometheus", {}).get("entryPoint") != "metrics":
        yield "no metrics"
    if config["entryPoints"].get("metrics", {}).get("address") != ":8082" or config["entryPoints"].get("ping", {}).get("address") != ":8083":
        yield "metrics and ping are not on 8082 and 8083"
    log = config.get("accessLog", {})
    named = log.get("fields", {}).get("headers", {}).get("names", {})
    if log.get("format") != "json" or any(named.get(header) != "drop" for header in ("Authorization", "Cookie")):
        yield "the access log is not JSON, or keeps credentials"
    provider = config.get("providers", {})
    swarm = provider.get("swarm") or provider.get("docker") or {}
    if swarm.get("exposedByDefault") is not False or "docker-socket-proxy" not in swarm.get("endpoint", ""):
        yield "the provider shows services unasked, or talks to the engine itself"


@rule("R-021,R-030", "only a CDN that was named may say whom it speaks for")
def forwarded(subject):
    for name in ("web", "websecure"):
        trusted = static(subject)["entryPoints"][name].get("forwardedHeaders", {})
        if trusted.get("insecure") or trusted.get("trustedIPs") != subject.env("traefik")["CDN_TRUSTED_IPS"].split(","):
            yield f"{name} trusts {trusted}"


# -------------------------------------------------------------------------------------------------------------- data plane


@rule("R-040", "PostgreSQL 15", base=True)
def postgres_version(subject):
    image = stack.parse_env(subject.read("compose/images.env")).get("POSTGRES_IMAGE", "")
    if not re.fullmatch(r"postgres:15(\.\d+)?-alpine[\d.]*", image):
        yield f"the image is {image}"
    try:
        if "POSTGRES_IMAGE=postgres:15-alpine" not in subject.read("docker/postgres/Dockerfile"):
            yield "docker/postgres/Dockerfile is not based on postgres:15-alpine"
    except FileNotFoundError:
        yield "docker/postgres/Dockerfile is missing"


@rule("R-041,R-042,R-043,R-044,R-045", "both nodes: 500 connections, 2GB, 6GB, 10MB, the same declared primary and secrets")
def postgres_pair(subject):
    for name in ("postgres-primary", "postgres-replica"):
        env = subject.env(name)
        for setting in ("max_connections=500", "shared_buffers=2GB", "effective_cache_size=6GB", "work_mem=10MB"):
            if f"-c {setting}" not in env.get("PG_EXTRA", "") and not subject.deployed:
                yield f"{name}: not {setting}"
    one, other = subject.services["postgres-primary"], subject.services["postgres-replica"]
    for key in ("environment", "secrets", "image"):
        if one.get(key) != other.get(key):
            yield f"{key} of the two nodes differs: either may become the primary"
    shm = [v for v in one.get("volumes", []) if v.get("target") == "/dev/shm"]
    if not shm or shm[0].get("tmpfs", {}).get("size", 0) < 2**30:
        yield "/dev/shm is smaller than 1 GiB"
    aliases = [set((service["networks"][D] or {}).get("aliases", [])) for service in (one, other)]
    declared = subject.env("postgres-primary").get("PG_PRIMARY_SERVICE")
    if ["postgres-rw" in names for names in aliases] != [declared == "postgres-primary", declared == "postgres-replica"]:
        yield f"the name postgres-rw does not belong to {declared} alone"


@rule("R-042", "pools: all replicas at their caps, one more of each during an update, and 20 for tools stay below 497")
def connections(subject):
    def per_replica(pod, services, relays):
        env = subject.env(pod)
        return sum(int(env.get(f"{s}_DB_POOL_MAX", env.get("DB_POOL_MAX", 10))) for s in services) + relays

    core = per_replica("core-pod", ("AUTH", "USER", "MAIL"), 2)
    business = per_replica("business-pod", ("VOYAGE", "PAYMENT", "AI"), 3)
    total = 8 * core + 12 * business + core + business + 20
    if total >= 497:
        yield f"{total} connections: {core} per core pod and {business} per business pod are too many"


@rule("R-047,R-048,R-049,R-050", "Redis: 3 single nodes at own addresses, 2 GB each, allkeys-lru, configuration and start mounted")
def redis(subject):
    if "redis-6" not in subject.overlays and [n for n in subject.services if re.fullmatch(r"redis-\d", n)] != REDIS:
        yield "not three Redis nodes"
    for name in REDIS:
        deploy, env = subject.deploy(name), subject.env(name)
        if deploy.get("replicas") != 1 or deploy.get("endpoint_mode") != "dnsrr":
            yield f"{name} is not one task at its own address"
        if env.get("REDIS_NODE") != name:
            yield f"{name} does not know its name"
        if not subject.deployed and (env.get("REDIS_MAXMEMORY", "").lower(), env.get("REDIS_MAXMEMORY_POLICY")) != ("2gb", "allkeys-lru"):
            yield f"{name}: {env.get('REDIS_MAXMEMORY')} {env.get('REDIS_MAXMEMORY_POLICY')}"
        if env.get("CACHE_SUBNET") != subject.stack["networks"][C]["ipam"]["config"][0]["subnet"]:
            yield f"{name}: CACHE_SUBNET is not the subnet of {C}"
    for pod in PODS:
        nodes = subject.env(pod).get("REDIS_CLUSTER_NODES", "")
        if not set(REDIS) <= {node.split(":")[0] for node in nodes.split(",")}:
            yield f"{pod} does not know all Redis nodes"


@rule("R-051", "Kafka: 3 brokers, one cluster id, own node ids, the same 3 voters, wildcard listeners, advertised by name")
def kafka(subject):
    env = {name: subject.env(name) for name in KAFKA}
    if len({e.get("CLUSTER_ID") for e in env.values()}) != 1 or not re.fullmatch(r"[\w-]{22}", env["kafka-1"].get("CLUSTER_ID", "")):
        yield "the cluster id is not the same 22 characters everywhere"
    voters = ",".join(f"{n}@kafka-{n}:9093" for n in (1, 2, 3))
    for number, (name, e) in enumerate(env.items(), 1):
        for key, wanted in (("KAFKA_NODE_ID", str(number)), ("KAFKA_CONTROLLER_QUORUM_VOTERS", voters),
                            ("KAFKA_PROCESS_ROLES", "broker,controller"),
                            ("KAFKA_LISTENERS", "PLAINTEXT://:9092,CONTROLLER://:9093"),
                            ("KAFKA_ADVERTISED_LISTENERS", f"PLAINTEXT://{name}:9092"),
                            ("KAFKA_INTER_BROKER_LISTENER_NAME", "PLAINTEXT"), ("KAFKA_CONTROLLER_LISTENER_NAMES", "CONTROLLER"),
                            ("KAFKA_UNCLEAN_LEADER_ELECTION_ENABLE", "false"), ("KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS", "3000"),
                            ("KAFKA_LOG_DIRS", "/var/lib/kafka/data"), ("KAFKA_HEAP_OPTS", "-Xms1g -Xmx1g"),
                            ("KAFKA_MESSAGE_MAX_BYTES", "10485760")):
            if e.get(key) != wanted:
                yield f"{name}: {key} is {e.get(key)!r}, not {wanted!r}"
        if subject.deploy(name).get("endpoint_mode") != "dnsrr":
            yield f"{name} is behind a virtual address"
        if "javaagent" not in e.get("KAFKA_OPTS", "") or "ttl=10" not in e.get("KAFKA_OPTS", ""):
            yield f"{name}: no JMX agent, or names are remembered too long"
    if "KAFKA_OPTS" in subject.env("kafka-topics-init"):
        yield "the agent would start in the job too"


@rule("R-052", "num.partitions = 6")
def kafka_partitions(subject):
    for name in KAFKA:
        if subject.env(name).get("KAFKA_NUM_PARTITIONS") != "6" and not subject.deployed:
            yield f"{name}: {subject.env(name).get('KAFKA_NUM_PARTITIONS')} partitions"


@rule("R-053", "replication factor 3 for topics, offsets and transactions, 2 in sync")
def kafka_replication(subject):
    for name in KAFKA:
        for key, wanted in (("DEFAULT_REPLICATION_FACTOR", "3"), ("OFFSETS_TOPIC_REPLICATION_FACTOR", "3"),
                            ("TRANSACTION_STATE_LOG_REPLICATION_FACTOR", "3"), ("MIN_INSYNC_REPLICAS", "2"),
                            ("TRANSACTION_STATE_LOG_MIN_ISR", "2")):
            if subject.env(name).get("KAFKA_" + key) != wanted:
                yield f"{name}: KAFKA_{key} is {subject.env(name).get('KAFKA_' + key)}, not {wanted}"


@rule("R-054", "log.retention.hours = 168")
def kafka_retention(subject):
    for name in KAFKA:
        if subject.env(name).get("KAFKA_LOG_RETENTION_HOURS") != "168" and not subject.deployed:
            yield f"{name}: {subject.env(name).get('KAFKA_LOG_RETENTION_HOURS')} hours"


@rule("R-055", "topics are made explicitly: auto-create off, the list mounted into the job")
def kafka_topics(subject):
    for name in KAFKA:
        if subject.env(name).get("KAFKA_AUTO_CREATE_TOPICS_ENABLE") != "false":
            yield f"{name} makes topics by itself"
    if "kafka_topics" not in {c["source"] for c in subject.services["kafka-topics-init"].get("configs", [])}:
        yield "the job has no list of topics"


@rule("R-056", "services reach MinIO with accounts of their own; the root account is MinIO's and the init job's alone")
def minio(subject):
    for name in subject.services:
        has = {s["source"] for s in subject.services[name].get("secrets", [])}
        if name not in {"minio", "minio-init"} and has & {"minio_root_user", "minio_root_password"}:
            yield f"{name} has MinIO's root account"
    if subject.env("core-pod").get("S3_BUCKET") != "dreamscape-user-uploads":
        yield "the core pod's bucket is not dreamscape-user-uploads"


# ---------------------------------------------------------------------------------------------------------- settings, secrets


@rule("R-016", "replicas, limits and reservations of each pod can be set by the names of the template", base=True)
def overridable(subject):
    for pod in PODS:
        prefix = pod.upper().replace("-", "_")
        changed = {f"{prefix}_REPLICAS": "6", f"{prefix}_CPU_LIMIT": "3.5", f"{prefix}_MEMORY_LIMIT": "7G",
                   f"{prefix}_CPU_RESERVATION": "0.75", f"{prefix}_MEMORY_RESERVATION": "3G"}
        template = stack.read_env(stack.TEMPLATE)
        for name in changed.keys() - template.keys():
            yield f"{name} is not in the template"
        deploy = subject.extra.get("rerender", stack.render)(**changed)["services"][pod]["deploy"]
        has = (deploy["replicas"], deploy["resources"]["limits"]["cpus"], size(deploy["resources"]["limits"]["memory"]),
               deploy["resources"]["reservations"]["cpus"], size(deploy["resources"]["reservations"]["memory"]))
        if has != (6, "3.5", 7 * 2**30, "0.75", 3 * 2**30):
            yield f"{pod}: {has}"


@rule("R-031", "DOMAIN, ACME_EMAIL and what else has no default are mandatory", code="V1", base=True)
def mandatory(subject):
    for name in ("DOMAIN", "ACME_EMAIL", "REGISTRY", "VERSION", "INFRA_VERSION", "KAFKA_CLUSTER_ID", "STRIPE_PUBLISHABLE_KEY", "ALERT_EMAIL_TO"):
        try:
            subject.extra.get("rerender", stack.render)(**{name: None})
            yield f"the stack renders without {name}"
        except stack.Refused as refusal:
            if name not in str(refusal):
                yield f"without {name} the answer is: {refusal}"


def variables(text):
    return set(re.findall(r"(?<!\$)\$\{([A-Z][A-Z0-9_]*)", text))


@rule("R-062", "every variable of the stack is in the template, and every one of the template is used", base=True)
def template(subject):
    used = set()
    for path in (stack.PROD, *stack.OVERLAYS):
        used |= variables(subject.read(str(path.relative_to(ROOT))))
    images = set(stack.read_env(stack.IMAGES))
    used = {n for n in used if not n.startswith(("CONFIG_HASH_", "SECRET_VERSION_"))} - DERIVED
    names = set(re.findall(r"^([A-Z][A-Z0-9_]*)=", subject.read(".env.prod.example"), re.M))
    for name in sorted(used - names - images):
        yield f"{name} is not in .env.prod.example"
    scripts = "\n".join(path.read_text(encoding="utf-8") for folder in ("scripts/production", "scripts/bigpods")
                        for path in sorted((ROOT / folder).rglob("*.sh")))
    for name in sorted(names - used - KEPT):
        if not re.search(rf"\b{name}\b", scripts):
            yield f"{name} of .env.prod.example is read by nothing"
    for line in subject.read(".env.prod.example").splitlines():
        if line and not line.startswith("#") and not re.fullmatch(r'[A-Z][A-Z0-9_]*="[^"]*"', line):
            yield f"not a quoted value: {line}"
        if SECRET_NAME.search(line.split("=")[0].replace("SECRETS_VERSION", "")) and not line.startswith("#"):
            yield f"a secret in the template: {line.split('=')[0]}"


@rule("R-070", "no secret in an environment: such names end in _FILE and point at a secret the service mounts")
def no_literal_secrets(subject):
    for name, service in subject.services.items():
        mounted = {"/run/secrets/" + s.get("target", s["source"]).removeprefix("/run/secrets/") for s in service.get("secrets", [])}
        for key, value in subject.env(name).items():
            if key.endswith("_FILE") and str(value).startswith("/run/secrets/"):
                if value not in mounted:
                    yield f"{name}: {key} names a secret that is not mounted"
            elif SECRET_NAME.search(key) and not (name == "docker-socket-proxy" and key == "SECRETS"):
                if not key.endswith("_FILE"):
                    yield f"{name}: {key} holds a value"


@rule("R-070,R-079", "every secret is external and versioned; it is mounted 0400 for the user of its service and read by it")
def secrets(subject):
    declared = subject.stack.get("secrets", {})
    for key, secret in declared.items():
        if not secret.get("external") or not re.fullmatch(rf"dreamscape_{key}_v\d+", secret.get("name", "")):
            yield f"secret {key} is not external with the name dreamscape_{key}_v<n>"
    for name, service in subject.services.items():
        user, _, group = (service.get("user") or "0:0").partition(":")
        for mount in service.get("secrets", []):
            if mount.get("source") not in declared:
                yield f"{name} mounts {mount.get('source')}, which is not declared"
            if (mount.get("mode"), mount.get("uid")) != (0o400, user):
                yield f"{name}: secret {mount.get('source')} is not 0400 of user {user}"


@rule("R-071,R-072,R-073,R-074,R-075,R-076", "each secret goes to its consumers and to nobody else")
def consumers(subject):
    has = {}
    for name, service in subject.services.items():
        for mount in service.get("secrets", []):
            has.setdefault(mount["source"], set()).add(name)
    extra = {"redis-4", "redis-5", "redis-6"} if "redis-6" in subject.overlays else set()
    wants = CONSUMERS | ({key: {"backup"} for key in EXTERNAL} if "backup-external" in subject.overlays else {})
    for key in sorted(wants.keys() | has.keys() | subject.stack.get("secrets", {}).keys()):
        wanted, found = wants.get(key, set()), has.get(key, set()) - (extra if key.startswith("redis_") else set())
        if wanted != found:
            yield f"{key}: mounted by {', '.join(sorted(found)) or 'nobody'}; wanted {', '.join(sorted(wanted)) or 'nobody'}"


def documented(subject):
    """The settings of docs/configuration.md by pod."""
    found, pod = {}, None
    for line in subject.read("docs/configuration.md").splitlines():
        if line.startswith("## "):
            pod = line[3:].strip()
        elif line.startswith("| `") and pod:
            for name in re.findall(r"`([A-Z][A-Z0-9_]*)`", line.split("|")[1]):
                found.setdefault(pod, set()).add(name)
    return found


@rule("R-077", "every variable of a pod is a setting that it reads (docs/configuration.md) or one the contract plans")
def known_settings(subject):
    known = documented(subject)
    for pod, urls in SERVICE_URLS.items():
        names = known.get(pod, set()) | PLANNED[pod] | {f"{url}_DATABASE_URL_FILE" for url in urls}
        for key in subject.env(pod):
            if key not in names:
                yield f"{pod} does not read {key}"
        for key in sorted(PLANNED[pod] & known.get(pod, set())):
            yield f"{key} is read by {pod} now: take it out of PLANNED"
    for job, pod in (("migrate-core", "core-pod"), ("migrate-business", "business-pod")):
        for key in subject.env(job):
            # what the driver of PostgreSQL reads is no setting of the pod
            if key not in known.get(pod, set()) | {"PGOPTIONS"}:
                yield f"{job}: {pod} does not read {key}"


@rule("R-006,R-017", "pods: production, TRUSTED_PROXIES is the network of Traefik, replica number, drain below the grace period")
def pod_settings(subject):
    for pod in PODS:
        env, service = subject.env(pod), subject.services[pod]
        if env.get("APP_ENV") != "production" or env.get("POD_INSTANCE") != "{{.Task.Slot}}":
            yield f"{pod}: not production, or no number of its own"
        if env.get("TRUSTED_PROXIES") != subject.stack["networks"][B]["ipam"]["config"][0]["subnet"]:
            yield f"{pod}: TRUSTED_PROXIES is not the subnet of {B}"
        linger, drain = int(env.get("SHUTDOWN_LINGER_SECONDS", 0)), int(env.get("SHUTDOWN_DRAIN_SECONDS", 0))
        if not (linger >= 20 and linger < drain < 60) or service.get("stop_grace_period") not in ("1m0s", "60s"):
            yield f"{pod}: lingers {linger}, drains {drain}, grace {service.get('stop_grace_period')}"


# -------------------------------------------------------------------------------------------------------------------- networks


@rule("R-080", "exactly five networks, each overlay and encrypted")
def networks(subject):
    found = subject.stack.get("networks", {})
    if set(found) != {B, D, C, S, M}:
        yield f"networks: {', '.join(sorted(found))}"
    for name, network in found.items():
        if network.get("driver") != "overlay" or (network.get("driver_opts") or {}).get("encrypted") != "true":
            yield f"{name} is not an encrypted overlay"


def network_rule(requirement, name):
    internal = name in INTERNAL

    @rule(requirement, f"{name}: encrypted, {'internal' if internal else 'not internal'}")
    def _network(subject):
        network = subject.stack.get("networks", {}).get(name) or {}
        if (network.get("driver_opts") or {}).get("encrypted") != "true":
            yield f"{name} is not encrypted"
        if bool(network.get("internal")) != internal:
            yield f"{name} is {'not ' if internal else ''}internal"

    _network.__name__ = "network_" + name


for _requirement, _name in (("R-081", B), ("R-082", D), ("R-083", C), ("R-084", S), ("R-085", M)):
    network_rule(_requirement, _name)


@rule("R-086", "each service is attached to the networks of the matrix and to no other")
def segmentation(subject):
    for name, service in subject.services.items():
        wanted = TABLE.get(name, (None, None, {C}))[2]
        if name == "backup" and "backup-external" in subject.overlays:
            wanted = wanted | {B}
        found = set(service.get("networks") or {})
        if found != wanted:
            yield f"{name} is on {', '.join(sorted(found))}; the matrix says {', '.join(sorted(wanted))}"


@rule("R-082,R-086", "subnets are fixed and do not overlap")
def subnets(subject):
    import ipaddress

    found = []
    for name, network in subject.stack.get("networks", {}).items():
        config = (network.get("ipam") or {}).get("config") or []
        if len(config) != 1:
            yield f"{name} has no subnet"
            continue
        subnet = ipaddress.ip_network(config[0]["subnet"])
        for other, used in found:
            if subnet.overlaps(used):
                yield f"{name} overlaps {other}"
        found.append((name, subnet))


# ------------------------------------------------------------------------------------------------------------------- hardening


@rule("R-090", "no root: UID 1000 for ours, the image's own elsewhere; root with a reason only")
def users(subject):
    for name, service in subject.services.items():
        wanted = TABLE.get(name, (None, None, None, "999:1000"))[3]
        found = service.get("user")
        if wanted and wanted.endswith(":*"):
            if not str(found).startswith(wanted[:-1]) or str(found).endswith(":0"):
                yield f"{name} runs as {found}"
        elif found != wanted:
            yield f"{name} runs as {found}, not {wanted}"
        if (found is None or str(found).split(":")[0] in ("0", "root")) and name not in ROOT_USERS:
            yield f"{name} runs as root without a reason"


@rule("R-091", "read-only root file systems, one exception")
def read_only(subject):
    for name, service in subject.services.items():
        if not service.get("read_only") and name not in WRITABLE_ROOT:
            yield f"{name} can write to its root"


@rule("R-092", "tmpfs in the long syntax only: the short one is ignored by the engine", base=True)
def long_tmpfs(subject):
    for path in (stack.PROD, *stack.OVERLAYS):
        for name, service in (stack.load(subject.read(str(path.relative_to(ROOT)))).get("services") or {}).items():
            if "tmpfs" in service:
                yield f"{path.name}: {name} has a short tmpfs"
            for volume in service.get("volumes", []):
                if not isinstance(volume, dict):
                    yield f"{path.name}: {name} mounts {volume} in the short syntax"


@rule("R-095", "all capabilities dropped, an init for programs that are not ours, a limit of processes")
def hardening(subject):
    for name, service in subject.services.items():
        if service.get("cap_drop") != ["ALL"] and name not in WITH_CAPABILITIES:
            yield f"{name} keeps capabilities"
        if service.get("cap_add") or service.get("privileged"):
            yield f"{name} is given capabilities"
        if not service.get("init") and name not in OWN_INIT:
            yield f"{name} has no init"
        if not subject.deploy(name).get("resources", {}).get("limits", {}).get("pids"):
            yield f"{name} has no limit of processes"


@rule("R-096", "nothing is published but 80 and 443 of Traefik, at the node itself")
def ports(subject):
    for name, service in subject.services.items():
        for port in service.get("ports", []):
            if name != "traefik" or port.get("published") not in (80, 443, "80", "443") or port.get("mode") != "host":
                yield f"{name} publishes {port.get('published')} ({port.get('mode')})"
    if len(subject.services["traefik"].get("ports", [])) != 2:
        yield "Traefik does not publish 80 and 443"


@rule("R-086,R-095", "the engine's socket: logs, the GET-only proxy and the autoscaler; who may write to it listens for metrics only")
def engine_socket(subject):
    for name, service in subject.services.items():
        for volume in service.get("volumes", []):
            if volume.get("source") == "/var/run/docker.sock":
                if name not in SOCKET:
                    yield f"{name} has the engine's socket"
                if name != "autoscaler" and not volume.get("read_only"):
                    yield f"{name} has the socket to write"
    proxy = subject.env("docker-socket-proxy")
    if proxy.get("POST") != "0":
        yield "the proxy lets requests through that change things"
    for section in ("CONTAINERS", "SECRETS", "CONFIGS", "AUTH"):
        if proxy.get(section, "0") != "0":
            yield f"the proxy shows {section}"


@rule("R-097", "images by tag, never latest; those of others by digest")
def images(subject):
    for name, service in subject.services.items():
        image = service.get("image", "")
        base, _, digest = image.partition("@")
        repository, _, tag = base.rpartition(":")
        if not tag or "/" in tag or tag == "latest":
            yield f"{name}: {image} has no tag, or latest"
        own = repository.rpartition("/")[2] in OWN_IMAGES and service.get("image", "").startswith(registry(subject))
        if not own and not subject.local and not re.fullmatch(r"sha256:[0-9a-f]{64}", digest):
            yield f"{name}: {image} has no digest"
        if subject.deployed and digest == stack.DIGEST[1:]:
            yield f"{name}: the digest is the one of the checks"


def registry(subject):
    return subject.services["core-pod"]["image"].rpartition("/")[0] + "/"


@rule("R-093,R-094", "Dockerfiles of our programs: two stages, Alpine at the end, pinned by arguments, no toolchain in the result",
      base=True)
def dockerfiles(subject):
    for path in ("core-pod/Dockerfile.prod", "business-pod/Dockerfile.prod", "experience-pod/Dockerfile.prod", "autoscaler/Dockerfile"):
        text = subject.read("docker/" + path)
        froms = re.findall(r"^FROM (\S+)", text, re.M)
        if len(froms) < 2:
            yield f"{path}: one stage"
        if froms[-1] != "${ALPINE_IMAGE}" or "ARG ALPINE_IMAGE=alpine:3." not in text:
            yield f"{path}: the last stage is {froms[-1]}"
        last = text[text.rindex("\nFROM "):]
        for wanted in ("USER 1000:1000", "STOPSIGNAL SIGTERM", "HEALTHCHECK", "ENTRYPOINT [", "chmod 1777 /tmp", "ca-certificates",
                       "org.opencontainers.image.revision"):
            if wanted not in last:
                yield f"{path}: no {wanted} in the last stage"
        for forbidden in ("cargo", "rustc", "build-base", "gcc", "npm"):
            if re.search(rf"\b{forbidden}\b", last):
                yield f"{path}: {forbidden} in the last stage"
        for wanted in ("--mount=type=cache", "--locked", "--no-default-features", "# syntax=docker/dockerfile:1."):
            if wanted not in text:
                yield f"{path}: no {wanted}"
        toolchain = re.search(r'channel = "([\d.]+)"', subject.read("rust-toolchain.toml")).group(1)
        if f"ARG RUST_IMAGE=rust:{toolchain}-alpine" not in text or f"RUSTUP_TOOLCHAIN={toolchain}" not in text:
            yield f"{path}: not the toolchain {toolchain}"
        for name in re.findall(r"^ARG (\w+_IMAGE)=(\S+)", text, re.M):
            if ":" not in name[1] or name[1].endswith("latest"):
                yield f"{path}: {name[0]} has no tag"


@rule("R-040,R-093,R-097", "base images: the tag of each Dockerfile's argument is the one in compose/images.env", base=True)
def base_images(subject):
    known = stack.parse_env(subject.read("compose/images.env"))
    for path in sorted((ROOT / "docker").glob("*/Dockerfile*")):
        if path.parent.name == "dev":
            continue
        for name, image in re.findall(r"^ARG (\w+_IMAGE)=(\S+)", subject.read(str(path.relative_to(ROOT))), re.M):
            if known.get(name) != image:
                yield f"{path.parent.name}: {name}={image}, images.env says {known.get(name)}"
        for base in re.findall(r"^FROM (\S+)", subject.read(str(path.relative_to(ROOT))), re.M):
            if not base.startswith("${"):
                yield f"{path.parent.name}: FROM {base} cannot be pinned"
    # development runs the same versions
    tags = {image.partition(":")[0]: image for image in known.values()}
    for name in ("dev", "monitoring"):
        for image in re.findall(r"^ +image: (\S+)", subject.read(f"compose/docker-compose.{name}.yml"), re.M):
            if tags.get(image.partition(":")[0], image) != image:
                yield f"docker-compose.{name}.yml: {image}, images.env says {tags[image.partition(':')[0]]}"


def seconds(text):
    total = 0.0
    for number, unit in re.findall(r"([\d.]+)(ms|h|m|s)", text):
        total += float(number) * {"ms": 0.001, "s": 1, "m": 60, "h": 3600}[unit]
    return total


@rule("R-007", "the HEALTHCHECK of each of our images is the one of the stack", base=True)
def same_healthcheck(subject):
    where = {"core-pod": "core-pod/Dockerfile.prod", "business-pod": "business-pod/Dockerfile.prod",
             "experience-pod": "experience-pod/Dockerfile.prod", "autoscaler": "autoscaler/Dockerfile", "kafka-1": "kafka/Dockerfile",
             "minio": "minio/Dockerfile", "postgres-primary": "postgres/Dockerfile", "redis-1": "redis/Dockerfile", "traefik": "traefik/Dockerfile", "backup": "backup/Dockerfile"}
    for service, path in where.items():
        text = subject.read("docker/" + path).replace("\\\n", " ")
        found = re.search(r"^HEALTHCHECK (.*?)CMD (\[.*\])$", text, re.M)
        if not found:
            yield f"{path}: no HEALTHCHECK"
            continue
        check = subject.services[service]["healthcheck"]
        if ["CMD", *stack.load(found.group(2))] != check["test"]:
            yield f"{path}: {found.group(2)} is not {check['test']}"
        for flag, value in re.findall(r"--([\w-]+)=(\S+)", found.group(1)):
            has = check.get(flag.replace("-", "_"))
            if (int(value) != has) if flag == "retries" else (seconds(value) != seconds(str(has))):
                yield f"{path}: {flag} {value} is not {has}"


# --------------------------------------------------------------------------------------------------------------- observability


@rule("R-100", "every target of Prometheus is a service on a network that it shares")
def targets(subject):
    try:
        config = subject.yaml("monitoring/prometheus.yml", subject.env("prometheus"))
    except FileNotFoundError:
        yield "monitoring/prometheus.yml is missing"
        return
    hosts = set()
    for job in config.get("scrape_configs", []):
        for group in job.get("static_configs", []) or []:
            for target in group.get("targets", []):
                hosts.add(re.sub(r"^\w+://", "", target).split(":")[0])
        for group in job.get("dns_sd_configs", []) or []:
            hosts |= {name.removeprefix("tasks.") for name in group.get("names", [])}
        for relabel in job.get("relabel_configs", []) or []:
            if relabel.get("target_label") == "__address__" and ":" in str(relabel.get("replacement", "")):
                hosts.add(relabel["replacement"].split(":")[0])
    mine = set(subject.services["prometheus"]["networks"])
    for host in sorted(hosts - {"localhost", "127.0.0.1"}):
        if host not in subject.services:
            yield f"no service {host}"
        elif host.startswith("redis-") and host != "redis-exporter":
            if C not in subject.services["redis-exporter"]["networks"]:
                yield f"the exporter does not reach {host}"
        elif not mine & set(subject.services[host]["networks"]):
            yield f"{host} is on no network of Prometheus"
    if mine != {M}:
        yield "Prometheus is on more than monitoring-network: pods would be scraped twice"


@rule("R-101", "Prometheus keeps 30 days")
def retention(subject):
    if "--storage.tsdb.retention.time=30d" not in subject.services["prometheus"]["command"] and not subject.deployed:
        yield "the retention is not 30d"


@rule("R-102,R-103,R-104", "every rule file, target file, template and dashboard is mounted; data sources where Grafana reads them")
def mounted(subject):
    files = {name: pathlib.Path(config["file"]).resolve() for name, config in subject.stack.get("configs", {}).items()}
    mounts = {(service, files.get(c["source"])): c["target"] for service in ("prometheus", "alertmanager", "grafana", "loki", "promtail")
              for c in subject.services[service].get("configs", [])}
    for service, pattern, folder in (("prometheus", "rules/*.y*ml", "/etc/prometheus/rules/"),
                                     ("prometheus", "targets/*.yml", "/etc/prometheus/targets/"),
                                     ("alertmanager", "templates/*.tmpl", "/etc/alertmanager/templates/"),
                                     ("grafana", "grafana/dashboards/*.json", None)):
        for path in sorted((ROOT / "monitoring").glob(pattern)):
            target = mounts.get((service, path.resolve()))
            if target is None or (folder and target != folder + path.name):
                yield f"{service} does not mount monitoring/{path.relative_to(ROOT / 'monitoring')}"
    datasources = mounts.get(("grafana", (ROOT / "monitoring/grafana/datasources.yml").resolve()))
    if datasources != "/etc/grafana/provisioning/datasources/datasources.yml":
        yield "Grafana's data sources are not where it reads them"


@rule("R-001", "every config file exists, is below 1000 KB, and its name carries the hash of its content")
def config_files(subject):
    for name, config in subject.stack.get("configs", {}).items():
        path = pathlib.Path(config["file"])
        if not path.is_file():
            yield f"config {name}: {path.name} is missing ({path.parent.name}/{path.name})"
        elif path.stat().st_size >= 1000 * 1024:
            yield f"config {name} is too large"
        elif "{{" in path.read_text(encoding="utf-8") and re.search(r"\{\{\s*(if )?env ", path.read_text(encoding="utf-8")) \
                and config.get("template_driver") != "golang" and name not in {"traefik_middlewares"}:
            yield f"config {name} is filled in by nobody"
        if not re.search(r"_(dev|[0-9a-f]{8})$", config.get("name", "")):
            yield f"config {name}: the name {config.get('name')} has no hash"


@rule("R-001,R-021,R-113", "configs that the engine fills in: every mark is one it knows, every name is in the environment of who mounts it")
def templates(subject):
    mark = re.compile(r'\{\{-?\s*(?:(?:if\s+)?env\s+"([A-Z][A-Z0-9_]*)"|end)\s*-?\}\}')
    for name, config in subject.stack.get("configs", {}).items():
        # Traefik fills in its dynamic files by itself, from the same environment
        if config.get("template_driver") != "golang" and name != "traefik_middlewares":
            continue
        path = pathlib.Path(config["file"])
        text = subject.read(str(path.relative_to(ROOT))) if path.is_relative_to(ROOT) else path.read_text(encoding="utf-8")
        for found in re.findall(r"\{\{.*?\}\}", text):
            if not mark.fullmatch(found):
                yield f"config {name}: the engine cannot fill in {found}"
        for service, definition in subject.services.items():
            if name in {mount["source"] for mount in definition.get("configs", [])}:
                for variable in sorted({used for used in mark.findall(text) if used} - set(subject.env(service))):
                    yield f"config {name}: {service} has no {variable}"


@rule("R-110,R-112", "json-file logs of 10m × 3 everywhere; labels pod and environment on containers")
def logging(subject):
    for name, service in subject.services.items():
        log = service.get("logging", {})
        if log.get("driver") != "json-file" or not subject.deployed and \
                (log["options"].get("max-size"), log["options"].get("max-file")) != ("10m", "3"):
            yield f"{name}: {log}"
        labels = service.get("labels", {})
        if not labels.get("com.dreamscape.pod") or labels.get("com.dreamscape.environment") != "production":
            yield f"{name} has no labels pod and environment"
    for pod in PODS:
        if subject.services[pod]["labels"]["com.dreamscape.pod"] != pod.removesuffix("-pod"):
            yield f"{pod}: label pod is {subject.services[pod]['labels']['com.dreamscape.pod']}"


@rule("R-113,R-140", "Alertmanager is told the address, the channel and the mail server; none is written down")
def alert_contacts(subject):
    env = subject.env("alertmanager")
    for key in ("ALERT_EMAIL_TO", "SMTP_SMARTHOST", "SMTP_FROM", "SLACK_CHANNEL", "DOMAIN"):
        if not env.get(key):
            yield f"Alertmanager is not told {key}"
    if subject.stack["configs"].get("alertmanager", {}).get("template_driver") != "golang":
        yield "the configuration of Alertmanager is not filled in"


# ---------------------------------------------------------------------------------------------------- scaling, rollout, backup


@rule("R-120,R-121,R-122,R-123", "caps of the autoscaler: core 3-8, business 5-12, experience 4-10, in labels and in its policy")
def caps(subject):
    policy = subject.yaml("docker/autoscaler/policy.yml")["services"]
    for pod, (least, _l, _r, cap, scale, _ids) in PODS.items():
        labels = subject.deploy(pod).get("labels", {})
        if (labels.get("dreamscape.autoscale.min"), labels.get("dreamscape.autoscale.max")) != (str(least), str(cap)):
            yield f"{pod}: labels say {labels.get('dreamscape.autoscale.min')}-{labels.get('dreamscape.autoscale.max')}"
        if (policy[pod]["min"], policy[pod]["max"]) != (least, cap):
            yield f"{pod}: the policy says {policy[pod]['min']}-{policy[pod]['max']}"
        if cap < scale:
            yield f"{pod} could not be scaled to {scale}"
    per = {pod: {r["name"]: r.get("per_replica", r.get("target_percent")) for r in entry["rules"]} for pod, entry in policy.items()}
    if (per["core-pod"].get("concurrent-users"), per["business-pod"].get("cpu"), per["business-pod"].get("ai-queue"),
            per["experience-pod"].get("requests")) != (1000, 70, 25, 1000):
        yield f"the rules are {per}"


@rule("R-124", "the autoscaler is there, on a manager, and only tells what it would do until it is switched on")
def autoscaler(subject):
    env = subject.env("autoscaler")
    if not subject.deployed and (env.get("AUTOSCALER_ENABLED"), env.get("AUTOSCALER_DRY_RUN")) != ("false", "true"):
        yield "the autoscaler is on by default"
    if "node.role == manager" not in subject.deploy("autoscaler").get("placement", {}).get("constraints", []):
        yield "the autoscaler is not on a manager"


@rule("R-130", "pods: one at a time, 15 s apart, new before old, watched for 60 s; owners of volumes and ports stop first")
def updates(subject):
    for name in subject.services:
        if name in JOBS:
            continue
        update = subject.deploy(name).get("update_config", {})
        order = TABLE.get(name, (None,) * 4 + ("stop-first",))[4]
        if update.get("order") != order or update.get("parallelism") != 1 or seconds(str(update.get("monitor", ""))) != 60:
            yield f"{name}: {update}"
        if name in PODS and seconds(str(update.get("delay", ""))) != 15:
            yield f"{name}: delay {update.get('delay')}"


@rule("R-131", "back to the last version when an update fails, tolerating no failure")
def rollbacks(subject):
    for name in subject.services:
        if name in JOBS:
            continue
        deploy = subject.deploy(name)
        update = deploy.get("update_config", {})
        if update.get("failure_action") != "rollback" or update.get("max_failure_ratio"):
            yield f"{name}: a failed update is not rolled back"
        if not deploy.get("rollback_config"):
            yield f"{name} has no rollback_config"


@rule("R-007,R-130", "services restart for ever; jobs until they are done")
def restarts(subject):
    for name in subject.services:
        policy = subject.deploy(name).get("restart_policy", {})
        if policy.get("max_attempts") is not None:
            yield f"{name} gives up after {policy['max_attempts']} attempts"
        if policy.get("condition") != ("on-failure" if name in JOBS else "any"):
            yield f"{name}: restarts on {policy.get('condition')}"
        mode = subject.deploy(name).get("mode")
        wanted = "replicated-job" if name in JOBS else "global" if name in GLOBAL else None
        if (mode if mode != "replicated" else None) != wanted:
            yield f"{name}: mode {mode}"


@rule("R-133", "backup at 2 o'clock, kept 30 days, bucket dreamscape-backups")
def backup(subject):
    env = subject.env("backup")
    if not subject.deployed and (env.get("BACKUP_SCHEDULE"), env.get("BACKUP_RETENTION_DAYS"), env.get("BACKUP_S3_BUCKET")) != \
            ("0 2 * * *", "30", "dreamscape-backups"):
        yield f"{env.get('BACKUP_SCHEDULE')}, {env.get('BACKUP_RETENTION_DAYS')} days, {env.get('BACKUP_S3_BUCKET')}"


@rule("R-076,R-133", "backups and objects: one store and one account in the stack; outside, a store and keys of its own, objects from MinIO")
def backup_store(subject):
    inside = ["/run/secrets/backup_s3_access_key", "/run/secrets/backup_s3_secret_key"]
    outside = ["/run/secrets/backup_external_s3_access_key", "/run/secrets/backup_external_s3_secret_key"]
    env = subject.env("backup")
    store, source = ([env.get(f"{prefix}S3_{name}") for name in ("ACCESS_KEY_FILE", "SECRET_KEY_FILE")] for prefix in ("", "SOURCE_"))
    if "backup-external" in subject.overlays:
        if store != outside:
            yield f"the keys of the store outside are {store}"
        if env.get("SOURCE_S3_ENDPOINT") != "http://minio:9000" or source != inside:
            yield f"objects come from {env.get('SOURCE_S3_ENDPOINT')} with {source}"
        if subject.deployed and env.get("S3_ENDPOINT") == "http://minio:9000":
            yield "the store outside is the stack's own"
    elif env.get("S3_ENDPOINT") != "http://minio:9000" or store != inside or any(key.startswith("SOURCE_") for key in env):
        yield f"one store is enough: {env.get('S3_ENDPOINT')} with {store}, {[key for key in env if key.startswith('SOURCE_')]}"


@rule("R-130", "a release of the pods restarts nothing that holds data or a port: those images have a version of their own", base=True)
def two_versions(subject):
    for path in (stack.PROD, *stack.OVERLAYS):
        for name, version in re.findall(r"image: \$\{REGISTRY:\?\}/([^:\s]+):(\S+)", subject.read(str(path.relative_to(ROOT)))):
            wanted = "${VERSION:?}" if name in {*PODS, "autoscaler", "backup"} else "${INFRA_VERSION:?}"
            if version != wanted:
                yield f"{path.name}: {name} is of {version}, not {wanted}"


@rule("R-001", "all files of one deploy name the same schema version", base=True)
def versions(subject):
    for path in (stack.PROD, *stack.OVERLAYS):
        version = stack.load(subject.read(str(path.relative_to(ROOT)))).get("version")
        if version != "3.13":
            yield f"{path.name}: version {version}"


# ------------------------------------------------------------------------------------------------------------------------ main


def check(subject, rules=None):
    """(rule, problems) of each rule."""
    for one in rules or RULES:
        try:
            yield one, list(one(subject))
        except (KeyError, TypeError, ValueError, AttributeError, IndexError, FileNotFoundError) as error:
            yield one, [f"{type(error).__name__}: {error}"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rendered", type=pathlib.Path, metavar="FILE", help="a rendered stack that is about to be deployed")
    parser.add_argument("--small", action="store_true", help="with profile-small: reservations are lower")
    parser.add_argument("--local-images", action="store_true", help="images of others need no digest")
    parser.add_argument("--overlay", action="append", default=[], help="an overlay that was merged, by its short name; may be repeated")
    arguments = parser.parse_args()

    if arguments.rendered:
        subject = Subject(stack.load(arguments.rendered.read_text(encoding="utf-8")), small=arguments.small, deployed=True,
                          local=arguments.local_images, overlays=arguments.overlay)
        problems = [problem for one, found in check(subject, [r for r in RULES if not r.base]) for problem in found]
        sys.exit("\n".join(problems) if problems else 0)

    try:
        plain = stack.render()
    except stack.Unavailable as reason:
        stack.report("SKIP", "V1", "R-001,R-016,R-031", str(reason))
        for one in RULES:
            stack.report("SKIP", one.code, one.requirements, f"{one.text} ({reason})")
        return
    except stack.Refused as refusal:
        stack.report("FAIL", "V1", "R-001", f"docker stack config: {refusal}")
        sys.exit(1)
    stack.report("PASS", "V1", "R-001", f"docker stack config takes {stack.PROD.name}")
    failed = False

    subjects = [(None, Subject(plain))]
    for overlay in stack.OVERLAYS:
        short = overlay.name.removeprefix("docker-compose.").removesuffix(".yml")
        try:
            subjects.append((short, Subject(stack.render(overlay), small=short == "profile-small", overlays=[short])))
        except stack.Refused as refusal:
            failed = True
            stack.report("FAIL", "V1", "R-001", f"docker stack config with {short}: {refusal}")
    done = stack.docker("stack", "deploy", "--detach=true", *stack.files(), "x", env=stack.settings())
    complaints = [line for line in (done.stdout + done.stderr).splitlines() if "unsupported" in line or "deprecated" in line]
    failed |= bool(complaints)
    stack.report("FAIL" if complaints else "PASS", "V2", "R-001", "; ".join(complaints) or "the engine ignores no option of the stack")

    results = {}
    for short, subject in subjects:
        for one, problems in check(subject, [r for r in RULES if short is None or not r.base]):
            results.setdefault(one, []).extend(f"{short}: {problem}" if short else problem for problem in problems)
    for one, problems in results.items():
        failed |= bool(problems)
        text = one.text if not problems else one.text + ": " + "; ".join(problems[:8]) + (" …" if len(problems) > 8 else "")
        stack.report("FAIL" if problems else "PASS", one.code, one.requirements, text)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
