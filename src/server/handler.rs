//! From a request to its answer: who, may they, what.

use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use rustls_pki_types::UnixTime;

use super::authn::{self, Authenticator};
use super::authz::{self, Authorizer};
use super::client_cert::{ClientCert, Shown};
use super::health::Checks;
use super::query::{self, Query};
use super::response::{self, Body};
use super::routes::{self, NoRoute, Route};
use super::upgrade::Relay;
use super::{Parts, ServerSettings, logs, node_logs, pods, streams};
use crate::sys::blocking::Blocking;

/// The other end of a connection.
#[derive(Clone)]
pub struct Client {
    /// Where it is.
    pub address: IpAddr,
    /// The certificate that it has shown.
    pub certificate: Option<Arc<ClientCert>>,
    /// Where a request that upgrades the connection leaves what is to happen next.
    pub relay: Arc<Mutex<Option<Relay>>>,
}

/// Answers requests of the main listener.
pub struct Handler {
    /// The rest of the agent.
    pub parts: Parts,
    /// Settings.
    pub settings: ServerSettings,
    authenticator: Authenticator,
    authorizer: Authorizer,
    checks: Checks,
    /// For files of the host.
    blocking: Blocking,
}

impl Handler {
    /// A handler with empty caches.
    pub fn new(settings: ServerSettings, parts: Parts) -> Self {
        Self {
            authenticator: Authenticator::new(parts.api.clone(), settings.authentication.clone()),
            authorizer: Authorizer::new(parts.api.clone(), settings.authorization.clone(), settings.node_name.clone()),
            checks: Checks::all(parts.sync_loop.clone()),
            blocking: Blocking::default(),
            parts,
            settings,
        }
    }

    /// Answers one request. Nothing is looked at before it is known who asks and that they may.
    pub async fn answer(&self, request: Request<Incoming>, client: &Client) -> Response<Body> {
        let Some(path) = query::path(request.uri().path()) else {
            return response::text(StatusCode::BAD_REQUEST, "the path is broken\n");
        };
        if let Err(refusal) = self.admit(&request, &path, client).await {
            return refusal;
        }
        let Some(query) = Query::parse(request.uri().query()) else {
            return response::text(StatusCode::BAD_REQUEST, "the query is broken\n");
        };
        match routes::find(request.method(), &path, self.settings.debugging_handlers) {
            Ok(route) => self.route(route, &query, request, client).await,
            Err(NoRoute::NotFound) => response::text(StatusCode::NOT_FOUND, "404 page not found\n"),
            Err(NoRoute::Method) => response::text(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed\n"),
            Err(NoRoute::DebuggingDisabled) => response::text(StatusCode::METHOD_NOT_ALLOWED, "Debug endpoints are disabled.\n"),
        }
    }

    async fn admit(&self, request: &Request<Incoming>, path: &str, client: &Client) -> Result<(), Response<Body>> {
        let shown = client.certificate.as_ref().map_or(Shown::Nothing, |certificate| certificate.at(UnixTime::now()));
        if let Shown::Bad(error) = &shown {
            tracing::debug!(address = %client.address, error, "a client certificate doesn't count");
        }
        let known = self.authenticator.authenticate(shown, request.headers()).await;
        // Also when the API server could not be asked: upstream knows no other answer, and callers come back after this one.
        let user = known.map_err(|error: authn::Error| response::text(StatusCode::UNAUTHORIZED, error.to_string()))?;
        self.authorizer.authorize(&user, request.method(), path).await.map_err(|error| {
            let status = match error {
                authz::Error::Forbidden { .. } => StatusCode::FORBIDDEN,
                authz::Error::Unavailable { .. } => StatusCode::INTERNAL_SERVER_ERROR,
            };
            response::text(status, format!("{error}\n"))
        })
    }

    async fn route(&self, route: Route, query: &Query, request: Request<Incoming>, client: &Client) -> Response<Body> {
        match route {
            Route::Health(check) => self.checks.answer(check.as_deref(), query),
            Route::Pods => pods::all(self.parts.pods.as_ref()),
            Route::RunningPods => pods::running(self.parts.runtime.as_ref()).await,
            Route::NodeLogs { path, slash } => match &self.settings.system_logs {
                Some(root) => node_logs::answer(&self.blocking, root, &path, slash).await,
                None => response::text(StatusCode::METHOD_NOT_ALLOWED, "logs endpoint is disabled.\n"),
            },
            Route::Configz => response::json((self.parts.configz)().to_string()),
            Route::Logs(path) => logs::answer(&self.parts, &path, query).await,
            Route::Exec(path) => streams::exec(self, &path, query, request, client).await,
            Route::Attach(path) => streams::attach(self, &path, query, request, client).await,
            Route::PortForward(path) => streams::port_forward(self, &path, query, request, client).await,
        }
    }
}
