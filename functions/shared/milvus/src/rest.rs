//! The server's HTTP interfaces: the REST API on its gRPC port, and the management endpoint.

use std::{sync::Arc, time::Duration};

use milvault_ports::{GarbageHold, InsertLog, MilvusError, SegmentFiles};
use reqwest::{Client, RequestBuilder, Response, StatusCode, Url, redirect::Policy};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::sync::OnceCell;

use crate::{
    credentials::{Credentials, Known, Login},
    errors::{SEGMENT_NOT_FOUND, by_code},
    resolver::Resolver,
    timeouts::{CALL_TIMEOUT, CONNECT_TIMEOUT},
};

/// The number of segments in one call. A segment of a wide schema has hundreds of logs.
const SEGMENTS_PER_CALL: usize = 100;

/// The maximum size of an answer in bytes; no real server sends more. The files of [`SEGMENTS_PER_CALL`] segments take
/// a few megabytes.
const LARGEST_ANSWER: usize = 64 << 20;

pub(crate) struct Rest {
    /// Made on its first use, because reading the trusted certificates takes a while.
    client: OnceCell<Client>,
    endpoint: String,
    management: Option<Management>,
    login: Option<Arc<Login>>,
    resolver: Resolver,
}

/// The management endpoint.
struct Management {
    base: String,
    /// The credentials that may be sent to it; they belong to the gRPC endpoint.
    login: Option<Arc<Login>>,
}

impl Rest {
    /// Makes the client. `endpoint` is the gRPC endpoint, whose port also serves REST (milvus-backup: `restfulBaseURL`
    /// in `internal/client/milvus/restful.go`).
    pub(crate) fn new(endpoint: &str, management: Option<&str>, login: Option<Arc<Login>>, resolver: Resolver) -> Self {
        let base = |url: &str| url.trim_end_matches('/').to_owned();
        let management = management
            .map(|url| Management { base: base(url), login: login.clone().filter(|_| is_as_safe(url, endpoint)) });
        Self { client: OnceCell::new(), endpoint: base(endpoint), management, login, resolver }
    }

    async fn client(&self) -> Result<&Client, MilvusError> {
        self.client
            .get_or_try_init(async || {
                // A redirect would bypass the resolver, because an address needs no resolving.
                let builder = Client::builder().timeout(CALL_TIMEOUT).connect_timeout(CONNECT_TIMEOUT).no_proxy();
                let builder = builder.redirect(Policy::none()).dns_resolver(Arc::new(self.resolver.clone()));
                builder.build().map_err(|error| MilvusError::Refused(format!("no HTTP client: {error}")))
            })
            .await
    }

    /// See [`Milvus::segment_files`](milvault_ports::Milvus::segment_files).
    pub(crate) async fn segment_files(
        &self,
        database: &str,
        collection: i64,
        segments: &[i64],
    ) -> Result<Option<Vec<SegmentFiles>>, MilvusError> {
        let mut found = Vec::with_capacity(segments.len());
        let mut groups: Vec<&[i64]> = segments.chunks(SEGMENTS_PER_CALL).collect();
        while let Some(group) = groups.pop() {
            match self.describe(&DescribeSegments { database, collection, segments: group }).await? {
                Described::Segments(described) => found.extend(described),
                // The server doesn't say which segment is missing.
                Described::OneIsMissing if group.len() > 1 => {
                    groups.extend(<[_; 2]>::from(group.split_at(group.len() / 2)))
                }
                Described::OneIsMissing => {}
                Described::NotOffered => return Ok(None),
            }
        }
        Ok(Some(found))
    }

    async fn describe(&self, body: &DescribeSegments<'_>) -> Result<Described, MilvusError> {
        let mut request =
            self.client().await?.post(format!("{}/v2/vectordb/segments/describe", self.endpoint)).json(body);
        if let Some(login) = &self.login {
            request = request.bearer_auth(login.known().credentials.token());
        }
        let response = match request.send().await {
            Ok(response) => response,
            Err(error) if error.is_timeout() || error.is_connect() => return Err(unreachable(&error)),
            // A port, or a load balancer in front of it, that speaks only gRPC.
            Err(_) => return Ok(Described::NotOffered),
        };
        match response.status() {
            StatusCode::OK => {}
            status if is_temporary(status) => return Err(refusal(response).await),
            // The server doesn't know the call, or this user isn't allowed to make it.
            _ => return Ok(Described::NotOffered),
        }
        let answer: Answer = read(response).await?;
        match answer.code {
            0 => Ok(Described::Segments(answer.data.segments.into_iter().map(SegmentFiles::from).collect())),
            SEGMENT_NOT_FOUND => Ok(Described::OneIsMissing),
            code => match by_code(code, format!("{} (code {code})", answer.message)) {
                MilvusError::Unauthenticated(_) | MilvusError::Forbidden(_) => Ok(Described::NotOffered),
                error => Err(error),
            },
        }
    }

    /// Holds the garbage collection of the whole server. A hold of one collection doesn't keep files that are in no
    /// segment's metadata, such as those of a segment that was just dropped
    /// (`internal/datacoord/garbage_collector.go`).
    pub(crate) async fn hold_garbage(&self, duration: Duration) -> Result<GarbageHold, MilvusError> {
        #[derive(Deserialize)]
        struct Held {
            ticket: Option<String>,
        }
        let Some(management) = &self.management else { return Ok(GarbageHold::NotOffered) };
        let url = format!("{}/management/datacoord/garbage_collection/pause", management.base);
        // Collection 0 means all collections. Without it, the ticket lacks the collection, and the server can't read
        // the ticket when it is returned (pull request 53592 explains how). milvus-backup always sends it.
        let query = [("pause_seconds", duration.as_secs().to_string()), ("collection_id", "0".to_owned())];
        match management.ask(self.client().await?.get(url).query(&query)).await? {
            Some(response) => {
                let held: Held = read(response).await?;
                Ok(GarbageHold::Held { ticket: held.ticket.filter(|ticket| !ticket.is_empty()) })
            }
            None => Ok(GarbageHold::NotOffered),
        }
    }

    pub(crate) async fn release_garbage(&self, hold: &GarbageHold) -> Result<(), MilvusError> {
        let (GarbageHold::Held { ticket }, Some(management)) = (hold, &self.management) else { return Ok(()) };
        let url = format!("{}/management/datacoord/garbage_collection/resume", management.base);
        let mut request = self.client().await?.get(url);
        if let Some(ticket) = ticket {
            request = request.query(&[("ticket", ticket)]);
        }
        management.ask(request).await.map(drop)
    }
}

impl Management {
    /// Sends a request and returns the answer; `None` if the endpoint doesn't know the path.
    ///
    /// Newer servers can be configured to require the root's password here (`internal/http`, "admin auth"). The
    /// password is sent only to servers that ask for it.
    async fn ask(&self, request: RequestBuilder) -> Result<Option<Response>, MilvusError> {
        let again = request.try_clone();
        let send = async |request: RequestBuilder| request.send().await.map_err(|error| unreachable(&error));
        let mut response = send(request).await?;
        if let (StatusCode::UNAUTHORIZED, Some(again), Some(login)) = (response.status(), again, &self.login) {
            let known = login.known();
            if let Some(request) = with_password(&again, &known) {
                response = send(request).await?;
                if response.status() == StatusCode::UNAUTHORIZED
                    && let Some(renewed) = login.renewed(&known).await?
                    && let Some(request) = with_password(&again, &renewed)
                {
                    response = send(request).await?;
                }
            }
        }
        match response.status() {
            StatusCode::OK => Ok(Some(response)),
            StatusCode::NOT_FOUND => Ok(None),
            _ => Err(refusal(response).await),
        }
    }
}

/// The request with the password, if the credentials have one.
fn with_password(request: &RequestBuilder, known: &Known) -> Option<RequestBuilder> {
    let Credentials::Password { username, password } = &known.credentials else { return None };
    Some(request.try_clone()?.basic_auth(username, Some(password)))
}

/// Whether credentials for `endpoint` may be sent to `other` too: it must be the same host, and must not be unencrypted
/// if the endpoint is encrypted.
fn is_as_safe(other: &str, endpoint: &str) -> bool {
    let (Ok(other), Ok(endpoint)) = (Url::parse(other), Url::parse(endpoint)) else { return false };
    other.host() == endpoint.host() && (other.scheme() == "https" || endpoint.scheme() == other.scheme())
}

/// The result of a call for segments' files.
enum Described {
    Segments(Vec<SegmentFiles>),
    /// The server no longer knows one of the requested segments.
    OneIsMissing,
    NotOffered,
}

#[derive(Serialize)]
struct DescribeSegments<'a> {
    #[serde(rename = "dbName")]
    database: &'a str,
    #[serde(rename = "collectionId")]
    collection: i64,
    #[serde(rename = "segmentIds")]
    segments: &'a [i64],
}

#[derive(Deserialize)]
struct Answer {
    code: i32,
    #[serde(default)]
    message: String,
    #[serde(default)]
    data: Data,
}

#[derive(Default, Deserialize)]
struct Data {
    #[serde(rename = "segmentInfos", default)]
    segments: Vec<Info>,
}

#[derive(Deserialize)]
struct Info {
    #[serde(rename = "segmentID")]
    id: Number,
    #[serde(rename = "insertLogs", default)]
    insert: Option<Vec<Logs>>,
    #[serde(rename = "deltaLogs", default)]
    delta: Option<Vec<Logs>>,
}

#[derive(Deserialize)]
struct Logs {
    #[serde(rename = "fieldID", default)]
    folder: Number,
    #[serde(rename = "logIDs", default)]
    logs: Option<Vec<Number>>,
}

/// An id. Some REST answers have ids as text, because JavaScript would round them.
#[derive(Clone, Copy, Default, Deserialize)]
#[serde(try_from = "serde_json::Value")]
struct Number(i64);

impl TryFrom<serde_json::Value> for Number {
    type Error = String;

    fn try_from(value: serde_json::Value) -> Result<Self, String> {
        let number = value.as_i64().or_else(|| value.as_str()?.parse().ok());
        number.map(Self).ok_or_else(|| format!("{value} is not an id"))
    }
}

impl From<Info> for SegmentFiles {
    fn from(info: Info) -> Self {
        let logs = |logs: Option<Vec<Logs>>| {
            let logs = logs.unwrap_or_default().into_iter();
            logs.flat_map(|logs| logs.logs.unwrap_or_default().into_iter().map(move |log| (logs.folder.0, log.0)))
        };
        Self {
            segment: info.id.0,
            insert_logs: logs(info.insert).map(|(folder, log)| InsertLog { folder, log }).collect(),
            delta_logs: logs(info.delta).map(|(_, log)| log).collect(),
        }
    }
}

fn is_temporary(status: StatusCode) -> bool {
    status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS
}

fn unreachable(error: &reqwest::Error) -> MilvusError {
    let mut reason = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        reason = format!("{reason}: {error}");
        source = error.source();
    }
    MilvusError::Unreachable(reason)
}

async fn read<T: DeserializeOwned>(response: Response) -> Result<T, MilvusError> {
    let body = body(response, LARGEST_ANSWER).await?;
    serde_json::from_slice(&body).map_err(|error| MilvusError::Refused(format!("its answer can't be read: {error}")))
}

/// Reads an answer's body, if it isn't larger than `largest`.
async fn body(mut response: Response, largest: usize) -> Result<Vec<u8>, MilvusError> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| unreachable(&error))? {
        if body.len() + chunk.len() > largest {
            return Err(MilvusError::Refused(format!("its answer is larger than {largest} bytes")));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// The error of an answer without success.
async fn refusal(response: Response) -> MilvusError {
    /// The number of characters of the answer's text in the error; a longer text is usually a web page.
    const SHOWN: usize = 300;
    let status = response.status();
    let body = body(response, LARGEST_ANSWER).await.unwrap_or_default();
    let text: String = String::from_utf8_lossy(&body).chars().take(SHOWN).collect();
    let reason = format!("HTTP {status}: {text}");
    match status {
        StatusCode::UNAUTHORIZED => MilvusError::Unauthenticated(reason),
        StatusCode::FORBIDDEN => MilvusError::Forbidden(reason),
        StatusCode::TOO_MANY_REQUESTS => MilvusError::RateLimited(reason),
        status if is_temporary(status) => MilvusError::Unreachable(reason),
        _ => MilvusError::Refused(reason),
    }
}

#[cfg(test)]
mod tests {
    use tonic::codegen::http;

    use super::*;

    #[test]
    fn credentials_go_to_the_endpoints_own_host_only_and_never_less_encrypted() {
        for (management, endpoint) in [
            ("http://milvus:9091", "http://milvus:19530"),
            ("http://MILVUS:9091", "http://milvus:19530"),
            ("https://milvus:9091", "http://milvus:19530"),
            ("https://10.0.3.17:9091", "https://10.0.3.17:19530"),
            ("http://[fd12::0:5]:9091", "http://[fd12::5]:19530"),
        ] {
            assert!(is_as_safe(management, endpoint), "{management} {endpoint}");
        }
        for (management, endpoint) in [
            ("http://milvus:9091", "https://milvus:19530"),
            ("https://other:9091", "https://milvus:19530"),
            ("http://milvus.example.com:9091", "http://milvus:19530"),
            ("http://10.0.3.18:9091", "http://10.0.3.17:19530"),
        ] {
            assert!(!is_as_safe(management, endpoint), "{management} {endpoint}");
        }
    }

    #[tokio::test]
    async fn an_answer_that_is_too_large_is_not_read_to_its_end() {
        let answer = |bytes: usize| Response::from(http::Response::new(vec![b' '; bytes]));
        assert_eq!(body(answer(10), 10).await.unwrap().len(), 10);
        assert!(matches!(body(answer(11), 10).await, Err(MilvusError::Refused(_))));
    }
}
