//! Slow servers for S3 and Lambda, as slow as the real ones when much has to be copied.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::{Method, StatusCode},
    response::{IntoResponse, Response},
};
use futures::{StreamExt, future::pending, stream};
use tokio::{net::TcpListener, time::sleep};

/// Longer than the limit of any small request.
pub(super) const LONG: Duration = Duration::from_secs(25);
/// The pause between two characters that keep a connection open. It is longer than the SDK allows for a stream that
/// isn't stalled.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
const DECLARATION: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n";

/// The results of requests by the first part of their path (a bucket or a function), which also decides how slow the
/// answer is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Asked {
    /// The number of requests.
    pub(super) times: usize,
    /// The number of requests whose client didn't wait for the answer, so that they had no effect.
    pub(super) given_up: usize,
}

#[derive(Clone, Default)]
pub(super) struct Slow(Arc<Mutex<BTreeMap<String, Asked>>>);

impl Slow {
    /// Starts a server and returns its address.
    pub(super) async fn start() -> (Self, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let slow = Self::default();
        let router = Router::new().fallback(answer).with_state(slow.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        (slow, address)
    }

    pub(super) fn asked(&self, what: &str) -> Asked {
        self.lock().get(what).copied().unwrap_or_default()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Asked>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self, what: &str) -> Waiting {
        self.lock().entry(what.to_owned()).or_default().times += 1;
        Waiting { slow: self.clone(), what: Some(what.to_owned()) }
    }
}

/// A waiting client. If this is dropped before the answer, the client has given up.
struct Waiting {
    slow: Slow,
    what: Option<String>,
}

impl Waiting {
    fn is_answered(&mut self) {
        self.what = None;
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some(what) = self.what.take() {
            self.slow.lock().entry(what).or_default().given_up += 1;
        }
    }
}

async fn answer(State(slow): State<Slow>, request: Request) -> Response {
    let (path, query) = (request.uri().path(), request.uri().query().unwrap_or_default());
    let what = match path.strip_prefix("/2015-03-31/functions/") {
        Some(function) => function,
        None => path.trim_start_matches('/'),
    };
    let what = what.split('/').next().unwrap_or_default();
    let mut waiting = slow.begin(what);
    let copied = |kind: &str| format!("<{kind}><ETag>\"copied\"</ETag></{kind}>");
    let is_part = query.contains("partNumber=");
    let completes = *request.method() == Method::POST && query.contains("uploadId=");
    match what {
        "worker" => {
            sleep(LONG).await;
            waiting.is_answered();
            let report =
                r#"{"end":"whole","copied":{"objects":7,"bytes":70,"addedBytes":70},"gone":[],"failedAt":null}"#;
            report.into_response()
        }
        "silent" if *request.method() == Method::PUT => {
            sleep(LONG).await;
            waiting.is_answered();
            copied("CopyObjectResult").into_response()
        }
        "kept-alive" if *request.method() == Method::PUT => kept_alive(waiting, LONG, copied("CopyObjectResult")),
        "refuses-late" => {
            let refusal = "<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>";
            kept_alive(waiting, LONG, refusal.to_owned())
        }
        "slow-parts" if is_part => kept_alive(waiting, LONG, copied("CopyPartResult")),
        "slow-end" if completes => kept_alive(waiting, LONG, copied("CompleteMultipartUploadResult")),
        "slow-parts" | "slow-end" => {
            waiting.is_answered();
            match (request.method(), is_part) {
                (&Method::HEAD, _) => StatusCode::NOT_FOUND.into_response(),
                (_, true) => copied("CopyPartResult").into_response(),
                (&Method::POST, _) if completes => copied("CompleteMultipartUploadResult").into_response(),
                _ => "<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>"
                    .into_response(),
            }
        }
        // It never answers, on a connection that stays open.
        _ => pending().await,
    }
}

/// An answer of 200 that sends white space for a while and then a body with the result.
fn kept_alive(waiting: Waiting, time: Duration, body: String) -> Response {
    let rest = stream::unfold(Some((waiting, time)), move |state| {
        let body = body.clone();
        async move {
            let (mut waiting, left) = state?;
            if left.is_zero() {
                waiting.is_answered();
                return Some((body, None));
            }
            let pause = left.min(KEEP_ALIVE);
            sleep(pause).await;
            Some((" ".to_owned(), Some((waiting, left - pause))))
        }
    });
    let text = stream::once(async { DECLARATION.to_owned() }).chain(rest);
    Response::new(Body::from_stream(text.map(Ok::<_, Infallible>)))
}
