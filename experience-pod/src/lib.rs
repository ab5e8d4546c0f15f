//! The experience pod: the one origin a browser talks to. Everything under `/api`, `/socket.io` and `/uploads` is streamed
//! to the pod that has it (experience (c), D1, D2).

mod config;
mod origin;

pub use config::Config;
use shared::{
    config::Reader,
    db::migrate::Migrations,
    gateway::Gateway,
    health::{self, Health},
    http::{Kit, limit},
    lifecycle::Tasks,
    pod::{Addresses, Listeners, Pod, Port, Server},
    redis::Redis,
    sources::Sources,
};
use std::sync::Arc;

/// The pod.
#[derive(Debug, Clone, Copy)]
pub struct ExperiencePod;

impl Pod for ExperiencePod {
    const NAME: &'static str = "experience-pod";
    const ABOUT: &'static str = "The one origin a browser talks to: the gateway over all services";
    type Config = Config;

    fn read(reader: &mut Reader) -> Config {
        Config::read(reader)
    }

    fn listeners(reader: &mut Reader) -> Addresses {
        let public = Port {
            setting: "WEB_PORT",
            development: 8080,
        };
        let metrics = Port {
            setting: "EXPERIENCE_METRICS_PORT",
            development: 9092,
        };
        Addresses::read(reader, public, metrics, &[])
    }

    fn migrations() -> Vec<Migrations> {
        Vec::new()
    }

    fn openapi() -> utoipa::openapi::OpenApi {
        origin::openapi()
    }

    async fn serve(config: Config, listeners: Listeners, tasks: Tasks) -> anyhow::Result<()> {
        let redis = Redis::connect(&config.redis)?;
        let limiter = limit::RateLimiter::new(redis, config.limits);
        let (verifier, jwks) = config.keys.verifier(&reqwest::Client::new(), Sources::system());
        let shutdown = tasks.shutdown().clone();
        tasks.spawn("jwks", async move {
            tokio::select! {
                () = jwks.keep_fresh() => {}
                () = shutdown.served() => {}
            }
        });
        let proxies = config.http.trusted_proxies.clone();
        let gateway = Gateway::checking(config.gateway, proxies, verifier, tasks.clone());
        gateway.start_probes();

        let gateway_health = gateway.health().in_process(Self::NAME, config.environment, &tasks);
        let health = Health::of_pod(Self::NAME, "Experience Pod", vec![gateway_health]).in_process(
            Self::NAME,
            config.environment,
            &tasks,
        );
        let admission =
            limit::ListenerLimit::new(limiter, config.gateway_rule, limit::Subject::Address).with_legacy_headers();
        let kit = Kit::new("gateway", &config.http, Some(Arc::new(admission)));
        let local = kit.routes(origin::router().merge(health::routes(health.clone())));
        let remote = kit.clone().proxying().routes(gateway.router());
        let public = kit.front_of_gateway(local, remote);

        Server::new(listeners, &tasks).run(public, health).await;
        Ok(())
    }
}
