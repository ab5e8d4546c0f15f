//! A small pod, run the way the launcher and tests run the real ones.

use std::time::Duration;

use axum::{Router, routing::get};
use http::StatusCode;

use super::*;
use crate::{
    health::{self, Health},
    http::{HttpConfig, Kit},
    lifecycle::Shutdown,
};

struct Small;

impl Pod for Small {
    const NAME: &'static str = "small-pod";
    const ABOUT: &'static str = "One service that says hello";
    type Config = HttpConfig;

    fn read(reader: &mut Reader) -> HttpConfig {
        reader.secret("GREETING_KEY", "signs the greeting");
        HttpConfig::read(reader)
    }

    fn listeners(reader: &mut Reader) -> Addresses {
        let port = |setting, development| Port { setting, development };
        let services = [("hello", port("HELLO_PORT", 3999))];
        Addresses::read(
            reader,
            port("SMALL_PORT", 3998),
            port("SMALL_METRICS_PORT", 3997),
            &services,
        )
    }

    fn migrations() -> Vec<Migrations> {
        Vec::new()
    }

    fn openapi() -> utoipa::openapi::OpenApi {
        utoipa::openapi::OpenApi::default()
    }

    async fn serve(config: HttpConfig, listeners: Listeners, tasks: Tasks) -> anyhow::Result<()> {
        let service = Health::new("hello-service", "1.0.0", Vec::new()).in_process(Self::NAME, "test", &tasks);
        let pod = Health::of_pod(Self::NAME, "Small Pod", vec![service.clone()]).in_process(Self::NAME, "test", &tasks);
        let kit = Kit::new("hello-service", &config, None);
        let hello = || {
            let stuck = get(std::future::pending::<()>);
            Router::new()
                .route("/hello", get(|| async { "hello" }))
                .route("/stuck", stuck)
        };
        let public = kit.wrap(hello().merge(health::routes(pod.clone())));
        let server = Server::new(listeners, &tasks).service("hello", kit.wrap(hello().merge(health::routes(service))));
        server.run(public, pod).await;
        Ok(())
    }
}

struct Ask {
    client: reqwest::Client,
    bound: std::collections::BTreeMap<&'static str, std::net::SocketAddr>,
}

impl Ask {
    async fn get(&self, listener: &str, path: &str) -> (StatusCode, String) {
        let response = self
            .client
            .get(format!("http://{}{path}", self.bound[listener]))
            .send()
            .await
            .unwrap();
        (response.status(), response.text().await.unwrap())
    }
}

async fn start() -> (Ask, Tasks, tokio::task::JoinHandle<anyhow::Result<u8>>) {
    let listeners = Listeners::loopback(&["hello"]).await.unwrap();
    let bound = listeners.bound();
    let tasks = Tasks::new(Shutdown::new());
    tasks.shutdown().halt_after_drain(Duration::from_secs(20));
    let (config, serving) = (HttpConfig::default(), tasks.clone());
    let pod = tasks.clone();
    let running = tokio::spawn(async move { until_the_end(Small::serve(config, listeners, pod), &serving).await });
    (
        Ask {
            client: reqwest::Client::new(),
            bound,
        },
        tasks,
        running,
    )
}

#[tokio::test]
async fn a_pod_answers_on_all_its_listeners_and_drains() {
    let (ask, tasks, running) = start().await;
    assert_eq!(ask.get("public", "/hello").await.1, "hello");
    assert_eq!(ask.get("hello", "/hello").await.1, "hello");
    assert!(
        ask.get("public", "/health")
            .await
            .1
            .contains("\"service\":\"small-pod\"")
    );
    assert!(
        ask.get("hello", "/health")
            .await
            .1
            .contains("\"service\":\"hello-service\"")
    );
    let (status, metrics) = ask.get("metrics", "/metrics").await;
    assert!(status.is_success() && metrics.contains("dreamscape_build_info") && metrics.contains("process_open_fds"));
    assert!(ask.get("metrics", "/status").await.1.contains("\"pod\":\"small\""));
    for (listener, path) in [("public", "/metrics"), ("public", "/status"), ("metrics", "/hello")] {
        assert_eq!(
            ask.get(listener, path).await.0,
            StatusCode::NOT_FOUND,
            "{listener} {path}"
        );
    }
    tasks.shutdown().drain();
    let code = tokio::time::timeout(Duration::from_secs(20), running)
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    assert_eq!(code, 0);
    assert!(tasks.running().is_empty());
}

#[tokio::test]
async fn a_task_that_fails_too_often_ends_the_process_as_a_failure() {
    let (ask, tasks, running) = start().await;
    assert_eq!(ask.get("public", "/health/live").await.0, StatusCode::OK);
    tasks.supervise("broken", |_| async { Err(anyhow::anyhow!("a bug")) });
    let code = tokio::time::timeout(Duration::from_secs(20), running)
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    assert!(code == 1 && !tasks.is_alive());
}

#[tokio::test]
async fn a_pod_that_returns_unasked_is_a_failure_and_so_is_one_that_panics() {
    let tasks = Tasks::new(Shutdown::new());
    assert_eq!(until_the_end(async { Ok(()) }, &tasks).await.unwrap(), 1);
    let tasks = Tasks::new(Shutdown::new());
    tasks.spawn("stuck", std::future::pending());
    assert!(until_the_end(async { panic!("a bug") }, &tasks).await.is_err());
    tasks.finished().await;
}

#[test]
fn the_reference_lists_the_settings_of_the_process_and_of_the_pod() {
    let reference = reference::<Small>();
    for part in [
        "| `APP_ENV` |",
        "| `LOG_LEVEL` |",
        "| `SHUTDOWN_DRAIN_SECONDS` |",
        "| `GREETING_KEY` or `GREETING_KEY_FILE` |",
        "| `SMALL_PORT` | port of the listener, 0 for any | `3998`; in production – |",
        "| `PORT` |",
        "| `HTTP_MAX_IN_FLIGHT` |",
        "`0`; in production `16` |",
    ] {
        assert!(reference.contains(part), "{part} is missing in\n{reference}");
    }
}

/// The small pod as a process of its own: this test binary, started again.
mod process {
    use std::{
        io::{BufRead as _, BufReader, Read as _},
        net::SocketAddr,
        process::{Child, Command, Stdio},
        time::Instant,
    };

    use nix::{
        sys::signal::{Signal, kill},
        unistd::Pid,
    };

    use super::*;

    const COMMAND: &str = "SMALL_POD_COMMAND";

    /// What the started process does; in an ordinary run of the tests nothing.
    #[test]
    fn body_of_the_process() {
        if let Some(command) = Reader::from_env().text_now(COMMAND) {
            std::process::exit(i32::from(run::<Small>(["small-pod".into(), command.into()], None)));
        }
    }

    fn command(command: &str, settings: &[(&str, &str)]) -> Command {
        let mut process = Command::new(std::env::current_exe().unwrap());
        process.args(["pod::tests::process::body_of_the_process", "--exact", "--nocapture"]);
        process.env_clear().env(COMMAND, command).envs(settings.iter().copied());
        process
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        process
    }

    struct Process {
        child: Child,
        public: SocketAddr,
        metrics: SocketAddr,
        lines: std::thread::JoinHandle<Vec<String>>,
    }

    fn serving() -> Process {
        let ports = [
            ("SMALL_PORT", "0"),
            ("SMALL_METRICS_PORT", "0"),
            ("HELLO_PORT", "0"),
            ("LOG_FORMAT", "json"),
        ];
        let mut child = command("serve", &ports).spawn().unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap())
            .lines()
            .map_while(Result::ok);
        let mut address = |listener: &str| -> SocketAddr {
            let named = format!("\"listener\":\"{listener}\"");
            let found = output
                .find(|line| line.contains(&named))
                .expect("the pod does not listen");
            // the harness of the tests may write before the first line
            let line: serde_json::Value = serde_json::from_str(&found[found.find('{').unwrap()..]).unwrap();
            line["address"].as_str().unwrap().parse().unwrap()
        };
        // listeners are told in the order of their names
        let (metrics, public) = (address("metrics"), address("public"));
        Process {
            child,
            public,
            metrics,
            lines: std::thread::spawn(move || output.collect()),
        }
    }

    impl Process {
        fn signal(&self, signal: Signal) {
            kill(Pid::from_raw(i32::try_from(self.child.id()).unwrap()), signal).unwrap();
        }

        fn wait(&mut self) -> i32 {
            let deadline = Instant::now() + Duration::from_secs(20);
            while Instant::now() < deadline {
                if let Some(status) = self.child.try_wait().unwrap() {
                    return status.code().expect("the process was killed");
                }
                std::thread::sleep(Duration::from_millis(10));
            }
            panic!("the process does not end");
        }

        async fn get(&self, path: &str) -> reqwest::Result<reqwest::Response> {
            reqwest::Client::new()
                .get(format!("http://{}{path}", self.public))
                .send()
                .await
        }

        fn healthcheck(&self) -> i32 {
            let port = self.public.port().to_string();
            command("healthcheck", &[("SMALL_PORT", &port)])
                .status()
                .unwrap()
                .code()
                .unwrap()
        }
    }

    impl Drop for Process {
        fn drop(&mut self) {
            self.child.kill().ok();
            self.child.wait().ok();
        }
    }

    #[tokio::test]
    async fn a_signal_ends_the_process_in_good_order() {
        let mut process = serving();
        assert_eq!(process.get("/hello").await.unwrap().text().await.unwrap(), "hello");
        assert_eq!(process.healthcheck(), 0);
        process.signal(Signal::SIGTERM);
        assert_eq!(process.wait(), 0);
        assert_eq!(process.healthcheck(), 1);
        let lines = std::mem::replace(&mut process.lines, std::thread::spawn(Vec::new))
            .join()
            .unwrap();
        let request = lines
            .iter()
            .find(|line| line.contains("\"route\":\"/hello\""))
            .expect("no line for the request");
        let line: serde_json::Value = serde_json::from_str(request).unwrap();
        assert_eq!(
            (&line["status"], &line["service"]),
            (&200.into(), &"hello-service".into())
        );
        assert!(
            line["duration_ms"].is_number() && line["request_id"].is_string() && line["span_id"].is_string(),
            "{line}"
        );
        assert!(
            lines.last().unwrap().contains("stopped"),
            "the last line is written: {lines:?}"
        );
    }

    #[tokio::test]
    async fn readiness_fails_while_a_request_is_drained_and_the_second_signal_stops_it() {
        let mut process = serving();
        let address = process.public;
        let stuck = tokio::spawn(reqwest::get(format!("http://{address}/stuck")));
        let deadline = Instant::now() + Duration::from_secs(20);
        let metrics = format!("http://{}/metrics", process.metrics);
        let busy = "service=\"hello-service\"} 1";
        while !reqwest::get(&metrics)
            .await
            .unwrap()
            .text()
            .await
            .unwrap()
            .contains(busy)
            && Instant::now() < deadline
        {}
        process.signal(Signal::SIGTERM);
        let mut ready = process.get("/ready").await.unwrap().status();
        while ready != StatusCode::SERVICE_UNAVAILABLE && Instant::now() < deadline {
            ready = process.get("/ready").await.unwrap().status();
        }
        assert_eq!(ready, StatusCode::SERVICE_UNAVAILABLE);
        process.signal(Signal::SIGTERM);
        assert_eq!(process.wait(), 0);
        assert!(stuck.await.unwrap().is_err());
    }

    #[test]
    fn all_problems_of_the_configuration_are_told_before_anything_starts() {
        let settings = [("APP_ENV", "production"), ("LOG_FORMAT", "xml"), ("PORT", "many")];
        let mut child = command("serve", &settings).spawn().unwrap();
        let mut problems = String::new();
        child.stderr.take().unwrap().read_to_string(&mut problems).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(78));
        for part in ["3 problem(s)", "CORS_ORIGIN", "LOG_FORMAT", "PORT"] {
            assert!(problems.contains(part), "{part} is missing in {problems}");
        }
    }

    #[test]
    fn the_effective_configuration_masks_secrets() {
        let output = command("config", &[("GREETING_KEY", "hunter2"), ("SMALL_PORT", "81")])
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(
            output.status.success() && text.contains("GREETING_KEY=***") && text.contains("SMALL_PORT=81"),
            "{text}"
        );
        assert!(!text.contains("hunter2"));
    }
}
