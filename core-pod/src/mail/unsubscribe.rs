//! The link that ends marketing mail with one click.
//!
//! contract: core §14 (unsubscribe links, RFC 8058). The token is the account's id, sealed: it needs no row, never runs
//! out, and opens nothing but this.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use shared::{
    crypto::{Cipher, CryptoError},
    id::{TypedId as _, UserId},
};

use super::letter::Token;

const CONTEXT: &str = "mail.unsubscribe";

/// Makes and reads unsubscribe tokens.
#[derive(Debug, Clone)]
pub struct Links(Cipher);

impl Links {
    /// Sealed with this cipher.
    pub fn new(cipher: Cipher) -> Self {
        Self(cipher)
    }

    /// The token of an account.
    pub fn token(&self, user: UserId) -> Result<Token, CryptoError> {
        let sealed = self.0.seal(CONTEXT, user.uuid().as_bytes())?;
        Ok(Token::new(URL_SAFE_NO_PAD.encode(sealed)))
    }

    /// Whose token this is.
    pub fn open(&self, token: &str) -> Option<UserId> {
        let sealed = URL_SAFE_NO_PAD.decode(token).ok()?;
        let plain = self.0.open(CONTEXT, &sealed).ok()?;
        uuid::Uuid::from_slice(&plain).ok().map(UserId::from_uuid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_names_its_account_and_cannot_be_made_up() {
        let links = Links::new(Cipher::development());
        let user = UserId(uuid::Uuid::from_u128(7));
        let token = links.token(user).unwrap();
        assert_eq!(links.open(token.expose()), Some(user));
        let mut changed = token.expose().to_owned();
        changed.replace_range(20..21, if changed.as_bytes()[20] == b'A' { "B" } else { "A" });
        for bad in ["", "x", "00000000-0000-0000-0000-000000000007", changed.as_str()] {
            assert_eq!(links.open(bad), None, "{bad}");
        }
    }
}
