//! Whose request it is, as far as addresses go.
//!
//! contract: core §1.7. `X-Forwarded-For` counts only when the peer is a trusted proxy; then the right-most hop that is
//! not a trusted proxy is the client. From anyone else the header means nothing.

use std::{fmt, net::IpAddr, str::FromStr};

use axum::extract::FromRequestParts;
use http::{HeaderMap, request::Parts};
use ipnet::IpNet;

use crate::error::ApiError;

/// The address of the other end of the connection, put into the request by the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerAddress(pub IpAddr);

/// The address of the client. An extractor; the kit provides it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ClientAddress(pub IpAddr);

impl ClientAddress {
    /// The subject of limits: the address itself, for IPv6 its /64 network, since one customer has at least that.
    pub fn limit_subject(&self) -> String {
        match self.0 {
            IpAddr::V4(address) => address.to_string(),
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments();
                format!("{a:x}:{b:x}:{c:x}:{d:x}::/64")
            }
        }
    }
}

impl fmt::Display for ClientAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for ClientAddress {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, ApiError> {
        let known = parts.extensions.get::<Self>().copied();
        known.ok_or_else(|| ApiError::internal(anyhow::anyhow!("the router is not wrapped in the kit")))
    }
}

/// The proxies whose forwarding headers are believed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrustedProxies(Vec<IpNet>);

impl TrustedProxies {
    /// Whether this address belongs to a trusted proxy.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(&address))
    }

    /// The client behind `peer`.
    pub fn client(&self, peer: IpAddr, headers: &HeaderMap) -> ClientAddress {
        let peer = peer.to_canonical();
        if self.0.is_empty() || !self.contains(peer) {
            return ClientAddress(peer);
        }
        let mut client = peer;
        let values = headers.get_all("x-forwarded-for").iter().rev();
        let hops = values.flat_map(|value| value.to_str().unwrap_or_default().rsplit(','));
        for hop in hops {
            // behind a hop that cannot be read nothing can be believed
            let Some(address) = parse_hop(hop) else { break };
            client = address;
            if !self.contains(address) {
                break;
            }
        }
        ClientAddress(client)
    }

    /// Whether the client speaks TLS with the proxy in front of us.
    pub fn client_uses_tls(&self, peer: IpAddr, headers: &HeaderMap) -> bool {
        let Some(proto) = headers.get("x-forwarded-proto") else {
            return false;
        };
        proto.as_bytes().eq_ignore_ascii_case(b"https") && self.contains(peer.to_canonical())
    }
}

/// `203.0.113.7`, `203.0.113.7:1234`, `2001:db8::1`, `[2001:db8::1]:1234`.
fn parse_hop(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let address = text.parse::<IpAddr>().ok();
    let address = address.or_else(|| text.parse::<std::net::SocketAddr>().ok().map(|socket| socket.ip()));
    let bracketed = || text.strip_prefix('[')?.strip_suffix(']')?.parse().ok();
    address.or_else(bracketed).map(|address: IpAddr| address.to_canonical())
}

/// A comma list of networks or addresses: `10.0.0.0/8, 192.0.2.1`.
impl FromStr for TrustedProxies {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
        let networks = items.map(|item| {
            let address = item.parse::<IpAddr>().map(IpNet::from);
            item.parse::<IpNet>()
                .or(address)
                .map_err(|_| format!("`{item}` is neither a network nor an address"))
        });
        networks.collect::<Result<_, _>>().map(Self)
    }
}

impl fmt::Display for TrustedProxies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let texts: Vec<_> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&texts.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(proxies: &str, peer: &str, forwarded: &[&str]) -> String {
        let mut headers = HeaderMap::new();
        for value in forwarded {
            headers.append("x-forwarded-for", value.parse().unwrap());
        }
        proxies
            .parse::<TrustedProxies>()
            .unwrap()
            .client(peer.parse().unwrap(), &headers)
            .to_string()
    }

    #[test]
    fn a_stranger_cannot_choose_its_address() {
        assert_eq!(client("10.0.0.0/8", "198.51.100.1", &["203.0.113.7"]), "198.51.100.1");
        assert_eq!(client("", "10.1.1.1", &["203.0.113.7"]), "10.1.1.1");
    }

    #[test]
    fn the_right_most_untrusted_hop_is_the_client() {
        assert_eq!(
            client("10.0.0.0/8", "10.1.1.1", &["1.1.1.1, 203.0.113.7, 10.2.2.2"]),
            "203.0.113.7"
        );
        assert_eq!(
            client("10.0.0.0/8", "10.1.1.1", &["1.1.1.1", "203.0.113.7:443", "10.2.2.2"]),
            "203.0.113.7"
        );
        assert_eq!(
            client("10.0.0.0/8", "::ffff:10.1.1.1", &["[2001:db8::1]:9"]),
            "2001:db8::1"
        );
    }

    #[test]
    fn garbage_stops_the_search_at_the_last_believable_hop() {
        assert_eq!(
            client("10.0.0.0/8", "10.1.1.1", &["203.0.113.7, unknown, 10.2.2.2"]),
            "10.2.2.2"
        );
        assert_eq!(client("10.0.0.0/8", "10.1.1.1", &[]), "10.1.1.1");
    }

    #[test]
    fn limits_of_ipv6_count_by_network() {
        let address = ClientAddress("2001:db8:1:2:3:4:5:6".parse().unwrap());
        assert_eq!(address.limit_subject(), "2001:db8:1:2::/64");
    }

    #[test]
    fn a_bad_network_is_named() {
        assert!(
            "10.0.0.0/8,nonsense"
                .parse::<TrustedProxies>()
                .unwrap_err()
                .contains("nonsense")
        );
    }
}
