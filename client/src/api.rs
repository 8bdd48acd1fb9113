//! Calls of the HTTP API, signed or with a token, and retried while an error may be transient.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::{Duration, SystemTime},
};

use milvault_wire::Code;
use reqwest::{Method, Url};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use ulid::Ulid;

use crate::{
    Error, pages,
    refusal::Refusal,
    region,
    retry::{self, pause, random},
    signer::Signer,
};

/// The time limit of a call. API Gateway answers within 30 seconds.
const TIMEOUT: Duration = Duration::from_secs(40);
/// The time limit of a connection. All attempts at an address without a server take half a minute together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The maximum size of a page.
const PAGE: &str = "1000";

/// The API of one stack.
pub(crate) struct Api {
    url: Url,
    /// The API's region, if its address or the command line names it.
    region: Option<String>,
    identity: Identity,
    client: reqwest::Client,
}

/// The authorisation of calls.
enum Identity {
    /// Calls are signed with AWS credentials.
    Aws(Box<Signer>),
    /// Calls have a token of the issuer that the stack was deployed with.
    Token(String),
}

/// The condition of a PUT.
#[derive(Debug)]
pub(crate) enum Condition {
    /// The object doesn't exist.
    New,
    /// The object still has this tag.
    Unchanged(String),
}

/// A call of the API.
struct Call<'a> {
    method: Method,
    /// The path's segments.
    path: &'a [&'a str],
    query: &'a [(&'a str, String)],
    condition: Option<Condition>,
    body: Option<&'a Value>,
}

/// A call in the form in which it is sent, once or several times.
struct Request {
    method: Method,
    url: Url,
    headers: Vec<(&'static str, String)>,
    body: String,
}

/// An answer: the object, and the document that it was read from, which also has the fields that this client doesn't
/// know.
#[derive(Debug, Clone)]
pub(crate) struct Answer<T> {
    pub(crate) document: Value,
    pub(crate) object: T,
}

/// A successful answer before it is parsed.
struct RawAnswer {
    text: String,
    /// The next cursor of a listing whose body has no place for it.
    next_cursor: Option<String>,
    /// The tag of the object's version.
    tag: Option<String>,
}

/// Why an attempt failed.
enum AttemptError {
    /// A retry would fail in the same way.
    Final(Error),
    /// A retry may succeed, after the pause that the answer asked for, if it did.
    Transient(Error, Option<Duration>),
}

impl Api {
    /// Makes a client of the API at this address, with a token or else the usual AWS configuration.
    pub(crate) async fn new(url: &str, region: Option<String>, token: Option<String>) -> Result<Self, Error> {
        let url: Url = url.parse().map_err(|error| Error::Usage(format!("'{url}' is not a valid address: {error}")))?;
        let host = url.host_str().ok_or_else(|| Error::Usage(format!("'{url}' has no host")))?.to_owned();
        let region = region.or_else(|| region::in_host(&host));
        let mut client = reqwest::Client::builder().timeout(TIMEOUT).connect_timeout(CONNECT_TIMEOUT);
        // These names stand for the local machine (RFC 6761), but not every resolver knows them.
        if host == "localhost" || host.ends_with(".localhost") {
            let port = url.port_or_known_default().unwrap_or_default();
            client = client.resolve(&host, SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        }
        let client = client.build().map_err(|error| Error::Unreachable(error.to_string()))?;
        let identity = match token {
            Some(token) => Identity::Token(token),
            None => Identity::Aws(Box::new(Signer::load(region.clone()).await?)),
        };
        Ok(Self { url, region, identity, client })
    }

    /// Returns the API's region; `None` if calls have a token and the region isn't known, as with a custom domain.
    pub(crate) fn region(&self) -> Option<&str> {
        match &self.identity {
            Identity::Aws(signer) => Some(&signer.region),
            Identity::Token(_) => self.region.as_deref(),
        }
    }

    /// Gets the object at a path, which is given by its segments.
    pub(crate) async fn get<T: DeserializeOwned>(
        &self,
        path: &[&str],
        query: &[(&str, String)],
    ) -> Result<Answer<T>, Error> {
        self.object(self.document(path, query).await?)
    }

    /// Gets the JSON document at a path.
    async fn document(&self, path: &[&str], query: &[(&str, String)]) -> Result<Value, Error> {
        self.json(&self.call(Call { query, ..Call::new(Method::GET, path) }).await?)
    }

    /// Gets the object at a path with the tag of its version.
    pub(crate) async fn get_tagged<T: DeserializeOwned>(&self, path: &[&str]) -> Result<(T, Option<String>), Error> {
        let answer = self.call(Call::new(Method::GET, path)).await?;
        Ok((self.object(self.json(&answer)?)?.object, answer.tag))
    }

    /// Gets all pages of the object at a path, combined into one.
    pub(crate) async fn get_all<T: DeserializeOwned>(
        &self,
        path: &[&str],
        query: &[(&str, String)],
    ) -> Result<Answer<T>, Error> {
        let mut query = query.to_vec();
        query.push(("limit", PAGE.to_owned()));
        let mut whole = self.document(path, &query).await?;
        while let Some(cursor) = pages::next(&whole) {
            let query = [query.as_slice(), &[("cursor", cursor)]].concat();
            pages::append(&mut whole, self.document(path, &query).await?);
        }
        self.object(whole)
    }

    /// Gets all pages of a CSV listing, under one header.
    pub(crate) async fn get_csv(&self, path: &[&str], query: &[(&str, String)]) -> Result<String, Error> {
        let mut query = query.to_vec();
        query.push(("limit", PAGE.to_owned()));
        let first = Call { query: &query, ..Call::new(Method::GET, path) };
        let RawAnswer { text: mut file, mut next_cursor, .. } = self.call(first).await?;
        while let Some(cursor) = next_cursor {
            let query = [query.as_slice(), &[("cursor", cursor)]].concat();
            let page = self.call(Call { query: &query, ..Call::new(Method::GET, path) }).await?;
            file.push_str(page.text.split_once('\n').unwrap_or_default().1);
            next_cursor = page.next_cursor;
        }
        Ok(file)
    }

    /// Posts an object.
    pub(crate) async fn post<T: DeserializeOwned>(
        &self,
        path: &[&str],
        body: &impl Serialize,
    ) -> Result<Answer<T>, Error> {
        let call = Call { body: Some(&document_of(body)), ..Call::new(Method::POST, path) };
        self.object(self.json(&self.call(call).await?)?)
    }

    /// Posts without a body.
    pub(crate) async fn post_empty<T: DeserializeOwned>(&self, path: &[&str]) -> Result<Answer<T>, Error> {
        self.object(self.json(&self.call(Call::new(Method::POST, path)).await?)?)
    }

    /// Puts an object, under a condition if there is one.
    pub(crate) async fn put<T: DeserializeOwned>(
        &self,
        path: &[&str],
        body: &impl Serialize,
        condition: Option<Condition>,
    ) -> Result<Answer<T>, Error> {
        let put = document_of(body);
        match self.call(Call { condition, body: Some(&put), ..Call::new(Method::PUT, path) }).await {
            // An earlier attempt may have put the object, and only its answer was lost.
            Err(Error::Refused(refusal)) if refusal.is(Code::PreconditionFailed) && refusal.was_retried() => {
                let found = self.document(path, &[]).await?;
                if contains(&found, &put) { self.object(found) } else { Err(Error::Refused(refusal)) }
            }
            answer => self.object(self.json(&answer?)?),
        }
    }

    /// Deletes the object at a path.
    pub(crate) async fn delete<T: DeserializeOwned>(&self, path: &[&str]) -> Result<Answer<T>, Error> {
        self.object(self.json(&self.call(Call::new(Method::DELETE, path)).await?)?)
    }

    /// Makes the request of a call.
    fn request(&self, call: Call<'_>) -> Result<Request, Error> {
        let mut url = self.url.clone();
        let no_path = || Error::Usage(format!("'{}' cannot have a path", self.url));
        url.path_segments_mut().map_err(|()| no_path())?.pop_if_empty().extend(call.path);
        if !call.query.is_empty() {
            url.query_pairs_mut().extend_pairs(call.query);
            // In a signature, a space is %20.
            let escaped = url.query().map(|query| query.replace('+', "%20"));
            url.set_query(escaped.as_deref());
        }
        let body = call.body.map(Value::to_string).unwrap_or_default();
        let mut headers = vec![("content-type", "application/json".to_owned())];
        headers.extend(call.condition.map(Condition::header));
        if call.method == Method::POST {
            headers.push(("idempotency-key", key()));
        }
        Ok(Request { method: call.method, url, headers, body })
    }

    /// Makes a call, and retries it while the error may be transient.
    async fn call(&self, call: Call<'_>) -> Result<RawAnswer, Error> {
        let request = self.request(call)?;
        let mut attempt = 1;
        loop {
            let (error, retry_after) = match self.send(&request, attempt).await {
                Ok(answer) => return Ok(answer),
                Err(AttemptError::Final(error)) => return Err(error),
                Err(AttemptError::Transient(error, retry_after)) => (error, retry_after),
            };
            let Some(pause) = pause(attempt, retry_after, random()) else { return Err(error) };
            tokio::time::sleep(pause).await;
            attempt += 1;
        }
    }

    async fn send(&self, request: &Request, attempt: u32) -> Result<RawAnswer, AttemptError> {
        let Request { method, url, headers, body } = request;
        let no_answer = |error: reqwest::Error| {
            AttemptError::Transient(Error::Unreachable(format!("{}: {}", self.url, root_cause(&error))), None)
        };
        let mut request = self.client.request(method.clone(), url.clone()).body(body.to_owned());
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        match &self.identity {
            Identity::Token(token) => request = request.bearer_auth(token),
            Identity::Aws(signer) => {
                let signed = signer.headers(method.as_str(), url.as_str(), headers, body).await;
                for (name, value) in signed.map_err(AttemptError::Final)? {
                    request = request.header(name, value);
                }
            }
        }
        let answer = request.send().await.map_err(no_answer)?;
        let status = answer.status();
        let header = |name: &str| answer.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let [next_cursor, tag, retry_after] = ["x-next-cursor", "etag", "retry-after"].map(header);
        let text = answer.text().await.map_err(no_answer)?;
        if status.is_success() {
            return Ok(RawAnswer { text, next_cursor, tag });
        }
        let refusal = Refusal::new(status, &text, attempt);
        if retry::is_transient(status, refusal.code()) {
            let retry_after = retry_after.as_deref().and_then(retry::parse_retry_after);
            return Err(AttemptError::Transient(Error::Unreachable(format!("{}: {refusal}", self.url)), retry_after));
        }
        Err(AttemptError::Final(Error::Refused(refusal)))
    }

    fn json(&self, answer: &RawAnswer) -> Result<Value, Error> {
        serde_json::from_str(&answer.text)
            .map_err(|error| Error::Unreachable(format!("the answer of {} is not JSON: {error}", self.url)))
    }

    fn object<T: DeserializeOwned>(&self, document: Value) -> Result<Answer<T>, Error> {
        match T::deserialize(&document) {
            Ok(object) => Ok(Answer { document, object }),
            Err(error) => Err(Error::Unreachable(format!("the answer of {} cannot be read: {error}", self.url))),
        }
    }
}

impl<'a> Call<'a> {
    fn new(method: Method, path: &'a [&'a str]) -> Self {
        Self { method, path, query: &[], condition: None, body: None }
    }
}

impl Condition {
    fn header(self) -> (&'static str, String) {
        match self {
            Self::New => ("if-none-match", "*".to_owned()),
            Self::Unchanged(tag) => ("if-match", tag),
        }
    }
}

/// Makes the JSON document of a request. Requests consist of strings, numbers and lists, so this can't fail.
fn document_of(request: &impl Serialize) -> Value {
    serde_json::to_value(request).unwrap_or_default()
}

/// Whether a document contains all fields of another one.
fn contains(found: &Value, put: &Value) -> bool {
    match put {
        Value::Object(fields) => {
            fields.iter().all(|(name, put)| found.get(name).is_some_and(|found| contains(found, put)))
        }
        _ => found == put,
    }
}

/// Makes a new idempotency key.
fn key() -> String {
    let mut random = [0; 16];
    // Without randomness, the time still makes the key unique for this command.
    let _ = getrandom::fill(&mut random[6..]);
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Ulid::from_parts(u64::try_from(since.as_millis()).unwrap_or_default(), u128::from_be_bytes(random)).to_string()
}

/// Returns the message of an error's root cause. The errors above it are the HTTP client's layers.
fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_put_object_is_recognised_among_the_fields_that_the_api_adds() {
        let found = json!({ "name": "orders", "storage": { "bucket": "b", "rootPath": "files" }, "createdAt": "then" });
        assert!(contains(&found, &json!({ "name": "orders", "storage": { "bucket": "b" } })));
        assert!(!contains(&found, &json!({ "name": "orders", "storage": { "bucket": "c" } })));
        assert!(!contains(&found, &json!({ "auth": { "secretArn": "arn" } })));
    }
}
