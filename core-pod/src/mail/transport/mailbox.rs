//! The mailbox of development: mail stays in the process, to be read at a local address and by tests.
//!
//! Absent from production builds, like everything that is embedded.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;

use super::{Outgoing, SendError, Transport};

/// The oldest go beyond this number.
const KEPT: usize = 500;

/// All mail of this process, newest first. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Mailbox {
    mails: Arc<Mutex<VecDeque<Outgoing>>>,
}

impl Mailbox {
    /// All mail, newest first.
    pub fn mails(&self) -> Vec<Outgoing> {
        self.lock().iter().cloned().collect()
    }

    /// The mail with this id, without the brackets and the domain of the Message-ID.
    pub fn find(&self, id: &str) -> Option<Outgoing> {
        let start = format!("<{id}@");
        self.lock()
            .iter()
            .find(|mail| mail.message_id.starts_with(&start))
            .cloned()
    }

    /// Throws everything away.
    pub fn clear(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<Outgoing>> {
        self.mails.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Transport for Mailbox {
    fn name(&self) -> &'static str {
        "mailbox"
    }

    async fn send(&self, mail: &Outgoing) -> Result<(), SendError> {
        let mut mails = self.lock();
        // a repetition of the same mail, as a real mail program would recognise it
        mails.retain(|held| held.message_id != mail.message_id);
        mails.push_front(mail.clone());
        mails.truncate(KEPT);
        Ok(())
    }
}
