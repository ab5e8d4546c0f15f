//! The supplier that is always there: an invented network over real airports, the same on every node (voyage §6.5).

use super::provider::Provider;

/// The offline provider.
#[derive(Debug, Clone)]
pub struct Offline {
    drift: bool,
}

impl Offline {
    /// The name in the configuration and in `source`.
    pub const NAME: &'static str = "offline";

    /// With or without hourly price movements.
    pub const fn new(drift: bool) -> Self {
        Self { drift }
    }
}

impl Provider for Offline {
    fn name(&self) -> &'static str {
        Self::NAME
    }
}
