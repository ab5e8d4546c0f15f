//! Demo accounts of development, so that a fresh checkout can be signed in to at once.
//!
//! Called by the pod only when it is not in production and its database is a development one; there is no setting that
//! turns it on elsewhere.

use shared::{auth::Role, config::Environment};

use super::{
    AuthState,
    model::Email,
    store::{self, NewAccount},
};

/// An account that `make run` prints.
#[derive(Debug, Clone, Copy)]
pub struct DemoAccount {
    /// The address to sign in with.
    pub email: &'static str,
    /// The password to sign in with.
    pub password: &'static str,
    /// The name of the traveller.
    pub name: (&'static str, &'static str),
    /// What it may do.
    pub role: Role,
}

/// The demo accounts.
pub const DEMO_ACCOUNTS: [DemoAccount; 3] = [
    DemoAccount {
        email: "ada@dreamscape.dev",
        password: "Dreamscape1!",
        name: ("Ada", "Lovelace"),
        role: Role::User,
    },
    DemoAccount {
        email: "ibn@dreamscape.dev",
        password: "Dreamscape1!",
        name: ("Ibn", "Battuta"),
        role: Role::User,
    },
    DemoAccount {
        email: "admin@dreamscape.dev",
        password: "Dreamscape1!",
        name: ("Grace", "Hopper"),
        role: Role::Admin,
    },
];

/// Makes the demo accounts that are missing. Refuses production.
pub async fn seed_demo_accounts(environment: Environment, state: &AuthState) -> anyhow::Result<()> {
    let AuthState {
        db, hasher, sources, ..
    } = state;
    anyhow::ensure!(
        environment == Environment::Development,
        "demo accounts exist in development only"
    );
    for demo in DEMO_ACCOUNTS {
        let email = Email::parse(demo.email).ok_or_else(|| anyhow::anyhow!("a demo address is not an address"))?;
        if store::find_password(db.pool(), email.as_str()).await?.is_some() {
            continue;
        }
        let password_hash = hasher.hash(demo.password, sources).await?;
        let mut conn = db.acquire().await?;
        let new = NewAccount {
            id: sources.id(),
            email: email.as_str(),
            email_display: email.as_typed(),
            username: None,
            password_hash: &password_hash,
            first_name: Some(demo.name.0),
            last_name: Some(demo.name.1),
            role: demo.role,
            now: sources.now(),
        };
        match store::insert_account(&mut conn, &new).await {
            Ok(()) => {}
            // another replica was faster
            Err(error) if shared::db::violated_constraint(&error) == Some("users_email_key") => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
