//! Signed calls of the HTTP API.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::{Duration, SystemTime},
};

use aws_config::{BehaviorVersion, SdkConfig};
use aws_credential_types::provider::ProvideCredentials;
use aws_sigv4::{
    http_request::{SignableBody, SignableRequest, SigningSettings, sign},
    sign::v4,
};
use aws_smithy_http_client::{
    Builder,
    tls::{Provider, rustls_provider::CryptoMode},
};
use reqwest::{Method, StatusCode, Url};
use serde_json::Value;
use ulid::Ulid;

use crate::Error;

/// API Gateway answers within 30 seconds.
const TIMEOUT: Duration = Duration::from_secs(40);
const TRIES: u32 = 3;

/// The API of one stack.
pub(crate) struct Api {
    url: Url,
    /// Where it is.
    pub(crate) region: String,
    identity: Identity,
    client: reqwest::Client,
}

/// What was answered.
struct Answered {
    text: String,
    /// Where a listing goes on whose form has no place for it.
    next_cursor: Option<String>,
    /// What it is a state of.
    tag: Option<String>,
}

/// How calls are authorised.
enum Identity {
    /// Signed with AWS credentials.
    Aws(Box<SdkConfig>),
    /// With a token of the issuer that the stack was deployed for.
    Token(String),
}

impl Api {
    /// The API at this address, with a token or else the usual AWS configuration.
    pub(crate) async fn at(url: &str, region: Option<String>, token: Option<String>) -> Result<Self, Error> {
        let url: Url = url.parse().map_err(|error| Error::Usage(format!("'{url}' is no address: {error}")))?;
        let host = url.host_str().ok_or_else(|| Error::Usage(format!("'{url}' has no host")))?.to_owned();
        let https = Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https();
        let aws = aws_config::defaults(BehaviorVersion::v2026_01_12()).http_client(https).load().await;
        let region = region.or_else(|| region_of(&host)).or_else(|| aws.region().map(ToString::to_string));
        let region = region.ok_or_else(|| Error::Usage("which region? Use --region or set AWS_REGION".to_owned()))?;
        let mut client = reqwest::Client::builder().timeout(TIMEOUT);
        // These names are the machine itself (RFC 6761), which not every resolver knows.
        if host == "localhost" || host.ends_with(".localhost") {
            let port = url.port_or_known_default().unwrap_or_default();
            client = client.resolve(&host, SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        }
        let client = client.build().map_err(|error| Error::Unreachable(error.to_string()))?;
        let identity = token.map_or_else(|| Identity::Aws(Box::new(aws)), Identity::Token);
        Ok(Self { url, region, identity, client })
    }

    /// What is at a path, given by its segments.
    pub(crate) async fn get(&self, path: &[&str], query: &[(&str, String)]) -> Result<Value, Error> {
        json(&self.call(Method::GET, path, query, &[], None).await?.text)
    }

    /// What is at a path, with the tag of its state.
    pub(crate) async fn get_tagged(&self, path: &[&str]) -> Result<(Value, Option<String>), Error> {
        let answer = self.call(Method::GET, path, &[], &[], None).await?;
        Ok((json(&answer.text)?, answer.tag))
    }

    /// Every page of a listing that is a CSV file, under one header.
    pub(crate) async fn csv(&self, path: &[&str], query: &[(&str, String)]) -> Result<String, Error> {
        let mut file = String::new();
        let mut cursor: Option<String> = None;
        loop {
            let mut query = query.to_vec();
            query.extend(cursor.take().map(|cursor| ("cursor", cursor)));
            let page = self.call(Method::GET, path, &query, &[], None).await?;
            let rows =
                if file.is_empty() { page.text.as_str() } else { page.text.split_once('\n').unwrap_or_default().1 };
            file.push_str(rows);
            match page.next_cursor {
                Some(next) => cursor = Some(next),
                None => return Ok(file),
            }
        }
    }

    /// Every item of a listing, page after page.
    pub(crate) async fn all(&self, path: &[&str], query: &[(&str, String)], list: &str) -> Result<Vec<Value>, Error> {
        let mut items = Vec::new();
        let mut cursor: Option<String> = None;
        loop {
            let mut query = query.to_vec();
            query.extend(cursor.take().map(|cursor| ("cursor", cursor)));
            let mut page = self.get(path, &query).await?;
            if let Some(Value::Array(found)) = page.get_mut(list).map(Value::take) {
                items.extend(found);
            }
            match page.get("nextCursor").and_then(Value::as_str) {
                Some(next) => cursor = Some(next.to_owned()),
                None => return Ok(items),
            }
        }
    }

    /// Posts a document.
    pub(crate) async fn post(&self, path: &[&str], body: Option<&Value>) -> Result<Value, Error> {
        json(&self.call(Method::POST, path, &[], &[], body).await?.text)
    }

    /// Puts a document.
    pub(crate) async fn put(&self, path: &[&str], body: &Value) -> Result<Value, Error> {
        self.put_if(path, body, None).await
    }

    /// Puts a document in the place of what has this tag.
    pub(crate) async fn put_if(&self, path: &[&str], body: &Value, tag: Option<String>) -> Result<Value, Error> {
        let condition: Vec<_> = tag.map(|tag| ("if-match", tag)).into_iter().collect();
        json(&self.call(Method::PUT, path, &[], &condition, Some(body)).await?.text)
    }

    /// Deletes what is at a path.
    pub(crate) async fn delete(&self, path: &[&str]) -> Result<Value, Error> {
        json(&self.call(Method::DELETE, path, &[], &[], None).await?.text)
    }

    /// One call, repeated when no answer comes: each does once what it does, a POST because of its idempotency key.
    async fn call(
        &self,
        method: Method,
        path: &[&str],
        query: &[(&str, String)],
        more_headers: &[(&'static str, String)],
        body: Option<&Value>,
    ) -> Result<Answered, Error> {
        let mut url = self.url.clone();
        let no_path = || Error::Usage(format!("'{}' can't have a path", self.url));
        url.path_segments_mut().map_err(|()| no_path())?.pop_if_empty().extend(path);
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
            // A blank is %20 to a signature.
            let escaped = url.query().map(|query| query.replace('+', "%20"));
            url.set_query(escaped.as_deref());
        }
        let body = body.map(Value::to_string).unwrap_or_default();
        let mut headers = vec![("content-type", "application/json".to_owned())];
        headers.extend_from_slice(more_headers);
        if method == Method::POST {
            headers.push(("idempotency-key", key()));
        }
        let mut tries = 0;
        loop {
            tries += 1;
            match self.send(&method, &url, &headers, &body).await {
                Err(Error::Unreachable(_)) if tries < TRIES => {}
                result => return result,
            }
        }
    }

    async fn send(
        &self,
        method: &Method,
        url: &Url,
        headers: &[(&str, String)],
        body: &str,
    ) -> Result<Answered, Error> {
        let unreachable = |error: reqwest::Error| Error::Unreachable(format!("{}: {}", self.url, root_cause(&error)));
        let mut request = self.client.request(method.clone(), url.clone()).body(body.to_owned());
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        match &self.identity {
            Identity::Token(token) => request = request.bearer_auth(token),
            Identity::Aws(aws) => {
                for (name, value) in self.signature(aws, method, url, headers, body).await? {
                    request = request.header(name, value);
                }
            }
        }
        let answer = request.send().await.map_err(unreachable)?;
        let status = answer.status();
        let header = |name: &str| answer.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let (next_cursor, tag) = (header("x-next-cursor"), header("etag"));
        let text = answer.text().await.map_err(unreachable)?;
        match status {
            status if status.is_success() => Ok(Answered { text, next_cursor, tag }),
            StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT
                if !text.contains("\"code\"") =>
            {
                Err(Error::Unreachable(format!("{}: {status}", self.url)))
            }
            status => Err(Error::Refused(reason(status, &text))),
        }
    }

    /// The headers that sign a request.
    async fn signature(
        &self,
        aws: &SdkConfig,
        method: &Method,
        url: &Url,
        headers: &[(&str, String)],
        body: &str,
    ) -> Result<Vec<(String, String)>, Error> {
        let bad = |error: &dyn std::fmt::Display| Error::Credentials(error.to_string());
        let provider = aws.credentials_provider().ok_or_else(|| bad(&"none are configured"))?;
        let credentials = provider.provide_credentials().await.map_err(|error| bad(&root_cause(&error)))?;
        let identity = credentials.into();
        let parameters = v4::SigningParams::builder()
            .identity(&identity)
            .region(&self.region)
            .name("execute-api")
            .time(SystemTime::now())
            .settings(SigningSettings::default())
            .build()
            .map_err(|error| bad(&error))?
            .into();
        let headers = headers.iter().map(|(name, value)| (*name, value.as_str()));
        let request =
            SignableRequest::new(method.as_str(), url.as_str(), headers, SignableBody::Bytes(body.as_bytes()))
                .map_err(|error| bad(&error))?;
        let (signed, _) = sign(request, &parameters).map_err(|error| bad(&error))?.into_parts();
        Ok(signed.headers().map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }
}

/// The region in the name of an API Gateway's host.
fn region_of(host: &str) -> Option<String> {
    let (_, rest) = host.split_once(".execute-api.")?;
    let (region, _) = rest.split_once(".amazonaws.")?;
    Some(region.to_owned())
}

/// A new idempotency key.
fn key() -> String {
    let mut random = [0; 16];
    // Without randomness it is still of its time, and only this command's.
    let _ = getrandom::fill(&mut random[6..]);
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Ulid::from_parts(u64::try_from(since.as_millis()).unwrap_or_default(), u128::from_be_bytes(random)).to_string()
}

fn json(text: &str) -> Result<Value, Error> {
    if text.is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_str(text).map_err(|error| Error::Unreachable(format!("the answer isn't JSON: {error}")))
}

/// What went wrong at the bottom of an error.
fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

/// What a problem says, for people.
fn reason(status: StatusCode, text: &str) -> String {
    let problem: Value = serde_json::from_str(text).unwrap_or_default();
    let part = |name: &str| problem.get(name).and_then(Value::as_str);
    match (part("code"), part("detail").or(part("title")), part("message")) {
        (Some(code), Some(detail), _) => format!("{detail} ({code})"),
        (_, _, Some(message)) => format!("{message} ({status})"),
        _ => status.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_region_is_in_the_name_of_an_api() {
        assert_eq!(region_of("a1b2.execute-api.eu-west-1.amazonaws.com").as_deref(), Some("eu-west-1"));
        assert_eq!(region_of("a1b2.execute-api.localhost"), None);
        assert_eq!(region_of("backups.example.org"), None);
    }

    #[test]
    fn a_refusal_is_told_in_the_apis_words() {
        let problem = r#"{"code": "BACKUP_NAME_TAKEN", "detail": "the name is taken", "status": 409}"#;
        assert_eq!(reason(StatusCode::CONFLICT, problem), "the name is taken (BACKUP_NAME_TAKEN)");
        assert_eq!(reason(StatusCode::FORBIDDEN, r#"{"message": "Forbidden"}"#), "Forbidden (403 Forbidden)");
        assert_eq!(reason(StatusCode::BAD_GATEWAY, "<html>"), "502 Bad Gateway");
    }
}
