//! A gRPC channel that adds the credentials to its calls.

use std::{
    error::Error,
    future::poll_fn,
    sync::Arc,
    task::{Context, Poll},
};

use futures::future::BoxFuture;
use http_body_util::{BodyExt, Full};
use tonic::{
    Code, Status,
    body::Body,
    codegen::http::{Request, Response, StatusCode, header::AUTHORIZATION},
    transport::Channel,
};
use tower_service::Service;

use crate::credentials::{Known, Login};

type BoxError = Box<dyn Error + Send + Sync>;

/// A channel that adds the credentials to its calls. If the server rejects the credentials and the secret has changed,
/// the call is repeated with the new ones: the rejected call did nothing, and secrets are rotated while jobs run.
#[derive(Clone)]
pub(crate) struct Authorized {
    channel: Channel,
    login: Option<Arc<Login>>,
}

impl Authorized {
    pub(crate) fn new(channel: Channel, login: Option<Arc<Login>>) -> Self {
        Self { channel, login }
    }

    /// The same channel without credentials.
    pub(crate) fn anonymous(&self) -> Self {
        Self { channel: self.channel.clone(), login: None }
    }

    async fn send(mut self, mut request: Request<Body>, known: Option<&Known>) -> Result<Response<Body>, BoxError> {
        if let Some(known) = known {
            request.headers_mut().insert(AUTHORIZATION, known.header.clone());
        }
        poll_fn(|context| self.channel.poll_ready(context)).await?;
        Ok(self.channel.call(request).await?)
    }

    async fn sent(self, request: Request<Body>) -> Result<Response<Body>, BoxError> {
        let Some(login) = self.login.clone() else { return self.send(request, None).await };
        // The body is kept for a possible repetition; it is one small message.
        let (head, body) = request.into_parts();
        let body = body.collect().await?.to_bytes();
        let request = || Request::from_parts(head.clone(), Body::new(Full::new(body.clone())));
        let known = login.known();
        let answer = self.clone().send(request(), Some(&known)).await?;
        if !is_refusal(&answer) {
            return Ok(answer);
        }
        let renewed = login.renewed(&known).await.map_err(|error| Status::unavailable(error.to_string()))?;
        let Some(renewed) = renewed else { return Ok(answer) };
        let answer = self.send(request(), Some(&renewed)).await?;
        if is_refusal(&answer) {
            login.refuse();
        }
        Ok(answer)
    }
}

/// Whether the server, or a proxy in front of it, rejects the credentials. It does so before it begins to answer
/// (`internal/proxy/authentication_interceptor.go`). A missing privilege of a known user isn't such a rejection.
fn is_refusal(answer: &Response<Body>) -> bool {
    answer.status() == StatusCode::UNAUTHORIZED
        || Status::from_header_map(answer.headers()).is_some_and(|status| status.code() == Code::Unauthenticated)
}

impl Service<Request<Body>> for Authorized {
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    /// Each call waits for the channel by itself.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        Box::pin(self.clone().sent(request))
    }
}
