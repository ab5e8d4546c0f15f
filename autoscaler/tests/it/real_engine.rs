//! The client against a real engine in Swarm mode, started for the test alone. Starting one needs root and takes the
//! ports of Swarm, so it is only done when DREAMSCAPE_TEST_ENGINE=1 asks for it.

use std::{
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use autoscaler::engine::{Engine, EngineError, Resources};

struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = Command::new("kill").args(["-TERM", &self.0.id().to_string()]).status();
        let _ = self.0.wait();
    }
}

fn docker(socket: &Path, arguments: &[&str]) -> Result<String, String> {
    let host = format!("unix://{}", socket.display());
    let output = Command::new("docker")
        .args(["-H", &host])
        .args(arguments)
        .output()
        .map_err(|e| e.to_string())?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
    }
}

#[tokio::test]
async fn a_real_engine_is_scaled() {
    if !std::env::vars().any(|(name, value)| name == "DREAMSCAPE_TEST_ENGINE" && value == "1") {
        println!("SKIP a real engine (DREAMSCAPE_TEST_ENGINE=1 starts one; needs root and dockerd)");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let socket = at("docker.sock");
    let log = std::fs::File::create(at("log")).unwrap();
    let started = Command::new("/usr/sbin/dockerd")
        .arg(format!("--host=unix://{}", socket.display()))
        .arg(format!("--data-root={}", at("data").display()))
        .arg(format!("--exec-root={}", at("exec").display()))
        .arg(format!("--pidfile={}", at("pid").display()))
        .args([
            "--bridge=none",
            "--iptables=false",
            "--ip6tables=false",
            "--storage-driver=vfs",
        ])
        .stdout(Stdio::null())
        .stderr(log)
        .spawn();
    let Ok(child) = started else {
        println!("SKIP a real engine (dockerd cannot be started)");
        return;
    };
    let _daemon = Daemon(child);
    let mut up = Err(String::new());
    for _ in 0..100 {
        up = docker(&socket, &["version", "--format", "{{.Server.Version}}"]);
        if up.is_ok() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    if let Err(error) = up {
        let log = std::fs::read_to_string(at("log")).unwrap_or_default();
        println!(
            "SKIP a real engine (it does not come up: {error}; {})",
            log.lines().last().unwrap_or_default()
        );
        return;
    }
    let engine = Engine::new(&socket, "shop");
    assert!(
        matches!(engine.services().await, Err(EngineError::Refused { .. })),
        "no manager yet"
    );
    docker(
        &socket,
        &[
            "swarm",
            "init",
            "--advertise-addr",
            "127.0.0.1",
            "--listen-addr",
            "127.0.0.1:23770",
        ],
    )
    .unwrap();
    for (stack, name) in [("shop", "core-pod"), ("other", "core-pod")] {
        let (name, label) = (format!("{stack}_{name}"), format!("com.docker.stack.namespace={stack}"));
        let what = [
            "--name",
            &name,
            "--label",
            &label,
            "--replicas",
            "3",
            "--reserve-cpu",
            "0.5",
            "--env",
            "A=b",
        ];
        let create = [
            &["service", "create", "--detach", "--no-resolve-image"],
            what.as_slice(),
            &["nowhere/none:1"],
        ];
        docker(&socket, &create.concat()).unwrap();
    }
    let services = engine.services().await.unwrap();
    let [service] = services.as_slice() else {
        panic!("{services:?}");
    };
    assert_eq!(
        (service.name.as_str(), service.desired, service.running),
        ("core-pod", 3, 0)
    );
    assert_eq!(service.reserves.nano_cpus, 500_000_000);
    assert!(
        engine
            .room(Resources {
                nano_cpus: 1,
                memory_bytes: 1
            })
            .await
            .unwrap()
            .is_some_and(|room| room > 0)
    );

    let spec = |form: &str| docker(&socket, &["service", "inspect", "--format", form, "shop_core-pod"]).unwrap();
    let before = spec("{{json .Spec.TaskTemplate}}");
    engine.scale(service, 3, 5).await.unwrap();
    assert_eq!(spec("{{.Spec.Mode.Replicated.Replicas}}"), "5");
    assert_eq!(spec("{{json .Spec.TaskTemplate}}"), before);
    assert!(matches!(
        engine.scale(service, 3, 4).await,
        Err(EngineError::Overtaken(_))
    ));
    engine.scale(service, 5, 4).await.unwrap();
    assert_eq!(spec("{{.Spec.Mode.Replicated.Replicas}}"), "4");

    // many at once run into each other's versions and still end with one of the numbers
    let rush = (0..4).map(|_| engine.scale(service, 4, 6));
    let mut won = 0;
    for outcome in futures_util::future::join_all(rush).await {
        match outcome {
            Ok(()) => won += 1,
            Err(EngineError::Overtaken(_)) => {}
            Err(error) => panic!("{error}"),
        }
    }
    assert!(won >= 1);
    assert_eq!(spec("{{.Spec.Mode.Replicated.Replicas}}"), "6");

    let secret = Command::new("sh")
        .arg("-c")
        .arg(format!(
            "printf x | docker -H unix://{} secret create dreamscape_db_password_v2 -",
            socket.display()
        ))
        .output()
        .unwrap();
    assert!(secret.status.success());
    let secrets = engine.secrets().await.unwrap();
    assert!(secrets["db_password"] > 1_700_000_000, "{secrets:?}");
    println!("ran against a real engine");
}
