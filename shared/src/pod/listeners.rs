//! Where a pod listens: one public listener, one for metrics, and in development one for each service.
//!
//! contract: README "Listeners", core §1.1. All ports are bound in one place, before anything else starts, and a port that
//! is taken is named by its setting.

use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
};

use tokio::net::TcpListener;

use crate::{config::Reader, http::server::ServerConfig};

/// One address and the setting it comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Address {
    /// Which listener: `public`, `metrics`, or a service.
    pub name: &'static str,
    /// The variable that sets the port.
    pub setting: &'static str,
    /// Where to listen; port 0 takes any.
    pub address: SocketAddr,
}

/// A port of a pod: the variable of its own and its value in development.
#[derive(Debug, Clone, Copy)]
pub struct Port {
    /// `GATEWAY_PORT`.
    pub setting: &'static str,
    /// 3000.
    pub development: u16,
}

/// The addresses of a pod.
#[derive(Debug, Clone)]
pub struct Addresses {
    /// All services of the pod and its gateway.
    pub public: Address,
    /// Single services, by name.
    pub services: Vec<Address>,
    /// Metrics and the overview.
    pub metrics: Address,
}

impl Addresses {
    /// Reads the addresses. In production the public listener is `PORT` (8080) and metrics `METRICS_PORT` (9090) unless the
    /// pod's own variables say otherwise, and services have a listener of their own only where their variable is set.
    pub fn read(reader: &mut Reader, public: Port, metrics: Port, services: &[(&'static str, Port)]) -> Self {
        let host = if reader.production() {
            Ipv4Addr::UNSPECIFIED
        } else {
            Ipv4Addr::LOCALHOST
        };
        let host = reader.or("BIND_ADDRESS", IpAddr::V4(host), "address that all listeners bind to");
        let public = read_port(reader, "public", host, public, ("PORT", 8080));
        let metrics = read_port(reader, "metrics", host, metrics, ("METRICS_PORT", 9090));
        let services = services
            .iter()
            .filter_map(|(name, port)| read_service(reader, name, host, *port))
            .collect();
        Self {
            public,
            services,
            metrics,
        }
    }

    /// Binds all of them, or says which setting names a port that cannot be had.
    pub async fn bind(&self, server: ServerConfig) -> anyhow::Result<Listeners> {
        let mut services = BTreeMap::new();
        for address in &self.services {
            services.insert(address.name, bind(address).await?);
        }
        Ok(Listeners {
            public: bind(&self.public).await?,
            services,
            metrics: bind(&self.metrics).await?,
            server,
        })
    }
}

fn read_port(
    reader: &mut Reader,
    name: &'static str,
    host: IpAddr,
    own: Port,
    (common, production): (&'static str, u16),
) -> Address {
    const HELP: &str = "port of the listener, 0 for any";
    let (setting, port) = if reader.production() && !reader.is_set(own.setting) {
        // noted for the reference
        reader.optional::<u16>(own.setting, HELP);
        (
            common,
            reader.or(common, production, "port of the listener in production, 0 for any"),
        )
    } else {
        (own.setting, reader.or(own.setting, own.development, HELP))
    };
    Address {
        name,
        setting,
        address: SocketAddr::new(host, port),
    }
}

fn read_service(reader: &mut Reader, name: &'static str, host: IpAddr, own: Port) -> Option<Address> {
    if reader.production() {
        let port: u16 = reader.optional(own.setting, "port of this service alone; unset in production: none")?;
        return Some(Address {
            name,
            setting: own.setting,
            address: SocketAddr::new(host, port),
        });
    }
    let port = reader.or(own.setting, own.development, "port of this service alone, 0 for any");
    Some(Address {
        name,
        setting: own.setting,
        address: SocketAddr::new(host, port),
    })
}

async fn bind(address: &Address) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address.address).await.map_err(|error| {
        let problem = match error.kind() {
            io::ErrorKind::AddrInUse => "another process listens there".to_owned(),
            io::ErrorKind::PermissionDenied => "this port needs more rights".to_owned(),
            _ => error.to_string(),
        };
        anyhow::anyhow!(
            "cannot listen on {} ({}, set by {}): {problem}",
            address.address,
            address.name,
            address.setting
        )
    })
}

/// The bound listeners of a pod.
#[derive(Debug)]
pub struct Listeners {
    /// All services of the pod and its gateway.
    pub public: TcpListener,
    /// Single services, by name.
    pub services: BTreeMap<&'static str, TcpListener>,
    /// Metrics and the overview.
    pub metrics: TcpListener,
    /// Their bounds.
    pub server: ServerConfig,
}

impl Listeners {
    /// Any free ports of the loopback interface, for tests.
    pub async fn loopback(services: &[&'static str]) -> anyhow::Result<Self> {
        let any = |name| Address {
            name,
            setting: "(a test)",
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        };
        let services = services.iter().map(|name| any(name)).collect();
        Addresses {
            public: any("public"),
            services,
            metrics: any("metrics"),
        }
        .bind(ServerConfig::default())
        .await
    }

    /// Where they listen, by name.
    pub fn bound(&self) -> BTreeMap<&'static str, SocketAddr> {
        let all = [("public", &self.public), ("metrics", &self.metrics)];
        let services = self.services.iter().map(|(name, listener)| (*name, listener));
        let addresses = all.into_iter().chain(services);
        addresses
            .filter_map(|(name, listener)| Some((name, listener.local_addr().ok()?)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PUBLIC: Port = Port {
        setting: "GATEWAY_PORT",
        development: 3000,
    };
    const METRICS: Port = Port {
        setting: "CORE_METRICS_PORT",
        development: 9090,
    };
    const AUTH: (&str, Port) = (
        "auth",
        Port {
            setting: "AUTH_PORT",
            development: 3001,
        },
    );

    fn read(pairs: &[(&str, &str)]) -> Addresses {
        let pairs = pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Addresses::read(&mut Reader::from_pairs(pairs), PUBLIC, METRICS, &[AUTH])
    }

    #[test]
    fn development_has_a_port_for_each_service_on_loopback() {
        let addresses = read(&[]);
        assert_eq!(addresses.public.address.to_string(), "127.0.0.1:3000");
        assert_eq!(addresses.services[0].address.port(), 3001);
    }

    #[test]
    fn production_has_one_public_port_for_everybody() {
        let addresses = read(&[("APP_ENV", "production")]);
        assert_eq!(addresses.public.address.to_string(), "0.0.0.0:8080");
        assert_eq!((addresses.metrics.address.port(), addresses.services.len()), (9090, 0));
        let addresses = read(&[("APP_ENV", "production"), ("GATEWAY_PORT", "3000"), ("AUTH_PORT", "1")]);
        assert_eq!(
            (addresses.public.setting, addresses.services.len()),
            ("GATEWAY_PORT", 1)
        );
    }

    #[tokio::test]
    async fn a_taken_port_is_named_by_its_setting() {
        let taken = Listeners::loopback(&[]).await.unwrap();
        let mut addresses = read(&[]);
        addresses.public.address = taken.bound()["public"];
        addresses.services.clear();
        addresses.metrics.address.set_port(0);
        let error = addresses.bind(ServerConfig::default()).await.unwrap_err().to_string();
        assert!(
            error.contains("GATEWAY_PORT") && error.contains("another process"),
            "{error}"
        );
    }
}
