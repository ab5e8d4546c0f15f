//! Routes and their documents from one declaration, without the cost of the documents where nobody reads them.
//!
//! `utoipa_axum::routes!` writes the document of a handler (its parameters, bodies and their schemas) whenever a router is put together,
//! also when the router only serves: two to three megabytes of code and their data that a pod would hold for nothing. [`routes!`]
//! does so inside [`recorded`] only.

use std::cell::Cell;

use utoipa::openapi::OpenApi;

thread_local! {
    static RECORDING: Cell<bool> = const { Cell::new(false) };
}

/// The document that `write` makes of routers, with all that the handlers say of themselves.
pub fn recorded(write: impl FnOnce() -> OpenApi) -> OpenApi {
    let before = RECORDING.replace(true);
    let document = write();
    RECORDING.set(before);
    document
}

/// Whether somebody reads the document of the router that is being put together on this thread.
pub fn is_recording() -> bool {
    RECORDING.get()
}

/// `utoipa_axum::routes!`, but the handlers are described only where the document is [`recorded`]. All handlers of one call share a path.
#[macro_export]
macro_rules! routes {
    ($($handler:path),+ $(,)?) => {
        if $crate::openapi::is_recording() {
            ::utoipa_axum::routes!($($handler),+)
        } else {
            let mut paths = ::utoipa::openapi::path::Paths::new();
            let router = ::axum::routing::MethodRouter::new();
            $(
                let (path, methods) = ::utoipa_axum::paste! {
                    (
                        ::utoipa_axum::routes!(@path [path()] of $handler),
                        ::utoipa_axum::routes!(@path [methods()] of $handler),
                    )
                };
                let router = methods.iter().fold(router, |router, method| {
                    router.on(::utoipa_axum::PathItemExt::to_method_filter(method), $handler)
                });
                paths.add_path_operation(&path, methods, ::utoipa::openapi::path::Operation::default());
            )+
            (::std::vec::Vec::new(), paths, router)
        }
    };
}

#[cfg(test)]
mod tests {
    use utoipa_axum::router::OpenApiRouter;

    use super::*;

    /// Reads.
    #[utoipa::path(get, path = "/things", responses((status = 200, description = "Read", body = String)))]
    async fn read() -> &'static str {
        "read"
    }

    /// Writes.
    #[utoipa::path(post, path = "/things", responses((status = 200, description = "Written")))]
    async fn write() -> &'static str {
        "written"
    }

    fn documented() -> OpenApiRouter {
        OpenApiRouter::new().routes(routes!(read, write))
    }

    #[test]
    fn a_handler_is_described_where_somebody_reads_it() {
        let document = recorded(|| documented().into_openapi());
        let item = document.paths.paths.get("/things").unwrap();
        assert_eq!(item.get.as_ref().unwrap().summary.as_deref(), Some("Reads."));
        assert_eq!(item.post.as_ref().unwrap().summary.as_deref(), Some("Writes."));
        assert!(!is_recording());
    }

    #[tokio::test]
    async fn a_router_that_only_serves_has_the_same_routes() {
        use tower::ServiceExt as _;
        let (router, document) = documented().split_for_parts();
        assert!(document.paths.paths["/things"].get.as_ref().unwrap().summary.is_none());
        for (method, expected) in [("GET", 200), ("POST", 200), ("PUT", 405)] {
            let request = http::Request::builder().method(method).uri("/things");
            let request = request.body(axum::body::Body::empty()).unwrap();
            assert_eq!(
                router.clone().oneshot(request).await.unwrap().status(),
                expected,
                "{method}"
            );
        }
    }
}
