//! A model of S3: its answers and their times, with sizes instead of bytes.
//!
//! A copy answers after 150 ms and the object's size at 24 MB/s, a page of a thousand keys after 100 ms. Above 3,500
//! writes a second to one prefix it answers 503. A prefix is a key up to its third slash, as in
//! `{instance}/objects/{shard}/`, or less: real S3 finds out by itself where to split. 500 copies of 1 MB in flight are
//! 2,600 writes a second, so that no program in this benchmark is refused because of its prefixes.

use std::{
    collections::{BTreeMap, HashMap},
    ops::Bound,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::{Request, State},
    http::{HeaderMap, Method, StatusCode},
    response::{IntoResponse, Response},
};
use milvault_harness::locked;
use tokio::net::TcpListener;

use crate::{
    engine::DATA,
    source::{SIZE, Source},
};

pub const COPY: Duration = Duration::from_millis(150);
pub const BYTES_A_SECOND: u64 = 24_000_000;
pub const LISTING: Duration = Duration::from_millis(100);
pub const KEYS: usize = 1000;
const WRITES_A_SECOND: u64 = 3_500;

/// The requests so far.
#[derive(Debug, Default)]
pub struct Counts {
    copies: AtomicU64,
    source_listings: AtomicU64,
    listings: AtomicU64,
    refused: AtomicU64,
}

#[derive(Clone)]
struct Stored {
    size: u64,
    etag: String,
    body: Option<Vec<u8>>,
}

struct Model {
    source: Mutex<Source>,
    buckets: Mutex<HashMap<String, BTreeMap<String, Stored>>>,
    rates: Mutex<HashMap<String, (Instant, u64)>>,
    counts: Counts,
}

/// How long a copy of one of the source's objects takes.
pub fn copy_time() -> Duration {
    COPY + Duration::from_secs_f64(SIZE as f64 / BYTES_A_SECOND as f64)
}

/// Serves until the process ends; prints its port on standard output.
pub async fn serve(source: Source) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    println!("{}", listener.local_addr().unwrap().port());
    let model = Model {
        source: Mutex::new(source),
        buckets: Mutex::default(),
        rates: Mutex::default(),
        counts: Counts::default(),
    };
    let app = Router::new().fallback(answer).with_state(Arc::new(model));
    axum::serve(listener, app).await.unwrap();
}

async fn answer(State(model): State<Arc<Model>>, request: Request) -> Response {
    let path = decoded(request.uri().path());
    let query: HashMap<String, String> = request
        .uri()
        .query()
        .unwrap_or_default()
        .split('&')
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(name, value)| (name.to_owned(), decoded(value)))
        .collect();
    let (bucket, key) = path.trim_start_matches('/').split_once('/').unwrap_or((path.trim_start_matches('/'), ""));
    let (method, headers) = (request.method().clone(), request.headers().clone());
    match (method, key) {
        (Method::POST, "change") if bucket == "-" => {
            let source = locked(&model.source).changed(100);
            *locked(&model.source) = source;
            StatusCode::OK.into_response()
        }
        (Method::GET, "counts") if bucket == "-" => {
            let Counts { copies, source_listings, listings, refused } = &model.counts;
            let all =
                [copies, source_listings, listings, refused].map(|count| count.load(Ordering::Relaxed).to_string());
            all.join(" ").into_response()
        }
        (Method::GET, "") if query.contains_key("list-type") || query.contains_key("prefix") => {
            model.list(bucket, &query).await
        }
        (Method::GET, "") if query.contains_key("location") => {
            xml("<LocationConstraint>eu-west-1</LocationConstraint>".to_owned())
        }
        (Method::GET, "") if query.contains_key("object-lock") => (
            StatusCode::NOT_FOUND,
            "<Error><Code>ObjectLockConfigurationNotFoundError</Code><Message>none</Message></Error>",
        )
            .into_response(),
        (Method::GET | Method::HEAD | Method::PUT, "") => StatusCode::OK.into_response(),
        (Method::GET, key) => model.get(bucket, key, true),
        (Method::HEAD, key) => model.get(bucket, key, false),
        (Method::PUT, key) if headers.contains_key("x-amz-copy-source") => model.copy(bucket, key, &headers).await,
        (Method::PUT, key) => {
            let body = to_bytes(request.into_body(), usize::MAX).await.unwrap();
            model.put(bucket, key, body.to_vec(), &headers)
        }
        (Method::POST, "") if query.contains_key("delete") => {
            let body = to_bytes(request.into_body(), usize::MAX).await.unwrap();
            let body = String::from_utf8_lossy(&body).into_owned();
            let mut buckets = locked(&model.buckets);
            let objects = buckets.entry(bucket.to_owned()).or_default();
            for key in body.split("<Key>").skip(1).filter_map(|rest| rest.split("</Key>").next()) {
                objects.remove(key);
            }
            xml("<DeleteResult></DeleteResult>".to_owned())
        }
        _ => StatusCode::NOT_IMPLEMENTED.into_response(),
    }
}

impl Model {
    async fn list(&self, bucket: &str, query: &HashMap<String, String>) -> Response {
        let text = |name: &str| query.get(name).filter(|value| !value.is_empty()).map(String::as_str);
        let prefix = text("prefix").unwrap_or_default();
        let after = text("continuation-token").or(text("start-after"));
        let begun = tokio::time::Instant::now();
        let (objects, more): (Vec<(String, u64, String)>, bool) = if bucket == DATA {
            self.counts.source_listings.fetch_add(1, Ordering::Relaxed);
            let source = locked(&self.source).clone();
            let (objects, more) = match source.collection_of(prefix) {
                Some(_) => source.list(prefix, after, KEYS as u64),
                None if "files/insert_log/".starts_with(prefix) => source.all(after, KEYS),
                None => (Vec::new(), false),
            };
            (objects.into_iter().map(|object| (object.key, object.size, object.etag)).collect(), more)
        } else {
            self.counts.listings.fetch_add(1, Ordering::Relaxed);
            let mut buckets = locked(&self.buckets);
            let objects = buckets.entry(bucket.to_owned()).or_default();
            let begin = match after {
                Some(after) if after >= prefix => Bound::Excluded(after.to_owned()),
                _ => Bound::Included(prefix.to_owned()),
            };
            let found = objects.range((begin, Bound::Unbounded)).take_while(|(key, _)| key.starts_with(prefix));
            let mut found: Vec<_> =
                found.take(KEYS + 1).map(|(key, stored)| (key.clone(), stored.size, stored.etag.clone())).collect();
            let more = found.len() > KEYS;
            found.truncate(KEYS);
            (found, more)
        };
        let token = objects.last().filter(|_| more).map(|(key, ..)| key.clone());
        let mut body = format!(
            "<ListBucketResult><Name>{bucket}</Name><Prefix>{prefix}</Prefix><KeyCount>{}</KeyCount><MaxKeys>1000</MaxKeys>\
             <IsTruncated>{more}</IsTruncated>",
            objects.len()
        );
        if let Some(token) = token {
            body += &format!("<NextContinuationToken>{token}</NextContinuationToken>");
        }
        for (key, size, etag) in objects {
            body += &format!(
                "<Contents><Key>{key}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified>\
                 <ETag>&quot;{etag}&quot;</ETag><Size>{size}</Size><StorageClass>STANDARD</StorageClass></Contents>"
            );
        }
        tokio::time::sleep_until(begun + LISTING).await;
        xml(body + "</ListBucketResult>")
    }

    async fn copy(&self, bucket: &str, key: &str, headers: &HeaderMap) -> Response {
        let begun = tokio::time::Instant::now();
        let of = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        if !self.may_write(key) {
            self.counts.refused.fetch_add(1, Ordering::Relaxed);
            return error(StatusCode::SERVICE_UNAVAILABLE, "SlowDown");
        }
        self.counts.copies.fetch_add(1, Ordering::Relaxed);
        let etag = format!("{:032x}", key.len());
        {
            let mut buckets = locked(&self.buckets);
            let objects = buckets.entry(bucket.to_owned()).or_default();
            if of("if-none-match") == "*" && objects.contains_key(key) {
                return error(StatusCode::PRECONDITION_FAILED, "PreconditionFailed");
            }
            objects.insert(key.to_owned(), Stored { size: SIZE, etag: etag.clone(), body: None });
        }
        tokio::time::sleep_until(begun + copy_time()).await;
        xml(format!(
            "<CopyObjectResult><LastModified>2026-01-01T00:00:00.000Z</LastModified><ETag>&quot;{etag}&quot;</ETag>\
             </CopyObjectResult>"
        ))
    }

    fn may_write(&self, key: &str) -> bool {
        let end = key.match_indices('/').nth(2).map_or(key.len(), |(place, _)| place);
        let mut rates = locked(&self.rates);
        let (since, writes) = rates.entry(key[..end].to_owned()).or_insert((Instant::now(), 0));
        if since.elapsed() >= Duration::from_secs(1) {
            (*since, *writes) = (Instant::now(), 0);
        }
        *writes += 1;
        *writes <= WRITES_A_SECOND
    }

    fn put(&self, bucket: &str, key: &str, body: Vec<u8>, headers: &HeaderMap) -> Response {
        let mut buckets = locked(&self.buckets);
        let objects = buckets.entry(bucket.to_owned()).or_default();
        if headers.contains_key("if-none-match") && objects.contains_key(key) {
            return error(StatusCode::PRECONDITION_FAILED, "PreconditionFailed");
        }
        let etag = format!("{:032x}", body.len());
        objects.insert(key.to_owned(), Stored { size: body.len() as u64, etag: etag.clone(), body: Some(body) });
        (StatusCode::OK, [("etag", format!("\"{etag}\""))]).into_response()
    }

    fn get(&self, bucket: &str, key: &str, with_body: bool) -> Response {
        let found = locked(&self.buckets).get(bucket).and_then(|objects| objects.get(key)).cloned();
        let found = match found {
            // A prefix isn't an object: the client asks whether to copy one object or many.
            None if bucket == DATA && locked(&self.source).has(key) => {
                Some(Stored { size: SIZE, etag: "source".to_owned(), body: None })
            }
            found => found,
        };
        let Some(stored) = found else { return error(StatusCode::NOT_FOUND, "NoSuchKey") };
        let body = stored.body.filter(|_| with_body).map_or(Body::empty(), Body::from);
        let headers =
            [("etag", format!("\"{}\"", stored.etag)), ("last-modified", "Thu, 01 Jan 2026 00:00:00 GMT".to_owned())];
        let mut response = (StatusCode::OK, headers, body).into_response();
        if !with_body {
            response.headers_mut().insert("content-length", stored.size.into());
        }
        response
    }
}

fn xml(body: String) -> Response {
    let body = format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>{body}");
    (StatusCode::OK, [("content-type", "application/xml")], body).into_response()
}

fn error(status: StatusCode, code: &str) -> Response {
    let body = format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?><Error><Code>{code}</Code><Message/></Error>");
    (status, [("content-type", "application/xml")], body).into_response()
}

/// Decodes a URL's percent-encoding.
fn decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut plain = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex =
            (bytes[at] == b'%').then(|| text.get(at + 1..at + 3).and_then(|hex| u8::from_str_radix(hex, 16).ok()));
        match hex.flatten() {
            Some(byte) => {
                plain.push(byte);
                at += 3;
            }
            None => {
                plain.push(if bytes[at] == b'+' { b' ' } else { bytes[at] });
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&plain).into_owned()
}
