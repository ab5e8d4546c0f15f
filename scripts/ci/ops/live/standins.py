"""Stand-ins for what cannot be installed on a machine of the tests: they serve the series that the real ones document, with the
labels that the real ones document, as of a healthy platform.

They prove that scrape jobs, relabelling, rules and dashboards fit these shapes together, not that the real ones have them: that
is for the smoke test of a deployed stack.
"""
from __future__ import annotations

import http.server
import threading
import time
import urllib.parse

STARTED = time.time()
NODES = ("node1", "node2", "node3")
REPLICAS = {"core-pod": 3, "business-pod": 5, "experience-pod": 4}
SERVICES = {**REPLICAS, "traefik": 1, "postgres-primary": 1, "redis-1": 1, "kafka-1": 1, "kafka-2": 1, "kafka-3": 1, "minio": 1, "loki": 1}


class Page:
    """The text of a scrape."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        # counters of something that runs for an hour
        self.age = 3600 + time.time() - STARTED

    def add(self, name: str, value: float, /, **labels: object) -> None:
        inside = ",".join(f'{key}="{text}"' for key, text in labels.items())
        self.lines.append(f"{name}{{{inside}}} {value}")

    def count(self, name: str, per_second: float, /, **labels: object) -> None:
        self.add(name, round(per_second * self.age, 3), **labels)

    def histogram(self, name: str, per_second: float, bounds: tuple[float, ...], /, **labels: object) -> None:
        for at, bound in enumerate(bounds, 1):
            self.count(f"{name}_bucket", per_second * (0.5 + 0.5 * at / len(bounds)), **labels, le=bound)
        self.count(f"{name}_bucket", per_second, **labels, le="+Inf")
        self.count(f"{name}_count", per_second, **labels)
        self.count(f"{name}_sum", per_second * bounds[0], **labels)

    def text(self) -> str:
        return "\n".join(self.lines) + "\n"


def traefik(page: Page) -> None:
    for service, rate in (("core@swarm", 20), ("voyage@swarm", 15), ("web@swarm", 40)):
        for code in ("200", "304", "404", "502"):
            share = {"200": 0.95, "304": 0.03, "404": 0.019, "502": 0.001}[code]
            labels = {"code": code, "method": "GET", "protocol": "http", "service": service}
            page.count("traefik_service_requests_total", rate * share, **labels)
            page.histogram("traefik_service_request_duration_seconds", rate * share, (0.1, 0.3, 1.2, 5.0), **labels)
        page.count("traefik_service_retries_total", 0.001, service=service)
        for task in (1, 2):
            page.add("traefik_service_server_up", 1, service=service, url=f"http://10.0.1.{task}:8080")
    for code, rate in (("200", 70), ("429", 0.1)):
        labels = {"code": code, "method": "GET", "protocol": "http", "entrypoint": "websecure"}
        page.count("traefik_entrypoint_requests_total", rate, **labels)
        page.count("traefik_entrypoint_requests_bytes_total", rate * 400, **labels)
        page.count("traefik_entrypoint_responses_bytes_total", rate * 9000, **labels)
    page.count("traefik_entrypoint_requests_tls_total", 70, tls_version="1.3", tls_cipher="TLS_AES_128_GCM_SHA256", entrypoint="websecure")
    page.add("traefik_open_connections", 42, entrypoint="websecure", protocol="TCP")
    page.add("traefik_tls_certs_not_after", time.time() + 60 * 86400, cn="example.org", serial="1", sans="example.org,api.example.org")
    page.count("traefik_config_reloads_total", 0.001)
    page.add("traefik_config_last_reload_success", STARTED)


def minio(page: Page, path: str) -> None:
    server = {"server": "minio:9000"}
    if path.endswith("/bucket"):
        for bucket in ("dreamscape-vr-assets", "dreamscape-user-uploads", "dreamscape-backups"):
            page.add("minio_bucket_usage_total_bytes", 5e9, bucket=bucket)
            page.add("minio_bucket_usage_object_total", 1200, bucket=bucket)
        return
    if path.endswith("/node"):
        for api in ("storage.ReadVersion", "storage.CreateFile"):
            page.add("minio_node_drive_latency_us", 900, api=api, drive="/data", **server)
        return
    page.add("minio_cluster_capacity_usable_total_bytes", 1e12)
    page.add("minio_cluster_capacity_usable_free_bytes", 7e11)
    page.add("minio_cluster_usage_total_bytes", 1.5e10)
    page.add("minio_cluster_usage_object_total", 3600)
    page.add("minio_cluster_drive_offline_total", 0)
    for api in ("getobject", "putobject"):
        page.count("minio_s3_requests_total", 3, api=api, **server)
        page.count("minio_s3_requests_4xx_errors_total", 0.02, api=api, **server)
        page.count("minio_s3_requests_5xx_errors_total", 0.001, api=api, **server)
        for bound in ("0.05", "0.1", "0.25", "1", "+Inf"):
            page.count("minio_s3_requests_ttfb_seconds_distribution", 3, api=api, le=bound, **server)
    page.count("minio_s3_traffic_received_bytes", 2e5, **server)
    page.count("minio_s3_traffic_sent_bytes", 9e5, **server)
    page.add("minio_s3_requests_inflight_total", 1, api="getobject", **server)
    page.add("minio_s3_requests_waiting_total", 0, **server)


def cadvisor(page: Page) -> None:
    for service, replicas in SERVICES.items():
        for slot in range(1, replicas + 1):
            labels = {"id": f"/docker/{service}{slot}", "image": f"registry/{service}:1", "name": f"dreamscape_{service}.{slot}.abc",
                      "container_label_com_docker_swarm_service_name": f"dreamscape_{service}"}
            page.count("container_cpu_usage_seconds_total", 0.3, cpu="total", **labels)
            page.add("container_spec_cpu_quota", 200000, **labels)
            page.add("container_spec_cpu_period", 100000, **labels)
            page.count("container_cpu_cfs_periods_total", 10, **labels)
            page.count("container_cpu_cfs_throttled_periods_total", 0.1, **labels)
            page.add("container_memory_working_set_bytes", 4e8, **labels)
            page.add("container_spec_memory_limit_bytes", 4 * 2**30, **labels)
            page.add("container_start_time_seconds", STARTED, **labels)
            page.count("container_oom_events_total", 0, **labels)
            page.add("container_fs_usage_bytes", 2e9, device="/dev/sda1", **labels)
            page.add("container_fs_limit_bytes", 1e11, device="/dev/sda1", **labels)
    # the node itself and what is no container of the stack: dropped by the job
    page.count("container_cpu_usage_seconds_total", 2, cpu="total", id="/", image="", name="")
    page.count("container_cpu_usage_seconds_total", 1, cpu="total", id="/system.slice", image="", name="")
    page.add("machine_cpu_cores", 16)


def kafka(page: Page) -> None:
    page.add("kafka_brokers", 3)
    for group, topic in (("voyage", "payment.completed"), ("ai", "voyage.search.performed"), ("notification", "notification.email.requested")):
        for partition in range(6):
            page.add("kafka_consumergroup_lag", 2, consumergroup=f"dreamscape-{group}-service-group", topic=f"dreamscape.{topic}", partition=partition)


def autoscaler(page: Page) -> None:
    for service, replicas in REPLICAS.items():
        for state in ("desired", "running"):
            page.add("dreamscape_swarm_replicas", replicas, service=service, state=state)
        page.add("dreamscape_autoscaler_wanted_replicas", replicas, service=service)
        page.add("dreamscape_autoscaler_max_replicas", replicas + 5, service=service)
        page.add("dreamscape_autoscaler_rule_replicas", replicas - 1, service=service, rule="cpu")
        page.count("dreamscape_autoscaler_decisions_total", 0.03, service=service, action="none")
        page.count("dreamscape_autoscaler_decisions_total", 0.0001, service=service, action="up")
    page.add("dreamscape_autoscaler_last_run_timestamp_seconds", time.time() - 10)
    page.count("dreamscape_autoscaler_errors_total", 0, reason="prometheus")
    page.add("dreamscape_autoscaler_dry_run", 1)
    page.add("dreamscape_secret_created_timestamp_seconds", STARTED - 86400, secret="db_password")


def backup(page: Page) -> None:
    page.add("dreamscape_backup_last_success_timestamp_seconds", time.time() - 4 * 3600, kind="full")
    page.add("dreamscape_backup_last_run_success", 1, kind="full")
    page.add("dreamscape_backup_last_size_bytes", 3e9, kind="full")
    page.add("dreamscape_backup_last_duration_seconds", 240, kind="full")
    page.add("dreamscape_wal_archive_last_success_timestamp_seconds", time.time() - 20)
    page.add("dreamscape_wal_archive_pending_segments", 0)
    page.count("dreamscape_wal_archive_segments_total", 0.02)
    page.add("dreamscape_wal_receiver_running", 1)


def loki(page: Page) -> None:
    page.histogram("loki_request_duration_seconds", 5, (0.005, 0.1, 1.0), method="POST", route="loki_api_v1_push", status_code="204")
    page.count("loki_discarded_samples_total", 0, reason="rate_limited", tenant="fake")
    page.count("promtail_dropped_entries_total", 0, host="loki:3100")


def probe(page: Page) -> None:
    page.add("probe_success", 1)
    page.add("probe_http_status_code", 200)
    page.add("probe_ssl_earliest_cert_expiry", time.time() + 60 * 86400)


PAGES = {"traefik": traefik, "cadvisor": cadvisor, "kafka-exporter": kafka, "autoscaler": autoscaler, "backup": backup, "loki": loki, "promtail": loki, "grafana": lambda page: None,
         "redis-exporter": lambda page: None}


def names() -> set[str]:
    """Every series that a stand-in serves."""
    page = Page()
    for fill in (*PAGES.values(), probe):
        fill(page)
    for part in ("cluster", "node", "bucket"):
        minio(page, f"/{part}")
    return {line.split("{")[0] for line in page.lines}


def serve() -> dict[str, str]:
    """Starts all of them. Gives the address of each job."""
    found = {}
    for name in (*PAGES, "minio", "blackbox"):
        class Answer(http.server.BaseHTTPRequestHandler):
            job = name

            def do_GET(self) -> None:  # noqa: N802
                page = Page()
                path = urllib.parse.urlparse(self.path).path
                if self.job == "minio":
                    minio(page, path)
                elif self.job == "blackbox":
                    probe(page)
                else:
                    PAGES[self.job](page)
                body = page.text().encode()
                self.send_response(200)
                self.send_header("Content-Type", "text/plain; version=0.0.4")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_args) -> None:
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        found[name] = f"127.0.0.1:{server.server_port}"
    found["minio-node"] = found["minio-bucket"] = found["minio"]
    return found
