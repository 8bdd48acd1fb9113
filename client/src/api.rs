//! Calls of the HTTP API, signed or with a token, and made again while what stands in their way may pass.

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

/// API Gateway answers within 30 seconds.
const TIMEOUT: Duration = Duration::from_secs(40);
/// An address that nothing answers at is told in half a minute, all attempts together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The most that a page has.
const PAGE: &str = "1000";

/// The API of one stack.
pub(crate) struct Api {
    url: Url,
    /// Its region, as far as its address or the command line says it.
    region: Option<String>,
    identity: Identity,
    client: reqwest::Client,
}

/// How calls are authorised.
enum Identity {
    /// Signed with AWS credentials.
    Aws(Box<Signer>),
    /// With a token of the issuer that the stack was deployed for.
    Token(String),
}

/// What must hold for a PUT to replace something.
#[derive(Debug)]
pub(crate) enum Condition {
    /// Nothing is there.
    New,
    /// What is there still has this tag.
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

/// A call as it is sent, once or several times.
struct Request {
    method: Method,
    url: Url,
    headers: Vec<(&'static str, String)>,
    body: String,
}

/// An answer: the object, and the document that it was read from, which has what this client doesn't know too.
#[derive(Debug, Clone)]
pub(crate) struct Answer<T> {
    pub(crate) document: Value,
    pub(crate) object: T,
}

/// What was answered.
struct Answered {
    text: String,
    /// Where a listing goes on whose form has no place for it.
    next_cursor: Option<String>,
    /// What it is a state of.
    tag: Option<String>,
}

/// Why an attempt has no answer to use.
enum Failed {
    /// Another would end as this one.
    ForGood(Error),
    /// Another may do, after as long as the answer asked for.
    ForNow(Error, Option<Duration>),
}

impl Api {
    /// The API at this address, with a token or else the usual AWS configuration.
    pub(crate) async fn at(url: &str, region: Option<String>, token: Option<String>) -> Result<Self, Error> {
        let url: Url = url.parse().map_err(|error| Error::Usage(format!("'{url}' is no address: {error}")))?;
        let host = url.host_str().ok_or_else(|| Error::Usage(format!("'{url}' has no host")))?.to_owned();
        let region = region.or_else(|| region::of_host(&host));
        let mut client = reqwest::Client::builder().timeout(TIMEOUT).connect_timeout(CONNECT_TIMEOUT);
        // These names are the machine itself (RFC 6761), which not every resolver knows.
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

    /// The API's region. A stack behind a domain of its own that takes tokens need not have said it.
    pub(crate) fn region(&self) -> Option<&str> {
        match &self.identity {
            Identity::Aws(signer) => Some(&signer.region),
            Identity::Token(_) => self.region.as_deref(),
        }
    }

    /// What is at a path, given by its segments.
    pub(crate) async fn get<T: DeserializeOwned>(
        &self,
        path: &[&str],
        query: &[(&str, String)],
    ) -> Result<Answer<T>, Error> {
        self.object(self.document(path, query).await?)
    }

    async fn document(&self, path: &[&str], query: &[(&str, String)]) -> Result<Value, Error> {
        self.json(&self.call(Call { query, ..Call::new(Method::GET, path) }).await?)
    }

    /// What is at a path, with the tag of its state.
    pub(crate) async fn get_tagged<T: DeserializeOwned>(&self, path: &[&str]) -> Result<(T, Option<String>), Error> {
        let answer = self.call(Call::new(Method::GET, path)).await?;
        Ok((self.object(self.json(&answer)?)?.object, answer.tag))
    }

    /// What is at a path that answers in pages, all of them put together.
    pub(crate) async fn whole<T: DeserializeOwned>(
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

    /// Every page of a listing that is a CSV file, under one header.
    pub(crate) async fn csv(&self, path: &[&str], query: &[(&str, String)]) -> Result<String, Error> {
        let mut query = query.to_vec();
        query.push(("limit", PAGE.to_owned()));
        let first = Call { query: &query, ..Call::new(Method::GET, path) };
        let Answered { text: mut file, mut next_cursor, .. } = self.call(first).await?;
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

    /// Posts nothing, to a path that says it all.
    pub(crate) async fn post_nothing<T: DeserializeOwned>(&self, path: &[&str]) -> Result<Answer<T>, Error> {
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
            // What is there isn't what was there: it may be what we have put, with an answer that was lost.
            Err(Error::Refused(refusal)) if refusal.is(Code::PreconditionFailed) && refusal.may_be_our_own_doing() => {
                let found = self.document(path, &[]).await?;
                if holds(&found, &put) { self.object(found) } else { Err(Error::Refused(refusal)) }
            }
            answer => self.object(self.json(&answer?)?),
        }
    }

    /// Deletes what is at a path.
    pub(crate) async fn delete<T: DeserializeOwned>(&self, path: &[&str]) -> Result<Answer<T>, Error> {
        self.object(self.json(&self.call(Call::new(Method::DELETE, path)).await?)?)
    }

    /// The request of a call.
    fn request(&self, call: Call<'_>) -> Result<Request, Error> {
        let mut url = self.url.clone();
        let no_path = || Error::Usage(format!("'{}' can't have a path", self.url));
        url.path_segments_mut().map_err(|()| no_path())?.pop_if_empty().extend(call.path);
        if !call.query.is_empty() {
            url.query_pairs_mut().extend_pairs(call.query);
            // A blank is %20 to a signature.
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

    /// One call, made again as long as that may help.
    async fn call(&self, call: Call<'_>) -> Result<Answered, Error> {
        let request = self.request(call)?;
        let mut attempt = 1;
        loop {
            let (error, asked) = match self.send(&request, attempt).await {
                Ok(answer) => return Ok(answer),
                Err(Failed::ForGood(error)) => return Err(error),
                Err(Failed::ForNow(error, asked)) => (error, asked),
            };
            let Some(pause) = pause(attempt, asked, random()) else { return Err(error) };
            tokio::time::sleep(pause).await;
            attempt += 1;
        }
    }

    async fn send(&self, request: &Request, attempt: u32) -> Result<Answered, Failed> {
        let Request { method, url, headers, body } = request;
        let no_answer = |error: reqwest::Error| {
            Failed::ForNow(Error::Unreachable(format!("{}: {}", self.url, root_cause(&error))), None)
        };
        let mut request = self.client.request(method.clone(), url.clone()).body(body.to_owned());
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        match &self.identity {
            Identity::Token(token) => request = request.bearer_auth(token),
            Identity::Aws(signer) => {
                let signed = signer.headers(method.as_str(), url.as_str(), headers, body).await;
                for (name, value) in signed.map_err(Failed::ForGood)? {
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
            return Ok(Answered { text, next_cursor, tag });
        }
        let refusal = Refusal::new(status, &text, attempt);
        if retry::passes(status, refusal.code()) {
            let asked = retry_after.as_deref().and_then(retry::asked);
            return Err(Failed::ForNow(Error::Unreachable(format!("{}: {refusal}", self.url)), asked));
        }
        Err(Failed::ForGood(Error::Refused(refusal)))
    }

    fn json(&self, answer: &Answered) -> Result<Value, Error> {
        serde_json::from_str(&answer.text)
            .map_err(|error| Error::Unreachable(format!("what {} answers isn't JSON: {error}", self.url)))
    }

    fn object<T: DeserializeOwned>(&self, document: Value) -> Result<Answer<T>, Error> {
        match T::deserialize(&document) {
            Ok(object) => Ok(Answer { document, object }),
            Err(error) => Err(Error::Unreachable(format!("what {} answers can't be read: {error}", self.url))),
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

/// What is sent of a request: requests are structs of texts, numbers and lists, which always serialise.
fn document_of(request: &impl Serialize) -> Value {
    serde_json::to_value(request).unwrap_or_default()
}

/// Whether what was found has everything that was put.
fn holds(found: &Value, put: &Value) -> bool {
    match put {
        Value::Object(fields) => {
            fields.iter().all(|(name, put)| found.get(name).is_some_and(|found| holds(found, put)))
        }
        _ => found == put,
    }
}

/// A new idempotency key.
fn key() -> String {
    let mut random = [0; 16];
    // Without randomness it is still of its time, and only this command's.
    let _ = getrandom::fill(&mut random[6..]);
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Ulid::from_parts(u64::try_from(since.as_millis()).unwrap_or_default(), u128::from_be_bytes(random)).to_string()
}

/// What went wrong at the bottom of an error: the layers above it are those of the HTTP client.
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
    fn what_was_put_is_found_again_beside_what_the_api_adds() {
        let found = json!({ "name": "orders", "storage": { "bucket": "b", "rootPath": "files" }, "createdAt": "then" });
        assert!(holds(&found, &json!({ "name": "orders", "storage": { "bucket": "b" } })));
        assert!(!holds(&found, &json!({ "name": "orders", "storage": { "bucket": "c" } })));
        assert!(!holds(&found, &json!({ "auth": { "secretArn": "arn" } })));
    }
}
