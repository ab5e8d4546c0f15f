//! Sessions as the pods that do not own them see them: `verify-token` of auth, asked with a service token.
//!
//! contract: core §2.3, §4.7

use std::{sync::Arc, time::Duration};

use anyhow::anyhow;
use async_trait::async_trait;
use http::StatusCode;
use serde::{Deserialize, Serialize};

use super::{
    Role,
    service::ServiceTokens,
    session::{CookieSecret, SessionSource, SessionState, SessionView, Unchecked},
};
use crate::id::{SessionId, UserId};

const TIMEOUT: Duration = Duration::from_secs(2);

/// What a service sends to `verify-token`: one of the two.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Question {
    /// The value of a `ds_session` cookie.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// A session id out of a verified access token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sid: Option<SessionId>,
}

#[derive(Deserialize)]
struct Answer {
    data: AnswerData,
}

#[derive(Deserialize)]
struct AnswerData {
    user: AnswerUser,
    session: AnswerSession,
}

#[derive(Deserialize)]
struct AnswerUser {
    id: UserId,
    role: Role,
}

#[derive(Deserialize)]
struct AnswerSession {
    id: SessionId,
}

#[derive(Deserialize)]
struct Refusal {
    code: String,
}

/// Asks the core pod. Cheap to clone.
#[derive(Debug, Clone)]
pub struct RemoteSessions {
    http: reqwest::Client,
    url: Arc<str>,
    tokens: ServiceTokens,
}

impl RemoteSessions {
    /// Sessions of the auth service at `auth_url`.
    pub fn new(http: reqwest::Client, auth_url: &str, tokens: ServiceTokens) -> Self {
        Self {
            http,
            url: format!("{}/api/v1/auth/verify-token", auth_url.trim_end_matches('/')).into(),
            tokens,
        }
    }

    async fn ask(&self, question: &Question) -> Result<SessionState, Unchecked> {
        let token = self.tokens.token().await.map_err(Unchecked::because)?;
        let request = self
            .http
            .post(&*self.url)
            .timeout(TIMEOUT)
            .bearer_auth(token)
            .json(question);
        let response = request.send().await.map_err(Unchecked::because)?;
        match response.status() {
            StatusCode::OK => {
                let Answer { data } = response.json().await.map_err(Unchecked::because)?;
                let AnswerData {
                    user: AnswerUser { id: user, role },
                    session: AnswerSession { id: session },
                } = data;
                Ok(SessionState::Live(SessionView { session, user, role }))
            }
            StatusCode::UNAUTHORIZED => {
                let Refusal { code } = response.json().await.map_err(Unchecked::because)?;
                match code.as_str() {
                    "TOKEN_REVOKED" => Ok(SessionState::Revoked),
                    "ACCOUNT_SUSPENDED" => Ok(SessionState::Suspended),
                    "USER_INACTIVE" => Ok(SessionState::Gone),
                    _ => {
                        // our own token is refused, which says nothing about the traveller's session
                        self.tokens.discard().await;
                        Err(Unchecked::because(anyhow!("the core pod refused our service token")))
                    }
                }
            }
            status => Err(Unchecked::because(anyhow!("the core pod answered {status}"))),
        }
    }
}

#[async_trait]
impl SessionSource for RemoteSessions {
    async fn by_id(&self, session: SessionId) -> Result<SessionState, Unchecked> {
        self.ask(&Question {
            sid: Some(session),
            ..Question::default()
        })
        .await
    }

    async fn by_cookie(&self, cookie: &CookieSecret) -> Result<SessionState, Unchecked> {
        self.ask(&Question {
            session: Some(cookie.expose().to_owned()),
            ..Question::default()
        })
        .await
    }
}
