//! The business pod: voyage, payment and AI in one process.

pub mod ai;
pub mod config;
pub mod fault;
mod internal;
pub mod payment;
mod services;
pub mod voyage;

use shared::{
    config::Reader,
    db::migrate::Migrations,
    lifecycle::Tasks,
    pod::{Addresses, Listeners, Pod, Port, Server},
};
use utoipa::openapi::{
    Info, OpenApi, OpenApiBuilder,
    security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme},
};

pub use config::Config;
use services::Services;

/// The pod.
#[derive(Debug, Clone, Copy)]
pub struct BusinessPod;

impl Pod for BusinessPod {
    const NAME: &'static str = "business-pod";
    const ABOUT: &'static str = "Search, carts, bookings, payments and recommendations";
    type Config = Config;

    fn read(reader: &mut Reader) -> Config {
        Config::read(reader)
    }

    fn listeners(reader: &mut Reader) -> Addresses {
        let port = |setting, development| Port { setting, development };
        let services = [
            ("voyage", port("VOYAGE_PORT", 3003)),
            ("payment", port("PAYMENT_PORT", 3004)),
            ("ai", port("AI_PORT", 3005)),
        ];
        Addresses::read(
            reader,
            port("BUSINESS_PORT", 8082),
            port("BUSINESS_METRICS_PORT", 9091),
            &services,
        )
    }

    fn migrations() -> Vec<Migrations> {
        vec![voyage::migrations(), payment::migrations(), ai::migrations()]
    }

    fn openapi() -> OpenApi {
        openapi()
    }

    async fn serve(config: Config, listeners: Listeners, tasks: Tasks) -> anyhow::Result<()> {
        #[cfg(feature = "embedded")]
        config.fault_point.clone().into_iter().for_each(fault::arm);

        let services = Services::build(&config, &tasks)?;
        services.start_work(&config, &tasks);
        let routes = services.routes(&config, &tasks);
        let server = Server::new(listeners, &tasks)
            .service("voyage", routes.voyage)
            .service("payment", routes.payment)
            .service("ai", routes.ai);
        server.run(routes.public, routes.health).await;
        services.finish().await;
        Ok(())
    }
}

/// The document of all services.
fn openapi() -> OpenApi {
    shared::openapi::recorded(written)
}

fn written() -> OpenApi {
    let mut document = OpenApiBuilder::new()
        .info(Info::new("DreamScape business pod", "1.0.0"))
        .build();
    document.merge(voyage::openapi());
    document.merge(payment::openapi());
    document.merge(ai::openapi());
    let components = document.components.get_or_insert_default();
    let bearer = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .bearer_format("JWT")
        .build();
    components.add_security_scheme("bearer", SecurityScheme::Http(bearer));
    let service = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .bearer_format("JWT")
        .description(Some("A service token of the core pod."))
        .build();
    components.add_security_scheme("service", SecurityScheme::Http(service));
    let session = ApiKey::Cookie(ApiKeyValue::new("ds_session"));
    components.add_security_scheme("session", SecurityScheme::ApiKey(session));
    document
}
