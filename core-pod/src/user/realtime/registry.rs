//! The open sockets of this process and to whom they belong.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use shared::id::UserId;
use socketioxide::socket::Sid;

use super::identity::Identity;

/// The register. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Registry(Arc<Mutex<Open>>);

#[derive(Debug, Default)]
struct Open {
    sockets: HashMap<Sid, Identity>,
    /// Oldest first.
    of_user: HashMap<UserId, Vec<Sid>>,
}

impl Registry {
    /// Enters a socket and names those of the same account that are too many, oldest first.
    pub fn enter(&self, socket: Sid, identity: Identity, per_user: usize) -> Vec<Sid> {
        let mut open = self.lock();
        open.sockets.insert(socket, identity);
        let own = open.of_user.entry(identity.user).or_default();
        own.retain(|other| *other != socket);
        own.push(socket);
        let excess = own.len().saturating_sub(per_user);
        let evicted = own.iter().take(excess).copied().collect();
        record(open.sockets.len());
        evicted
    }

    /// Strikes a socket out. Gives whose it was, if it was there.
    pub fn leave(&self, socket: Sid) -> Option<UserId> {
        let mut open = self.lock();
        let identity = open.sockets.remove(&socket)?;
        if let Some(own) = open.of_user.get_mut(&identity.user) {
            own.retain(|other| *other != socket);
            if own.is_empty() {
                open.of_user.remove(&identity.user);
            }
        }
        record(open.sockets.len());
        Some(identity.user)
    }

    /// All of them.
    pub fn all(&self) -> Vec<(Sid, Identity)> {
        self.lock()
            .sockets
            .iter()
            .map(|(socket, identity)| (*socket, *identity))
            .collect()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.lock().sockets.len()
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn record(open: usize) {
    #[expect(clippy::cast_precision_loss, reason = "nobody has 2^52 sockets")]
    metrics::gauge!("dreamscape_sockets_open").set(open as f64);
}

#[cfg(test)]
mod tests {
    use shared::id::SessionId;
    use uuid::Uuid;

    use super::*;

    fn identity(user: u128) -> Identity {
        Identity {
            user: UserId(Uuid::from_u128(user)),
            session: SessionId(Uuid::from_u128(7)),
            expires_at: None,
            cookie: None,
        }
    }

    #[test]
    fn the_oldest_of_an_account_make_room() {
        let registry = Registry::default();
        let sockets: Vec<Sid> = (0..4).map(|_| Sid::new()).collect();
        assert!(registry.enter(sockets[0], identity(1), 2).is_empty());
        assert!(registry.enter(sockets[1], identity(2), 2).is_empty());
        assert!(registry.enter(sockets[2], identity(1), 2).is_empty());
        assert_eq!(registry.enter(sockets[3], identity(1), 2), [sockets[0]]);
        assert_eq!(registry.leave(sockets[0]), Some(identity(1).user));
        assert_eq!(registry.leave(sockets[0]), None);
        assert_eq!(registry.len(), 3);
        assert!(registry.enter(sockets[3], identity(1), 2).is_empty(), "entered twice");
    }
}
