//! The layer that writes an entry for each access to personal data.
//!
//! contract: core §10. It stands around the whole user service and outside of authentication; who the caller is it learns
//! from the extractors (`CallerSlot`), so nobody is asked twice and an entry always names a proven caller. Refused requests
//! have shown nothing and are not logged.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use axum::{
    RequestPartsExt as _,
    extract::{MatchedPath, RawPathParams, Request},
    response::Response,
};
use http::{Method, StatusCode};
use shared::{
    auth::{AuthUser, Caller, CallerSlot, Role},
    id::UserId,
    sources::Sources,
};
use tower::{Layer, Service};
use uuid::Uuid;

use super::{
    Audit,
    model::{AccessorType, Entry, Target, plain},
    trail::{Notes, Trail},
};
use crate::user::origin::Origin;

/// See the module. Made by [`layer`].
#[derive(Debug, Clone)]
pub struct AuditLayer {
    audit: Audit,
    sources: Sources,
}

/// Logs accesses through the routes it is put around.
pub fn layer(audit: Audit, sources: Sources) -> AuditLayer {
    AuditLayer { audit, sources }
}

impl<S> Layer<S> for AuditLayer {
    type Service = AuditService<S>;

    fn layer(&self, inner: S) -> AuditService<S> {
        AuditService {
            layer: self.clone(),
            inner,
        }
    }
}

/// See [`AuditLayer`].
#[derive(Debug, Clone)]
pub struct AuditService<S> {
    layer: AuditLayer,
    inner: S,
}

impl<S> Service<Request> for AuditService<S>
where
    S: Service<Request, Response = Response, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let path = request.extensions().get::<MatchedPath>();
        let target = path.and_then(|path| Target::of(path.as_str(), request.method()));
        // the service that was ready is the one to call; its clone waits for its own turn
        let clone = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, clone);
        let Some(target) = target else {
            return Box::pin(inner.call(request));
        };
        let AuditLayer { audit, sources } = self.layer.clone();
        Box::pin(async move {
            let (mut parts, body) = request.into_parts();
            let (slot, id) = (CallerSlot::default(), sources.uuid_v7());
            let trail = Trail::new(id);
            let access = Access {
                id,
                target,
                method: parts.method.clone(),
                endpoint: plain(parts.uri.path()),
                ids: path_ids(parts.extract::<RawPathParams>().await.ok().as_ref()),
                origin: parts.extract::<Origin>().await.ok(),
            };
            parts.extensions.insert(slot.clone());
            parts.extensions.insert(trail.clone());
            let response = inner.call(Request::from_parts(parts, body)).await?;
            if is_access(response.status())
                && let Some(caller) = slot.caller()
            {
                audit.note(access.entry(caller, trail.notes(), &sources));
            }
            Ok(response)
        })
    }
}

/// Whether a request with this outcome has got at data. 202 is the answer for an export that is not ready.
fn is_access(status: StatusCode) -> bool {
    status.is_success() && status != StatusCode::ACCEPTED
}

/// The ids in a path.
#[derive(Debug, Default)]
struct Ids {
    /// The traveller it names.
    user: Option<String>,
    /// The last one, whatever it is.
    last: Option<String>,
}

fn path_ids(params: Option<&RawPathParams>) -> Ids {
    let mut ids = Ids::default();
    for (name, value) in params.into_iter().flatten() {
        if matches!(name, "userId" | "user_id") {
            ids.user = Some(plain(value));
        }
        ids.last = Some(plain(value));
    }
    ids
}

/// What is known before the handler is asked.
struct Access {
    id: Uuid,
    target: Target,
    method: Method,
    endpoint: String,
    ids: Ids,
    origin: Option<Origin>,
}

impl Access {
    fn entry(self, caller: &Caller, notes: Notes, sources: &Sources) -> Entry {
        let Self {
            id,
            target,
            method,
            endpoint,
            ids,
            origin,
        } = self;
        let names_a_user = matches!(target.resource, "User" | "UserProfile" | "AiPreferences");
        let named = ids.user.as_deref().or(ids.last.as_deref().filter(|_| names_a_user));
        let named: Option<UserId> = named.and_then(|text| text.parse().ok());
        let (accessor_type, accessor_id, user_id) = match caller {
            Caller::Service(service) => (AccessorType::Service, service.service.clone(), notes.subject.or(named)),
            Caller::User(user) => {
                let (kind, subject) = accessor(user, &target, notes.subject.or(named));
                (kind, user.user.to_string(), subject)
            }
        };
        let own_id = user_id.map(|user| user.to_string());
        let origin = origin.map(|origin| (origin.ip_address, origin.user_agent));
        let (ip_address, user_agent) = origin.map_or((None, None), |(address, agent)| (Some(address), agent));
        Entry {
            id,
            user_id,
            accessor_id: Some(accessor_id),
            accessor_type,
            action: target.action,
            resource: target.resource,
            // what belongs to a traveller as a whole has their id
            resource_id: notes.resource_id.or(ids.last).or(own_id),
            ip_address,
            user_agent,
            endpoint: Some(endpoint),
            method: Some(method.to_string()),
            reason: notes.reason,
            before_digest: notes.before,
            after_digest: notes.after,
            accessed_at: sources.now(),
        }
    }
}

/// Whether a caller acts for themselves or as an administrator, and on whose data.
fn accessor(caller: &AuthUser, target: &Target, about: Option<UserId>) -> (AccessorType, Option<UserId>) {
    if target.admin {
        return (AccessorType::Admin, about);
    }
    match about {
        Some(other) if other != caller.user && caller.role == Role::Admin => (AccessorType::Admin, Some(other)),
        _ => (AccessorType::User, Some(caller.user)),
    }
}
