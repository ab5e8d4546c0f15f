"""The dashboards. contract: operations §6.13

Each function makes one; `ALL` names the file of each. What a panel looks like is in `panels.py`.
"""
from __future__ import annotations

from panels import (
    GREEN, NEUTRAL, ORANGE, RED, UP_DOWN, Board, Panel, alert_list, bars, constant, falling, figure, graph, log_graph, logs, query, rising, states,
    steps, table, text_variable, variable,
)

PODS = ("core-pod", "business-pod", "experience-pod")
ENVIRONMENT = variable("environment", "Environment", "label_values(dreamscape_build_info, environment)")
E = 'environment=~"$environment"'
# requests of users: no probes, no scrapes
USERS = 'service!="metrics", route!~".*/health(/.*)?"'


def answers(requests: str) -> Panel:
    """How the requests were answered: fine, elsewhere, refused, broken."""
    def rate(kind: int) -> str:
        return f'sum(rate(http_requests_total{{{requests}, status=~"{kind}.."}}[$__rate_interval]))'
    return graph("Answers by class", [query(rate(2), "2xx"), *(query(f"{rate(kind)} or vector(0)", f"{kind}xx") for kind in (3, 4, 5))], "reqps",
                 "Requests of users a second", stack=True)


def overview() -> Board:
    """The whole platform on one page: the one on the wall."""
    board = Board("dreamscape-overview", "DreamScape · Overview", "Is the platform well? Users, money, pods and what they stand on.",
                  variables=[ENVIRONMENT], since="now-6h")
    board.row(
        figure("Alerts that page", 'count(ALERTS{alertstate="firing", severity="critical"}) or vector(0)', "short",
               "Critical alerts that fire now", thresholds=steps((None, GREEN), (1, RED)), decimals=0),
        figure("Warnings", 'count(ALERTS{alertstate="firing", severity="warning"}) or vector(0)', "short", "Warnings that fire now",
               thresholds=steps((None, GREEN), (1, ORANGE)), decimals=0),
        figure("Availability, 1 h", f'1 - sum(rate(http_requests_total{{{E}, {USERS}, status=~"5.."}}[1h])) / sum(rate(http_requests_total{{{E}, {USERS}}}[1h])) or 1 + 0 * sum(rate(http_requests_total{{{E}, {USERS}}}[1h]))', "percentunit",
               "Share of users' requests in the last hour that were not answered 5xx", thresholds=falling(0.995, 0.999), decimals=3),
        figure("Requests", f"sum(service:http_requests:rate5m{{{E}}})", "reqps", "Requests of users a second, gateways included", decimals=1),
        figure("Time, p95", f"histogram_quantile(0.95, sum by (le) (service:http_request_duration_seconds_bucket:rate5m{{{E}}}))", "s",
               "95 of 100 requests are answered within this time", thresholds=rising(0.5, 1), decimals=0),
        figure("Bookings, 24 h", f'sum(increase(dreamscape_bookings_total{{{E}, outcome="confirmed"}}[24h])) or vector(0)', "short",
               "Bookings that were confirmed in the last 24 hours", decimals=0),
    )
    board.row(
        states("Pods", [query(f'max by (pod) (up{{job=~"(core|business|experience)-pod", {E}}})', "{{pod}}")], "At least one replica answers Prometheus", height=6),
        states("Services", [query(f'max by (service) (dreamscape_health_status{{{E}, service!~".+-pod"}})', "{{service}}")],
               "A service says that it is well on at least one replica", height=6),
        states("What they stand on", [query(f'min by (component) (dreamscape_health_component_status{{{E}, component!~".+-service"}})', "{{component}}")],
               "Every replica reaches the component", height=6),
    )
    board.head("Traffic")
    board.row(
        graph("Requests by service", [query(f"sum by (service) (service:http_requests:rate5m{{{E}}})", "{{service}}")], "reqps",
              "Requests of users a second", stack=True),
        answers(f"{E}, {USERS}"),
        graph("Time to answer", [
            query(f"histogram_quantile({q}, sum by (le) (service:http_request_duration_seconds_bucket:rate5m{{{E}}}))", f"p{round(q * 100)}", exemplar=True)
            for q in (0.5, 0.95, 0.99)
        ], "s", "Over all services", thresholds=rising(0.5, 1)),
    )
    board.head("Money and bookings")
    board.row(
        graph("From search to booking", [
            query(f"sum(dreamscape:searches:rate5m{{{E}}}) * 60", "searches"),
            query(f"sum(dreamscape:cart_items:rate5m{{{E}}}) * 60", "put into a cart"),
            query(f"sum(dreamscape:checkouts:rate5m{{{E}}}) * 60", "checkouts"),
            query(f'sum(dreamscape:bookings:rate5m{{{E}, outcome="confirmed"}}) * 60', "confirmed"),
        ], "opm", "A minute", log=True),
        graph("Payments", [query(f"sum by (outcome) (dreamscape:payments:rate5m{{{E}}}) * 60", "{{outcome}}")], "opm", "A minute, by outcome", stack=True),
        graph("Events that wait", [
            query(f"max(outbox_lag_seconds{{{E}}})", "oldest event in an outbox"),
            query(f"max(mail_queue_oldest_seconds{{{E}}})", "oldest mail in the queue"),
        ], "s", "What follows from an event is late by this much", thresholds=rising(60, 600)),
    )
    board.head("Machines")
    board.row(
        graph("CPU of the pods", [query("sum by (pod) (rate(process_cpu_seconds_total{job=~\"(core|business|experience)-pod\"}[$__rate_interval]))", "{{pod}}")],
              "short", "CPU cores in use, all replicas together"),
        graph("Memory of the pods", [query("sum by (pod) (process_resident_memory_bytes{job=~\"(core|business|experience)-pod\"})", "{{pod}}")], "bytes",
              "Resident, all replicas together"),
        alert_list("Alerts", "What fires now"),
    )
    return board


def pod(name: str, title: str, what: str) -> Board:
    """One pod: its replicas, its traffic, and what it uses."""
    board = Board(f"dreamscape-{name}", f"DreamScape · {title}", what, tags=["pod"], variables=[
        ENVIRONMENT,
        constant("pod", name),
        variable("service", "Service", f'label_values(http_requests_total{{pod="{name}"}}, service)'),
        variable("instance", "Replica", f'label_values(up{{job="{name}"}}, instance)'),
    ])
    mine = f'{E}, pod="$pod"'
    users = f'{mine}, service=~"$service", {USERS}'
    record = f'{mine}, service=~"$service"'
    process = 'job="$pod", instance=~"$instance"'
    board.row(
        figure("Replicas up", 'sum(up{job="$pod"})', "short", "Replicas that answer Prometheus", thresholds=falling(1, 2), decimals=0),
        figure("Wanted", 'max(dreamscape_swarm_replicas{service="$pod", state="desired"})', "short", "Replicas that the autoscaler or the operator wants", decimals=0),
        figure("Availability, 1 h", f'1 - (sum(rate(http_requests_total{{{users}, status=~"5.."}}[1h])) or vector(0)) / sum(rate(http_requests_total{{{users}}}[1h]))', "percentunit",
               "Share of requests that were not answered 5xx", thresholds=falling(0.995, 0.999), decimals=3),
        figure("Requests", f"sum(service:http_requests:rate5m{{{record}}})", "reqps", "A second", decimals=1),
        figure("Time, p95", f"histogram_quantile(0.95, sum by (le) (service:http_request_duration_seconds_bucket:rate5m{{{record}}}))", "s",
               "95 of 100 requests are answered within this time", thresholds=rising(0.5, 1)),
        figure("Version", f"count by (version) (dreamscape_build_info{{{mine}}})", "short", "Replicas by version; two during a deployment", legend="{{version}}", decimals=0, spark=False),
    )
    board.head("Traffic")
    board.row(
        graph("Requests by service", [query(f"sum by (service) (rate(http_requests_total{{{users}}}[$__rate_interval]))", "{{service}}")], "reqps",
              "Requests a second", stack=True),
        answers(users),
        graph("Time to answer", [
            query(f"histogram_quantile({q}, sum by (le) (rate(http_request_duration_seconds_bucket{{{users}}}[$__rate_interval])))", f"p{round(q * 100)}", exemplar=True)
            for q in (0.5, 0.95, 0.99)
        ], "s", "p99 should stay below half a second", thresholds=rising(0.5, 1)),
    )
    board.row(
        table("Routes", [
            query(f"sum by (service, method, route) (rate(http_requests_total{{{users}}}[5m]))", table=True),
            query(f"histogram_quantile(0.95, sum by (service, method, route, le) (rate(http_request_duration_seconds_bucket{{{users}}}[5m])))", table=True),
            query(f'sum by (service, method, route) (rate(http_requests_total{{{users}, status=~"5.."}}[5m])) or 0 * sum by (service, method, route) (rate(http_requests_total{{{users}}}[5m]))', table=True),
        ], "short", "The last five minutes, by route",
            names={"service": "Service", "method": "Method", "route": "Route", "Value #A": "Requests", "Value #B": "p95", "Value #C": "5xx"},
            units={"Value #A": "reqps", "Value #B": "s", "Value #C": "reqps"}, sort="Value #A", height=9),
        states("Health", [query(f'min by (service, component) (dreamscape_health_component_status{{{mine}}})', "{{service}} {{component}}")],
               "Every replica reaches the component", height=9),
        widths=[15, 9],
    )
    board.head("Process")
    board.row(
        graph("CPU", [
            query(f"rate(process_cpu_seconds_total{{{process}}}[$__rate_interval])", "{{instance}}"),
        ], "short", "Cores in use by each replica"),
        graph("Memory", [
            query(f"process_resident_memory_bytes{{{process}}}", "{{instance}}"),
            query('max(container_spec_memory_limit_bytes{pod="$pod"} > 0)', "limit"),
        ], "bytes", "Resident memory of each replica, and the limit of its container"),
        graph("Replicas", [
            query('max(dreamscape_swarm_replicas{service="$pod", state="desired"})', "desired"),
            query('sum(up{job="$pod"})', "running"),
        ], "short", "Wanted, and seen by Prometheus"),
    )
    board.row(
        graph("Container CPU against its limit", [
            query('sum by (name) (rate(container_cpu_usage_seconds_total{pod="$pod"}[$__rate_interval])) / sum by (name) (container_spec_cpu_quota{pod="$pod"} / container_spec_cpu_period{pod="$pod"})', "{{name}}"),
        ], "percentunit", "As the engine measures it", thresholds=rising(0.7, 0.9), top=1),
        graph("Requests being worked on", [query(f"sum by (service) (http_requests_in_flight{{{record}}})", "{{service}}")], "short", "At this moment"),
        graph("Open files and tasks", [
            query(f"process_open_fds{{{process}}}", "files {{instance}}"),
            query(f"tokio_alive_tasks{{{process}}}", "tasks {{instance}}"),
        ], "short", "Files count connections too"),
    )
    if name != "experience-pod":
        board.head("Database, cache and events")
        board.row(
            graph("Connections of the pools", [query(f'sum by (state) (db_pool_connections{{{record}, state!="max"}})', "{{state}}")], "short",
                  "All replicas together; nobody should have to wait", stack=True),
            graph("Wait for a connection, p95", [query(f"service:db_pool_wait_seconds:p95_rate5m{{{record}}}", "{{service}}")], "s",
                  "More than 0.1 s means that the pool is too small or statements are slow", thresholds=rising(0.05, 0.1)),
            graph("Redis, p95", [
                query(f"histogram_quantile(0.95, sum by (command, le) (rate(redis_operation_duration_seconds_bucket{{{mine}}}[$__rate_interval])))", "{{command}}"),
            ], "s", "Time of one command"),
        )
        board.row(
            graph("Events published", [query(f"sum by (topic) (rate(kafka_producer_messages_sent_total{{{mine}}}[$__rate_interval]))", "{{topic}}")], "cps",
                  "A second, by topic", stack=True, height=9),
            graph("Events consumed", [query(f"sum by (topic) (rate(kafka_consumer_messages_consumed_total{{{mine}}}[$__rate_interval]))", "{{topic}}")], "cps",
                  "A second, by topic", stack=True, height=9),
            graph("Outbox", [query(f"max by (service) (outbox_lag_seconds{{{mine}}})", "{{service}}")], "s", "Age of the oldest event that is not published",
                  thresholds=rising(60, 600), height=9),
        )
    board.head("Logs")
    board.row(logs("Warnings and errors", '{environment=~"$environment", pod="$pod", service=~"$service", level=~"warn|error"}', "The newest first"))
    return board


def core() -> Board:
    board = pod("core-pod", "Core pod", "Gateway, accounts and users.")
    mine = f'{E}, pod="core-pod"'
    board.head("Accounts and mail")
    board.row(
        graph("Sign-ins", [query(f"sum by (outcome) (rate(dreamscape_logins_total{{{mine}}}[$__rate_interval])) * 60", "{{outcome}}")], "opm", "A minute, by outcome", stack=True),
        graph("Password hashes, p95", [
            query(f"histogram_quantile(0.95, sum by (le) (rate(password_hash_duration_seconds_bucket{{{mine}}}[$__rate_interval])))", "work"),
            query(f"histogram_quantile(0.95, sum by (le) (rate(password_hash_wait_seconds_bucket{{{mine}}}[$__rate_interval])))", "wait for a turn"),
        ], "s", "Argon2id runs on as many threads as there are cores"),
        graph("Mail", [
            query(f"sum by (template) (rate(mail_sent_total{{{mine}}}[$__rate_interval])) * 60", "{{template}}"),
        ], "opm", "Sent a minute, by template", stack=True),
    )
    board.row(
        figure("Mail waiting", f'max(mail_queue_messages{{{mine}, state="pending"}})', "short", "In the queue", thresholds=rising(100, 1000), decimals=0),
        figure("Mail given up", f'max(mail_queue_messages{{{mine}, state="dead"}})', "short", "Kept for a look", thresholds=rising(1, 50), decimals=0),
        figure("Oldest mail", f"max(mail_queue_oldest_seconds{{{mine}}})", "s", "Waits since", thresholds=rising(300, 900)),
        figure("Registrations, 24 h", f"sum(increase(auth_registrations_total{{{mine}}}[24h])) or vector(0)", "short", "New accounts", decimals=0),
        figure("Lockouts, 24 h", f"sum(increase(auth_lockouts_total{{{mine}}}[24h])) or vector(0)", "short", "Accounts locked after too many wrong passwords", thresholds=rising(20, 200), decimals=0),
        figure("Live connections", f"sum(dreamscape_sockets_open{{{mine}}}) or vector(0)", "short", "Sockets for notifications", decimals=0),
    )
    return board


def business_pod() -> Board:
    board = pod("business-pod", "Business pod", "Search, cart, checkout, bookings, payments, recommendations.")
    mine = f'{E}, pod="business-pod"'
    board.head("Providers")
    board.row(
        graph("Calls to providers", [query(f"sum by (provider, outcome) (rate(external_api_requests_total{{{mine}}}[$__rate_interval]))", "{{provider}} {{outcome}}")], "reqps",
              "A second, by outcome", stack=True),
        graph("Time of providers, p95", [query(f"histogram_quantile(0.95, sum by (provider, le) (rate(external_api_duration_seconds_bucket{{{mine}}}[$__rate_interval])))", "{{provider}}")],
              "s", "Somebody waits for it", thresholds=rising(2, 5)),
        graph("Provider notifications", [query(f"sum by (result) (rate(payment_webhook_total{{{mine}}}[$__rate_interval])) * 60", "{{result}}")], "opm",
              "Webhooks a minute, by what became of them", stack=True),
    )
    return board


def experience() -> Board:
    return pod("experience-pod", "Experience pod", "The browser's origin: web client, gateway, panorama.")


def business() -> Board:
    """What a person in the office wants to know."""
    board = Board("dreamscape-business", "DreamScape · Business", "Searches, the way through the checkout, payments and the bookings that follow.",
                  tags=["business"], variables=[ENVIRONMENT], since="now-24h", refresh="1m")
    day = "24h"
    def count(metric: str) -> str:
        return f"sum(increase({metric}[{day}])) or vector(0)"
    voyage = f'{E}, service="voyage-service"'
    board.row(
        figure("Searches, 24 h", count(f'http_requests_total{{{voyage}, method="GET", route=~"/api/v1/.+/search", status=~"2.."}}'), "short", "Searches that were answered", decimals=0),
        figure("Carts, 24 h", count(f'http_requests_total{{{voyage}, method="POST", route="/api/v1/cart/items", status=~"2.."}}'), "short", "Offers put into a cart", decimals=0),
        figure("Checkouts, 24 h", count(f'dreamscape_bookings_total{{{E}, outcome="created"}}'), "short", "Bookings begun", decimals=0),
        figure("Paid, 24 h", count(f'dreamscape_payments_total{{{E}, outcome="succeeded"}}'), "short", "Payments that succeeded", decimals=0),
        figure("Confirmed, 24 h", count(f'dreamscape_bookings_total{{{E}, outcome="confirmed"}}'), "short", "Bookings confirmed", decimals=0),
        figure("Payments that fail", f'sum(rate(dreamscape_payments_total{{{E}, outcome="failed"}}[1h])) / sum(rate(dreamscape_payments_total{{{E}}}[1h]))', "percentunit",
               "In the last hour", thresholds=rising(0.05, 0.1), decimals=1),
    )
    board.head("The checkout funnel")
    funnel = [
        query(f'sum(increase(http_requests_total{{{voyage}, method="GET", route=~"/api/v1/.+/search", status=~"2.."}}[$__range]))', "1 searches"),
        query(f'sum(increase(http_requests_total{{{voyage}, method="POST", route="/api/v1/cart/items", status=~"2.."}}[$__range]))', "2 put into a cart"),
        query(f'sum(increase(http_requests_total{{{voyage}, method="POST", route="/api/v1/cart/checkout", status=~"2.."}}[$__range]))', "3 checked out"),
        query(f'sum(increase(dreamscape_payments_total{{{E}, outcome="succeeded"}}[$__range]))', "4 paid"),
        query(f'sum(increase(dreamscape_bookings_total{{{E}, outcome="confirmed"}}[$__range]))', "5 confirmed"),
    ]
    board.row(
        bars("In the time shown", funnel, "short", "How many came how far in the time that is chosen above"),
        graph("By step", [
            query(f"sum(dreamscape:searches:rate5m{{{E}}}) * 60", "searches"),
            query(f"sum(dreamscape:cart_items:rate5m{{{E}}}) * 60", "put into a cart"),
            query(f"sum(dreamscape:checkouts:rate5m{{{E}}}) * 60", "checkouts"),
            query(f'sum(dreamscape:payments:rate5m{{{E}, outcome="succeeded"}}) * 60', "paid"),
            query(f'sum(dreamscape:bookings:rate5m{{{E}, outcome="confirmed"}}) * 60', "confirmed"),
        ], "opm", "A minute", log=True),
        graph("From one step to the next", [
            query(f"sum(dreamscape:checkouts:rate5m{{{E}}}) / sum(dreamscape:searches:rate5m{{{E}}})", "checkouts per search"),
            query(f'sum(dreamscape:bookings:rate5m{{{E}, outcome="confirmed"}}) / sum(dreamscape:checkouts:rate5m{{{E}}})', "confirmed per checkout"),
        ], "percentunit", "Conversion"),
    )
    board.head("Searches")
    board.row(
        graph("Searches by kind", [query(f'sum by (route) (rate(http_requests_total{{{voyage}, method="GET", route=~"/api/v1/.+/search"}}[$__rate_interval])) * 60', "{{route}}")],
              "opm", "A minute", stack=True),
        graph("Time of a search, p95", [
            query(f'histogram_quantile(0.95, sum by (route, le) (rate(http_request_duration_seconds_bucket{{{voyage}, method="GET", route=~"/api/v1/.+/search"}}[$__rate_interval])))', "{{route}}", exemplar=True),
        ], "s", "As voyage answers", thresholds=rising(0.5, 2)),
        graph("Popular destinations", [query(f"sum by (source) (rate(ai_popular_total{{{E}}}[$__rate_interval])) * 60", "{{source}}")], "opm",
              "Asked a minute, and whether the answer was computed or kept", stack=True),
    )
    board.head("Payments")
    board.row(
        graph("Payments by outcome", [query(f"sum by (outcome) (rate(dreamscape_payments_total{{{E}}}[$__rate_interval])) * 60", "{{outcome}}")], "opm", "A minute", stack=True),
        graph("Payment intents by status", [query(f"sum by (status) (rate(payment_intents_total{{{E}}}[$__rate_interval])) * 60", "{{status}}")], "opm", "Changes a minute", stack=True),
        graph("How late the provider tells us", [
            query(f"histogram_quantile({q}, sum by (le) (rate(payment_webhook_lag_seconds_bucket{{{E}}}[$__rate_interval])))", f"p{round(q * 100)}") for q in (0.5, 0.95)
        ], "s", "From the event at the provider to its notification here", thresholds=rising(5, 10)),
    )
    board.row(
        figure("Contradictions, 7 d", f"sum(increase(payment_contradictions_total{{{E}}}[7d])) or vector(0)", "short", "The provider says something else than our books", thresholds=steps((None, GREEN), (1, RED)), decimals=0),
        figure("Late or flagged, 7 d", f'sum(increase(dreamscape_payments_total{{{E}, outcome=~"late|flagged"}}[7d])) or vector(0)', "short", "Money that a person should look at", thresholds=steps((None, GREEN), (1, ORANGE)), decimals=0),
        figure("Refunds failed, 7 d", f'sum(increase(payment_refunds_total{{{E}, status=~"FAILED|failed"}}[7d])) or vector(0)', "short", "Customers wait for this money", thresholds=steps((None, GREEN), (1, RED)), decimals=0),
        figure("Notifications parked", f"max(payment_webhooks_parked{{{E}}})", "short", "About payments that we do not know yet", thresholds=steps((None, GREEN), (1, ORANGE)), decimals=0),
        figure("Forged, 24 h", f'sum(increase(payment_webhook_total{{{E}, result="forged"}}[24h])) or vector(0)', "short", "Notifications with a wrong signature", thresholds=rising(1, 100), decimals=0),
        figure("Repaired, 7 d", f"sum(increase(payment_reconciled_total{{{E}}}[7d])) or vector(0)", "short", "Payments whose state was found by asking, not by notification", thresholds=rising(10, 100), decimals=0),
    )
    board.head("The saga from payment to booking")
    board.row(
        graph("Bookings by outcome", [query(f"sum by (outcome) (rate(dreamscape_bookings_total{{{E}}}[$__rate_interval])) * 60", "{{outcome}}")], "opm", "A minute", stack=True),
        graph("Oldest open booking", [query(f"max by (state) (dreamscape_saga_oldest_age_seconds{{{E}}})", "{{state}}")], "s",
              "DRAFT is unpaid and ends after 30 minutes; PENDING_PAYMENT may last a day; PENDING is paid and waits for its supplier", thresholds=rising(7200, 90000)),
        graph("Events that wait", [
            query(f"max by (service) (outbox_lag_seconds{{{E}}})", "{{service}}"),
        ], "s", "Age of the oldest event that is not published", thresholds=rising(60, 600)),
    )
    board.row(
        graph("Consumers behind", [query(f"sum by (group) (group:kafka_consumer_lag:sum{{{E}}})", "{{group}}")], "short", "Events that wait for each consumer", thresholds=rising(1000, 10000)),
        graph("Dead letters and errors", [
            query(f"sum(increase(kafka_dead_letters_total{{{E}}}[$__rate_interval])) or vector(0)", "dead letters"),
            query(f"sum(increase(kafka_consumer_errors_total{{{E}}}[$__rate_interval])) or vector(0)", "errors"),
        ], "short", "Events that could not be applied", bars=True),
        graph("Mail to customers", [query(f"sum by (template) (rate(mail_sent_total{{{E}}}[$__rate_interval])) * 60", "{{template}}")], "opm", "Sent a minute", stack=True),
    )
    return board


def slo() -> Board:
    """Objectives and what is left of the error budgets."""
    board = Board("dreamscape-availability-sla", "DreamScape · Availability and objectives",
                  "99.9 % of users' requests are not answered 5xx; 99 % are answered within half a second; both over 30 days.", tags=["slo"],
                  variables=[ENVIRONMENT, variable("pod", "Pod", "label_values(dreamscape_build_info, pod)")], since="now-7d", refresh="1m")
    mine = f'{E}, pod=~"$pod"'

    def objective(name: str, budget: float, good: str, bad: str, thresholds, first: Panel) -> None:
        """How much was good lately, what is left of the budget, and how fast it goes."""
        board.head(name.capitalize())
        board.row(
            *(figure(f"Last {span}", f"1 - avg by (pod) (pod:slo_{name}_errors:ratio_rate{span}{{{mine}}})", "percentunit",
                     f"Share of requests in the last {span} that were {good}", thresholds=thresholds, decimals=3, legend="{{pod}}", height=5)
              for span in ("1h", "1d", "3d")),
            figure("Budget left, 30 d", f"min by (pod) (pod:slo_{name}_budget:remaining_ratio30d{{{mine}}})", "percentunit",
                   f"What is left of the {bad} in 30 days", thresholds=falling(0, 0.25), decimals=1, legend="{{pod}}", height=5),
        )
        board.row(
            first,
            graph("Speed at which the budget burns",
                  [query(f"max by (pod) (pod:slo_{name}_errors:ratio_rate{span}{{{mine}}}) / {budget}", f"{{{{pod}}}} {span}") for span in ("1h", "6h")],
                  "short", "1 spends the budget exactly in 30 days; 14.4 pages", thresholds=rising(1, 14.4)),
            graph("Budget left", [query(f"pod:slo_{name}_budget:remaining_ratio30d{{{mine}}}", "{{pod}}")], "percentunit", "Over the last 30 days"),
        )

    objective("availability", 0.001, "not answered 5xx", "0.1 % that may fail", falling(0.995, 0.999), graph(
        "Uptime of the pods", [query(f'avg by (pod) (avg_over_time(up{{job=~"(core|business|experience)-pod", {mine}}}[1h]))', "{{pod}}")], "percentunit",
        "Share of replicas that answered Prometheus, by hour", top=1))
    objective("latency", 0.01, "answered within half a second", "1 % that may be slow", falling(0.98, 0.99), graph(
        "Answered within half a second", [query(f"1 - pod:slo_latency_errors:ratio_rate1h{{{mine}}}", "{{pod}}")], "percentunit", "By hour", top=1))
    board.head("As the world sees it")
    board.row(
        states("Public addresses", [query('probe_success{job="blackbox"}', "{{instance}}")], "Probed every 30 s from inside the platform", height=9),
        bars("Certificates run out in", [query('(probe_ssl_earliest_cert_expiry{job="blackbox"} - time()) / 86400', "{{instance}}")], "d", "Renewed 30 days before their end", thresholds=falling(3, 14), height=9),
    )
    return board


def postgresql() -> Board:
    board = Board("dreamscape-postgresql", "DreamScape · PostgreSQL", "The primary, its standby, and what the services ask of them.", tags=["database"],
                  variables=[variable("datname", "Database", 'label_values(pg_stat_database_xact_commit{datname!~"template.*|postgres"}, datname)')])
    d = 'datname=~"$datname"'
    board.row(
        figure("Primary", "max(pg_up)", "short", "postgres-exporter can log in", thresholds=steps((None, RED), (1, GREEN)), mappings=UP_DOWN, spark=False),
        figure("Standbys", "max(pg_dreamscape_standbys_streaming)", "short", "Standbys that stream now", thresholds=steps((None, RED), (1, GREEN)), decimals=0),
        figure("Lag", "max(pg_dreamscape_replication_lag_seconds)", "s", "What promoting the standby now would lose", thresholds=rising(30, 300), decimals=1),
        figure("Connections", "max(pg_dreamscape_activity_connections) / max(pg_settings_max_connections)", "percentunit", "Of max_connections", thresholds=rising(0.6, 0.8), decimals=1),
        figure("Cache hits", "min(database:pg_cache_hit:ratio_rate15m)", "percentunit", "Blocks found in shared_buffers", thresholds=falling(0.9, 0.95), decimals=2),
        figure("Last backup", "time() - max(dreamscape_backup_last_success_timestamp_seconds{kind=\"full\"})", "s", "Age of the last good backup", thresholds=rising(25 * 3600, 26 * 3600)),
    )
    board.head("Work")
    board.row(
        graph("Transactions", [
            query(f"sum by (datname) (rate(pg_stat_database_xact_commit{{{d}}}[$__rate_interval]))", "commits {{datname}}"),
            query(f"sum by (datname) (rate(pg_stat_database_xact_rollback{{{d}}}[$__rate_interval]))", "rollbacks {{datname}}"),
        ], "ops", "A second"),
        graph("Statements by role", [query("sum by (role) (rate(pg_dreamscape_statements_calls_total[$__rate_interval]))", "{{role}}")], "ops", "A second, from pg_stat_statements", stack=True),
        graph("Time in statements", [query("sum by (role) (rate(pg_dreamscape_statements_seconds_total[$__rate_interval]))", "{{role}}")], "short",
              "Seconds of work a second: how many statements run at once, on average", stack=True),
    )
    board.row(
        graph("Rows", [
            query(f"sum(rate(pg_stat_database_tup_returned{{{d}}}[$__rate_interval]))", "returned"),
            query(f"sum(rate(pg_stat_database_tup_inserted{{{d}}}[$__rate_interval]))", "inserted"),
            query(f"sum(rate(pg_stat_database_tup_updated{{{d}}}[$__rate_interval]))", "updated"),
            query(f"sum(rate(pg_stat_database_tup_deleted{{{d}}}[$__rate_interval]))", "deleted"),
        ], "rps", "A second", log=True),
        graph("Mean time of a statement", [query("sum by (role) (rate(pg_dreamscape_statements_seconds_total[$__rate_interval])) / sum by (role) (rate(pg_dreamscape_statements_calls_total[$__rate_interval]) > 0)", "{{role}}")],
              "s", "By role"),
        graph("Blocks", [
            query(f"sum(rate(pg_stat_database_blks_hit{{{d}}}[$__rate_interval]))", "hits"),
            query(f"sum(rate(pg_stat_database_blks_read{{{d}}}[$__rate_interval]))", "misses"),
        ], "ops", "Found in shared_buffers or not", stack=True),
    )
    board.head("Connections and locks")
    board.row(
        graph("Connections by role", [query("sum by (role) (pg_dreamscape_connections_count)", "{{role}}"), query("max(pg_settings_max_connections)", "max")], "short", "Each service has a role", stack=False),
        graph("Oldest transaction", [
            query("max(pg_dreamscape_activity_longest_transaction_seconds)", "open"),
            query("max(pg_dreamscape_activity_longest_idle_in_transaction_seconds)", "idle in a transaction"),
        ], "s", "Long ones keep vacuum from its work", thresholds=rising(60, 300)),
        graph("Locks and deadlocks", [
            query("max(pg_dreamscape_activity_waiting_for_lock)", "sessions that wait"),
            query(f"sum(increase(pg_stat_database_deadlocks{{{d}}}[$__rate_interval]))", "deadlocks"),
        ], "short", "Each deadlock fails one transaction", thresholds=rising(5, 10)),
    )
    board.head("Standby, WAL and disk")
    board.row(
        graph("Lag of the standby", [query("max by (application_name) (pg_dreamscape_replication_lag_seconds)", "{{application_name}}")], "s", "Age of the newest change that it has not replayed", thresholds=rising(30, 300)),
        graph("WAL kept for slots", [query("max by (slot_name) (pg_dreamscape_slot_retained_bytes)", "{{slot_name}}")], "bytes", "Given up at 8 GB", thresholds=rising(2 * 2**30, 6 * 2**30)),
        graph("WAL archived", [
            query("rate(pg_dreamscape_archiver_archived_total[$__rate_interval]) * 60", "archived"),
            query("rate(pg_dreamscape_archiver_failed_total[$__rate_interval]) * 60", "failed"),
        ], "opm", "Files a minute"),
    )
    board.row(
        graph("WAL written", [query("rate(pg_dreamscape_archiver_written_bytes_total[$__rate_interval])", "written")], "Bps", "By the primary; a quiet one has nothing to archive"),
        graph("Age of the newest archived WAL", [query("max(pg_dreamscape_archiver_last_archived_age_seconds)", "age")], "s", "Above five minutes only while nobody writes", thresholds=rising(300, 900)),
        graph("Log received by the backup", [query("max(avg_over_time(dreamscape_wal_receiver_running[5m]))", "of the last five minutes")], "percentunit", "Less than half of five minutes: it does not get on", thresholds=falling(0.5, 0.95)),
    )
    board.row(
        graph("Backups", [query("max by (kind) (dreamscape_backup_last_size_bytes)", "{{kind}}")], "bytes", "What the last one of each kind stored"),
        graph("Time of a backup", [query("max by (kind) (dreamscape_backup_last_duration_seconds)", "{{kind}}")], "s", "How long the last one of each kind took"),
        graph("Log on its way to the object storage", [query("max(dreamscape_wal_archive_pending_segments)", "segments that wait"), query("(time() - max(dreamscape_wal_archive_last_success_timestamp_seconds)) / 60", "minutes since the last")], "short", "What a loss of all copies would cost", thresholds=rising(5, 15)),
    )
    board.row(
        graph("Size", [query("max by (datname) (pg_dreamscape_database_size_bytes)", "{{datname}}")], "bytes", "On disk"),
        graph("Temporary files", [query(f"sum by (datname) (rate(pg_stat_database_temp_bytes{{{d}}}[$__rate_interval]))", "{{datname}}")], "Bps", "Sorts that did not fit into work_mem"),
        graph("Age of the oldest row", [query("max by (datname) (pg_dreamscape_database_frozen_xid_age)", "{{datname}}")], "short", "Transactions; vacuum freezes at 200 million", thresholds=rising(5e8, 1e9)),
    )
    return board


def redis() -> Board:
    board = Board("dreamscape-redis", "DreamScape · Redis", "The three nodes of the cluster.", tags=["cache"],
                  variables=[variable("instance", "Node", 'label_values(redis_up{job="redis"}, instance)')])
    n = 'job="redis", instance=~"$instance"'
    board.row(
        figure("Nodes", 'sum(redis_up{job="redis"})', "short", "Of three", thresholds=falling(2, 3), decimals=0),
        figure("Cluster", 'min(redis_cluster_state{job="redis"})', "short", "All nodes say that the cluster is whole", thresholds=steps((None, RED), (1, GREEN)), mappings=[{"type": "value", "options": {"0": {"text": "broken", "color": RED, "index": 0}, "1": {"text": "whole", "color": GREEN, "index": 1}}}], spark=False),
        figure("Slots", 'min(redis_cluster_slots_ok{job="redis"})', "short", "Of 16384", thresholds=steps((None, RED), (16384, GREEN)), decimals=0, spark=False),
        figure("Hit rate", "redis:keyspace_hit:ratio_rate15m", "percentunit", "Look-ups that find their key", thresholds=falling(0.5, 0.8), decimals=1),
        figure("Evictions", f"sum(rate(redis_evicted_keys_total{{{n}}}[5m]))", "cps", "Keys a second that had to go", thresholds=rising(1, 10), decimals=2),
        figure("Keys", f"sum(redis_db_keys{{{n}}})", "short", "In all nodes", decimals=0),
    )
    board.row(
        graph("Memory", [query(f"redis_memory_used_bytes{{{n}}}", "{{instance}}"), query(f"max(redis_memory_max_bytes{{{n}}})", "max")], "bytes", "By node, and maxmemory"),
        graph("Look-ups", [query(f"sum(rate(redis_keyspace_hits_total{{{n}}}[$__rate_interval]))", "hits"), query(f"sum(rate(redis_keyspace_misses_total{{{n}}}[$__rate_interval]))", "misses")], "ops", "A second", stack=True),
        graph("Evicted and expired", [
            query(f"sum by (instance) (rate(redis_evicted_keys_total{{{n}}}[$__rate_interval]))", "evicted {{instance}}"),
            query(f"sum by (instance) (rate(redis_expired_keys_total{{{n}}}[$__rate_interval]))", "expired {{instance}}"),
        ], "cps", "Expiry is normal, eviction means too little memory"),
    )
    board.row(
        graph("Commands", [query(f"sum by (instance) (rate(redis_commands_processed_total{{{n}}}[$__rate_interval]))", "{{instance}}")], "ops", "A second, by node", stack=True),
        graph("By command", [query(f"topk(8, sum by (cmd) (rate(redis_commands_total{{{n}}}[$__rate_interval])))", "{{cmd}}")], "ops", "The eight most frequent"),
        graph("Mean time of a command", [query(f"topk(8, sum by (cmd) (rate(redis_commands_duration_seconds_total{{{n}}}[$__rate_interval])) / sum by (cmd) (rate(redis_commands_total{{{n}}}[$__rate_interval]) > 0))", "{{cmd}}")], "s", "Inside the node"),
    )
    board.row(
        graph("Clients", [query(f"redis_connected_clients{{{n}}}", "{{instance}}")], "short", "Connections"),
        graph("Network", [query(f"sum(rate(redis_net_input_bytes_total{{{n}}}[$__rate_interval]))", "in"), query(f"sum(rate(redis_net_output_bytes_total{{{n}}}[$__rate_interval]))", "out")], "Bps", "All nodes"),
        graph("As the pods see it, p95", [query("histogram_quantile(0.95, sum by (pod, le) (rate(redis_operation_duration_seconds_bucket[$__rate_interval])))", "{{pod}}")], "s", "Network included"),
    )
    return board


def kafka() -> Board:
    board = Board("kafka-monitoring-dreamscape", "Kafka Monitoring - DreamScape", "Brokers, topics and consumers.", tags=["kafka", "DR-260"], variables=[
        variable("broker", "Broker", "label_values(kafka_server_replicamanager_partitioncount, broker)"),
        variable("group", "Consumer group", "label_values(kafka_consumergroup_lag, consumergroup)"),
    ])
    b = 'broker=~"$broker"'
    board.row(
        figure("Brokers", 'sum(up{job="kafka-jmx"})', "short", "Of three, seen by JMX", thresholds=falling(2, 3), decimals=0),
        figure("Controllers", "sum(kafka_controller_kafkacontroller_activecontrollercount)", "short", "Exactly one", thresholds=steps((None, RED), (1, GREEN), (2, RED)), decimals=0),
        figure("Offline partitions", "max(kafka_controller_kafkacontroller_offlinepartitionscount)", "short", "Without a leader", thresholds=steps((None, GREEN), (1, RED)), decimals=0),
        figure("Under-replicated", "sum(kafka_server_replicamanager_underreplicatedpartitions)", "short", "Partitions that lack a copy", thresholds=rising(1, 50), decimals=0),
        figure("Messages in", "sum(rate(kafka_server_brokertopicmetrics_messagesin_total[5m]))", "cps", "A second", decimals=1),
        figure("Furthest behind", "max(sum by (consumergroup) (group:kafka_consumergroup_lag:sum)) or max(sum by (group) (group:kafka_consumer_lag:sum))", "short", "Messages that the slowest group has before it", thresholds=rising(1000, 10000), decimals=0),
    )
    board.head("Throughput")
    board.row(
        graph("Messages in by topic", [query(f"topk(12, sum by (topic) (rate(kafka_server_brokertopicmetrics_messagesin_topic_total{{{b}}}[$__rate_interval])))", "{{topic}}")], "cps", "A second; the twelve busiest", stack=True, height=9),
        graph("Bytes", [query(f"sum(rate(kafka_server_brokertopicmetrics_bytesin_total{{{b}}}[$__rate_interval]))", "in"), query(f"sum(rate(kafka_server_brokertopicmetrics_bytesout_total{{{b}}}[$__rate_interval]))", "out")], "Bps", "Clients only, without replication", height=9),
        graph("Requests", [query(f"sum by (request) (rate(kafka_network_requestmetrics_requests_total{{{b}, request=~\"Produce|Fetch|FetchConsumer|FetchFollower|Metadata|OffsetCommit\"}}[$__rate_interval]))", "{{request}}")], "reqps", "A second", height=9),
    )
    board.head("Consumers")
    board.row(
        graph("Lag by group, as the brokers see it", [query('sum by (consumergroup) (group:kafka_consumergroup_lag:sum{consumergroup=~"$group"})', "{{consumergroup}}")], "short", "Messages that wait", thresholds=rising(1000, 10000)),
        graph("Lag by group, as the consumers see it", [query("sum by (group) (group:kafka_consumer_lag:sum)", "{{group}}")], "short", "Messages that wait", thresholds=rising(1000, 10000)),
        graph("Dead letters", [query("sum by (group) (increase(kafka_dead_letters_total[$__rate_interval])) or vector(0)", "{{group}}")], "short", "Events given up", bars=True),
    )
    board.head("Brokers")
    board.row(
        graph("Time of requests, p99", [query(f'max by (request) (kafka_network_requestmetrics_totaltimems{{{b}, quantile="0.99"}})', "{{request}}")], "ms", "From arrival to answer"),
        graph("Idle request handlers", [query(f"min by (broker) (kafka_server_kafkarequesthandlerpool_requesthandleravgidle_percent{{{b}}})", "{{broker}}")], "percentunit", "Less than 20 % is busy", thresholds=falling(0.2, 0.4), top=1),
        graph("Queues", [query(f"sum by (broker) (kafka_network_requestchannel_requestqueuesize{{{b}}})", "requests {{broker}}"), query(f"sum by (broker) (kafka_network_requestchannel_responsequeuesize{{{b}}})", "answers {{broker}}")], "short", "Waiting"),
    )
    board.row(
        graph("Replication", [
            query(f"sum by (broker) (kafka_server_replicamanager_underreplicatedpartitions{{{b}}})", "under-replicated {{broker}}"),
            query(f"sum by (broker) (kafka_server_replicamanager_underminisrpartitioncount{{{b}}})", "below min ISR {{broker}}"),
            query(f"sum by (broker) (rate(kafka_server_replicamanager_isrshrinks_total{{{b}}}[$__rate_interval]))", "shrinks {{broker}}"),
        ], "short", "All of it should be nothing"),
        graph("Refused", [
            query(f"sum(rate(kafka_server_brokertopicmetrics_failedproducerequests_total{{{b}}}[$__rate_interval]))", "writes"),
            query(f"sum(rate(kafka_server_brokertopicmetrics_failedfetchrequests_total{{{b}}}[$__rate_interval]))", "reads"),
        ], "reqps", "Requests a second that failed"),
        graph("Disk by broker", [query(f"sum by (broker) (kafka_log_log_size{{{b}}})", "{{broker}}")], "bytes", "Size of all logs", stack=True),
    )
    board.row(
        graph("Leaders and partitions", [query(f"sum by (broker) (kafka_server_replicamanager_leadercount{{{b}}})", "leads {{broker}}"), query(f"sum by (broker) (kafka_server_replicamanager_partitioncount{{{b}}})", "holds {{broker}}")], "short", "Should be even"),
        graph("Heap", [query('jvm_memory_used_bytes{job="kafka-jmx", area="heap"}', "{{broker}}"), query('max(jvm_memory_max_bytes{job="kafka-jmx", area="heap"})', "max")], "bytes", "Of the JVM"),
        graph("Collecting garbage", [query('sum by (broker) (rate(jvm_gc_collection_seconds_sum{job="kafka-jmx"}[$__rate_interval]))', "{{broker}}")], "percentunit", "Share of the time"),
    )
    return board


def minio() -> Board:
    board = Board("dreamscape-minio", "DreamScape · MinIO", "Object storage: avatars, panoramas, exports, backups.", tags=["storage"],
                  variables=[variable("bucket", "Bucket", "label_values(minio_bucket_usage_total_bytes, bucket)")])
    board.row(
        figure("Up", 'max(up{job="minio"})', "short", "Answers Prometheus", thresholds=steps((None, RED), (1, GREEN)), mappings=UP_DOWN, spark=False),
        figure("Used", "1 - max(minio_cluster_capacity_usable_free_bytes) / max(minio_cluster_capacity_usable_total_bytes)", "percentunit", "Of its disk", thresholds=rising(0.7, 0.85), decimals=1),
        figure("Objects", "sum(minio_cluster_usage_object_total)", "short", "In all buckets", decimals=0),
        figure("Stored", "sum(minio_cluster_usage_total_bytes)", "bytes", "In all buckets"),
        figure("Drives offline", "max(minio_cluster_drive_offline_total)", "short", "Should be none", thresholds=steps((None, GREEN), (1, RED)), decimals=0),
        figure("Errors", "sum(rate(minio_s3_requests_5xx_errors_total[5m])) / sum(rate(minio_s3_requests_total[5m]))", "percentunit", "Requests answered 5xx", thresholds=rising(0.01, 0.05), decimals=2),
    )
    board.row(
        graph("Requests", [query("sum by (api) (rate(minio_s3_requests_total[$__rate_interval]))", "{{api}}")], "reqps", "A second, by call", stack=True),
        graph("Refused and failed", [query("sum(rate(minio_s3_requests_4xx_errors_total[$__rate_interval]))", "4xx"), query("sum(rate(minio_s3_requests_5xx_errors_total[$__rate_interval]))", "5xx")], "reqps", "A second"),
        graph("Time to the first byte, p95", [query("histogram_quantile(0.95, sum by (api, le) (rate(minio_s3_requests_ttfb_seconds_distribution[$__rate_interval])))", "{{api}}")], "s", "By call"),
    )
    board.row(
        graph("Traffic", [query("sum(rate(minio_s3_traffic_received_bytes[$__rate_interval]))", "in"), query("sum(rate(minio_s3_traffic_sent_bytes[$__rate_interval]))", "out")], "Bps", "Bytes a second"),
        graph("Size by bucket", [query('minio_bucket_usage_total_bytes{bucket=~"$bucket"}', "{{bucket}}")], "bytes", "Counted by MinIO's scanner", stack=True),
        graph("Objects by bucket", [query('minio_bucket_usage_object_total{bucket=~"$bucket"}', "{{bucket}}")], "short", "Counted by MinIO's scanner"),
    )
    board.row(
        graph("Disk", [query("max(minio_cluster_capacity_usable_total_bytes) - max(minio_cluster_capacity_usable_free_bytes)", "used"), query("max(minio_cluster_capacity_usable_total_bytes)", "limit")], "bytes", "Used and there"),
        graph("Requests in work", [query("sum(minio_s3_requests_inflight_total)", "in work"), query("sum(minio_s3_requests_waiting_total)", "waiting")], "short", "At this moment"),
        graph("Latency of the drives", [query("max by (api) (minio_node_drive_latency_us)", "{{api}}")], "µs", "By storage call"),
    )
    return board


def traefik() -> Board:
    board = Board("dreamscape-traefik", "DreamScape · Traefik", "The load balancer: what visitors see.", tags=["edge"],
                  variables=[variable("service", "Service", "label_values(traefik_service_requests_total, service)")])
    s = 'service=~"$service"'
    board.row(
        figure("Requests", 'sum(rate(traefik_entrypoint_requests_total{entrypoint="websecure"}[5m]))', "reqps", "A second, over TLS", decimals=1),
        figure("Errors", 'sum(rate(traefik_service_requests_total{code=~"5.."}[5m])) / sum(rate(traefik_service_requests_total[5m]))', "percentunit", "Answered 5xx", thresholds=rising(0.01, 0.05), decimals=2),
        figure("Time now, p95", f"histogram_quantile(0.95, sum by (le) (rate(traefik_service_request_duration_seconds_bucket{{{s}}}[5m])))", "s", "At the load balancer", thresholds=rising(0.5, 1)),
        figure("Open connections", "sum(traefik_open_connections)", "short", "From browsers and clients", decimals=0),
        figure("Servers up", "sum(traefik_service_server_up)", "short", "Replicas that pass their health check", decimals=0),
        figure("Certificate", "(min(traefik_tls_certs_not_after) - time()) / 86400", "d", "The first one runs out in", thresholds=falling(3, 14), decimals=0),
    )
    board.row(
        graph("Requests by service", [query(f"sum by (service) (rate(traefik_service_requests_total{{{s}}}[$__rate_interval]))", "{{service}}")], "reqps", "A second", stack=True),
        graph("Answers by class", [query(f'sum(rate(traefik_service_requests_total{{{s}, code=~"{c}.."}}[$__rate_interval]))', f"{c}xx") for c in (2, 3, 4, 5)], "reqps", "A second", stack=True),
        graph("Time, p95", [query(f"histogram_quantile(0.95, sum by (service, le) (rate(traefik_service_request_duration_seconds_bucket{{{s}}}[$__rate_interval])))", "{{service}}")], "s", "By service", thresholds=rising(0.5, 1)),
    )
    board.row(
        states("Servers", [query(f"traefik_service_server_up{{{s}}}", "{{service}} {{url}}")], "Each replica's health check"),
        graph("Retries", [query(f"sum by (service) (rate(traefik_service_retries_total{{{s}}}[$__rate_interval]))", "{{service}}")], "reqps", "Requests tried again at another replica"),
        graph("Refused by limits", [query('sum by (entrypoint) (rate(traefik_entrypoint_requests_total{code="429"}[$__rate_interval]))', "{{entrypoint}}")], "reqps", "Answered 429"),
    )
    board.row(
        graph("Traffic", [query("sum(rate(traefik_entrypoint_requests_bytes_total[$__rate_interval]))", "in"), query("sum(rate(traefik_entrypoint_responses_bytes_total[$__rate_interval]))", "out")], "Bps", "Bytes a second"),
        graph("TLS versions", [query("sum by (tls_version) (rate(traefik_entrypoint_requests_tls_total[$__rate_interval]))", "{{tls_version}}")], "reqps", "1.2 and 1.3 only", stack=True),
        graph("Configuration", [query("rate(traefik_config_reloads_total[$__rate_interval]) * 60", "reloads")], "opm", "A minute"),
    )
    return board


def nodes() -> Board:
    board = Board("dreamscape-nodes", "DreamScape · Nodes", "The machines and the containers on them.", tags=["nodes"],
                  variables=[variable("instance", "Node", 'label_values(up{job="node-exporter"}, instance)')])
    n = 'instance=~"$instance"'
    fs = f'{n}, fstype!~"tmpfs|overlay|squashfs|ramfs|nsfs"'
    board.row(
        figure("Nodes", 'sum(up{job="node-exporter"})', "short", "That answer", decimals=0),
        figure("CPU, busiest node", f"max(instance:node_cpu_busy:ratio_rate5m{{{n}}})", "percentunit", "Of the busiest node", thresholds=rising(0.7, 0.85), decimals=0),
        figure("Memory, fullest node", f"max(instance:node_memory_used:ratio{{{n}}})", "percentunit", "Of the fullest node", thresholds=rising(0.8, 0.9), decimals=0),
        figure("Disk left", f"min(instance:node_filesystem_free:ratio{{{n}}})", "percentunit", "Of the fullest file system", thresholds=falling(0.05, 0.1), decimals=0),
        figure("Load", f"max(node_load5{{{n}}}) ", "short", "Runnable tasks over five minutes", decimals=1),
        figure("Clock", f"max(abs(node_timex_offset_seconds{{{n}}}))", "s", "Off by", thresholds=rising(0.02, 0.05)),
    )
    board.row(
        graph("CPU", [query(f"instance:node_cpu_busy:ratio_rate5m{{{n}}}", "{{instance}}")], "percentunit", "Share of the time that the cores work", thresholds=rising(0.7, 0.85), top=1),
        graph("Memory", [query(f"instance:node_memory_used:ratio{{{n}}}", "{{instance}}")], "percentunit", "In use", thresholds=rising(0.8, 0.9), top=1),
        bars("Disks", [query(f"1 - instance:node_filesystem_free:ratio{{{n}}}", "{{instance}} {{mountpoint}}")], "percentunit", "How full each file system is", thresholds=rising(0.8, 0.9)),
    )
    board.row(
        graph("Disk traffic", [query(f"sum by (instance) (rate(node_disk_read_bytes_total{{{n}}}[$__rate_interval]))", "read {{instance}}"), query(f"sum by (instance) (rate(node_disk_written_bytes_total{{{n}}}[$__rate_interval]))", "write {{instance}}")], "Bps", "Bytes a second"),
        graph("Network", [query(f'sum by (instance) (rate(node_network_receive_bytes_total{{{n}, device!~"lo|veth.*|br.*|docker.*"}}[$__rate_interval]))', "in {{instance}}"), query(f'sum by (instance) (rate(node_network_transmit_bytes_total{{{n}, device!~"lo|veth.*|br.*|docker.*"}}[$__rate_interval]))', "out {{instance}}")], "Bps", "Bytes a second"),
        graph("Full in", [query(f"min by (instance, mountpoint) (predict_linear(node_filesystem_avail_bytes{{{fs}}}[6h], 86400))", "{{instance}} {{mountpoint}}")], "bytes", "Space that will be left in 24 hours at this speed"),
    )
    board.head("Containers")
    board.row(
        graph("CPU by service", [query('sum by (swarm_service) (rate(container_cpu_usage_seconds_total{swarm_service!=""}[$__rate_interval]))', "{{swarm_service}}")], "short", "Cores", stack=True, height=9),
        graph("Memory by service", [query('sum by (swarm_service) (container_memory_working_set_bytes{swarm_service!=""})', "{{swarm_service}}")], "bytes", "Working set", stack=True, height=9),
        graph("Memory against its limit", [query('max by (swarm_service) (container_memory_working_set_bytes{swarm_service!=""} / (container_spec_memory_limit_bytes{swarm_service!=""} > 0))', "{{swarm_service}}")], "percentunit", "The fullest container of each service", thresholds=rising(0.8, 0.9), top=1, height=9),
    )
    return board


def autoscaler() -> Board:
    board = Board("dreamscape-autoscaler", "DreamScape · Autoscaler", "How many replicas there are, should be and may be, and why.", tags=["scaling"],
                  variables=[variable("service", "Service", 'label_values(dreamscape_swarm_replicas, service)')])
    s = 'service=~"$service"'
    board.row(
        figure("Last run", "time() - max(dreamscape_autoscaler_last_run_timestamp_seconds)", "s", "It runs every 30 s", thresholds=rising(90, 300)),
        figure("Errors, 1 h", "sum(increase(dreamscape_autoscaler_errors_total[1h]))", "short", "Queries or calls that failed", thresholds=rising(1, 10), decimals=0),
        figure("Changes, 24 h", "sum(increase(dreamscape_autoscaler_decisions_total{action=~\"up|down\"}[24h]))", "short", "Times it changed a number of replicas", decimals=0),
        figure("Dry run", "max(dreamscape_autoscaler_dry_run)", "short", "It only says what it would do", mappings=[{"type": "value", "options": {"0": {"text": "no", "index": 0}, "1": {"text": "yes", "index": 1}}}], spark=False),
    )
    board.row(
        graph("Replicas", [query(f'max by (service, state) (dreamscape_swarm_replicas{{{s}}})', "{{service}} {{state}}")], "short", "Desired and running"),
        graph("What the rules want", [query(f"max by (service, rule) (dreamscape_autoscaler_rule_replicas{{{s}}})", "{{service}} {{rule}}")], "short", "Before caps and cool-down"),
        graph("Wanted against the cap", [query(f"max by (service) (dreamscape_autoscaler_wanted_replicas{{{s}}})", "wanted {{service}}"), query(f"max by (service) (dreamscape_autoscaler_max_replicas{{{s}}})", "cap {{service}}")], "short", "Above the cap nothing happens"),
    )
    board.row(
        graph("CPU of the pods against their limit", [query("pod:container_cpu_usage:ratio_rate2m", "{{pod}}")], "percentunit", "Above 70 % more replicas are wanted", thresholds=rising(0.7, 0.9)),
        graph("People online", [query("sum(dreamscape_concurrent_users)", "people"), query("sum(dreamscape_concurrent_users) / 1000", "replicas wanted for them")], "short", "One replica of the core pod for each 1000"),
        graph("Requests to the experience pod", [query('sum(rate(traefik_service_requests_total{service=~"(web|experience).*"}[2m]))', "requests")], "reqps", "One replica for each 1000 a second"),
    )
    board.row(
        graph("Decisions", [query(f"sum by (service, action) (increase(dreamscape_autoscaler_decisions_total{{{s}}}[$__rate_interval]))", "{{service}} {{action}}")], "short", "By what was done", bars=True),
        graph("Work waiting for the AI service", [query("sum by (queue) (dreamscape_ai_queue_length)", "{{queue}}")], "short", "One replica of the business pod for each 25"),
    )
    return board


def alerts() -> Board:
    board = Board("dreamscape-alerts", "DreamScape · Alerts", "What fires, what fired, and whether somebody was told.", tags=["alerts"], since="now-24h", annotations=False)
    board.row(
        figure("Critical", 'count(ALERTS{alertstate="firing", severity="critical"}) or vector(0)', "short", "Fire now", thresholds=steps((None, GREEN), (1, RED)), decimals=0),
        figure("Warnings", 'count(ALERTS{alertstate="firing", severity="warning"}) or vector(0)', "short", "Fire now", thresholds=steps((None, GREEN), (1, ORANGE)), decimals=0),
        figure("Pending", 'count(ALERTS{alertstate="pending"}) or vector(0)', "short", "Begin to fire soon", thresholds=NEUTRAL, decimals=0),
        figure("Watchdog", 'count(ALERTS{alertname="Watchdog", alertstate="firing"}) or vector(0)', "short", "Must always fire", thresholds=steps((None, RED), (1, GREEN)), decimals=0, spark=False),
        figure("Silences", "sum(alertmanager_silences{state=\"active\"})", "short", "In force in Alertmanager", thresholds=rising(1, 20), decimals=0),
        figure("Not delivered, 24 h", "sum(increase(alertmanager_notifications_failed_total[24h]))", "short", "Messages that did not arrive", thresholds=rising(1, 10), decimals=0),
    )
    board.row(
        alert_list("Now", "By importance", height=12),
        graph("Firing over time", [query('count by (alertname) (ALERTS{alertstate="firing", alertname!="Watchdog"}) or vector(0)', "{{alertname}}")], "short", "Number of alerts", stack=True, height=12, bars=True),
        widths=[10, 14],
    )
    board.row(
        graph("Messages sent", [query("sum by (integration) (rate(alertmanager_notifications_total[$__rate_interval])) * 60", "{{integration}}")], "opm", "A minute, by way"),
        graph("Messages that failed", [query("sum by (integration) (rate(alertmanager_notifications_failed_total[$__rate_interval])) * 60", "{{integration}}")], "opm", "A minute, by way"),
        graph("Rules", [query("max by (rule_group) (prometheus_rule_group_last_duration_seconds)", "{{rule_group}}")], "s", "Time to evaluate each group"),
    )
    board.row(
        states("Targets", [query("min by (job) (up)", "{{job}}")], "Every target of the job answers", height=12),
        graph("Prometheus", [query("prometheus_tsdb_head_series", "series"), query("rate(prometheus_tsdb_head_samples_appended_total[$__rate_interval])", "samples a second")], "short", "What it holds and takes in", height=12),
    )
    return board


def log_board() -> Board:
    board = Board("dreamscape-logs", "DreamScape · Logs", "Lines of all containers.", tags=["logs"], since="now-1h", annotations=False, variables=[
        variable("environment", "Environment", 'label_values({stack="dreamscape"}, environment)', loki=True),
        variable("pod", "Pod", 'label_values({stack="dreamscape"}, pod)', loki=True),
        variable("service", "Service", 'label_values({stack="dreamscape", pod=~"$pod"}, service)', loki=True),
        variable("level", "Level", 'label_values({stack="dreamscape"}, level)', loki=True),
        text_variable("search", "Contains"),
    ])
    stream = '{stack="dreamscape", environment=~"$environment", pod=~"$pod", service=~"$service"}'
    leveled = stream[:-1] + ', level=~"$level"}'
    board.row(
        log_graph("Lines by level", f"sum by (level) (count_over_time({stream}[$__auto]))", "{{level}}", "short", "Number of lines"),
        log_graph("Errors by service", f'sum by (service) (count_over_time({stream[:-1]}, level="error"}}[$__auto]))', "{{service}}", "short", "Number of lines"),
    )
    board.row(logs("Errors", stream[:-1] + ', level="error"} |= "$search"', "The newest first", height=9))
    board.row(logs("Lines", leveled + ' |= "$search"', "A trace or request id in the field above shows one request through all pods", height=16))
    return board


ALL = {
    "overview": overview, "core-pod": core, "business-pod": business_pod, "experience-pod": experience, "business": business,
    "availability-sla": slo, "postgresql": postgresql, "redis": redis, "kafka-monitoring": kafka, "minio": minio, "traefik": traefik,
    "nodes": nodes, "autoscaler": autoscaler, "alerts": alerts, "logs": log_board,
}
assert set(PODS) <= set(ALL)
