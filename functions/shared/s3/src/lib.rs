//! The S3 adapter: the jobs' [`Objects`] port over S3's API.
#![forbid(unsafe_code)]

mod errors;
mod multipart;

use std::{
    collections::HashMap,
    ops::Range,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use aws_sdk_s3::{
    Client,
    config::{Builder, StalledStreamProtectionConfig, retry::RetryConfig, timeout::TimeoutConfig},
    primitives::{ByteStream, DateTime},
    types::{Delete, MetadataDirective, ObjectIdentifier, ObjectLockRetention, ObjectLockRetentionMode},
};
use chrono::TimeDelta;
use milvault_model::{Region, Time};
use milvault_ports::{
    Bucket, CopyOutcome, CopyRequest, LockMode, Locking, ObjectMeta, Objects, ObjectsError, Page, PutMode, PutOutcome,
};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use errors::{Answer, answer, is_gone, is_without_lock, plain, plain_copy, refuses_bucket};

/// When and how an object is copied in parts.
#[derive(Debug, Clone, Copy)]
pub struct Parts {
    /// Objects with more bytes than this are copied in parts.
    pub above: u64,
    /// The bytes of each part except the last: at least 5 MiB. An object that would have too many parts has larger
    /// ones.
    pub size: u64,
    /// The number of parts of an object that are copied at the same time.
    pub in_flight: usize,
}

impl Default for Parts {
    /// `CopyObject` can copy up to 5 GB (S3's user guide, "Copying objects"), but takes minutes for that, and an
    /// interrupted copy leaves nothing. A part takes seconds.
    fn default() -> Self {
        Self { above: 1 << 30, size: 128 << 20, in_flight: 8 }
    }
}

impl Parts {
    /// The maximum number of parts of an object (the same guide, "Amazon S3 multipart upload limits").
    const MOST: u64 = 10_000;

    /// The bytes of each part of an object except the last.
    fn size_for(&self, object: u64) -> u64 {
        self.size.max(object.div_ceil(Self::MOST))
    }
}

/// How long S3 may take to copy an object or a part, or to complete an upload, because it answers when it is done.
const COPY_ATTEMPT: Duration = Duration::from_secs(180);
/// The time limits with all retries: of an object's copy, which isn't retried, and of a part's copy, which is retried
/// at least once.
const COPY: Duration = Duration::from_secs(200);
const PART: Duration = Duration::from_secs(400);

/// The metadata with the source's ETag. The copy's own ETag may differ, under KMS or when copied in parts.
const SOURCE_ETAG: &str = "milvault-source-etag";
/// The metadata with the backup that the copy was made for. It identifies a copy whose answer was lost and that is
/// later found to exist.
const STORED_BY: &str = "milvault-stored-by";

type ClientFactory = Box<dyn Fn(&Region) -> Client + Send + Sync>;

/// S3 in any region, with one client per region.
pub struct S3Objects {
    make: ClientFactory,
    clients: Mutex<HashMap<Region, Clients>>,
    parts: Parts,
}

/// The clients of a region.
#[derive(Clone)]
struct Clients {
    /// For short requests. Retries temporary errors.
    patient: Client,
    /// For copies, of which many run at once. Doesn't retry, so that the caller learns at once that S3 wants fewer
    /// requests.
    prompt: Client,
    /// For copying parts and completing uploads. Retries temporary errors rather than give up the whole object.
    parts: Client,
}

impl Clients {
    fn of(patient: Client) -> Self {
        let prompt = copying(&patient, COPY).retry_config(RetryConfig::disabled());
        let parts = copying(&patient, PART);
        Self { prompt: Client::from_conf(prompt.build()), parts: Client::from_conf(parts.build()), patient }
    }
}

/// The client's configuration with the time limits of copies.
fn copying(client: &Client, operation: Duration) -> Builder {
    let base = client.config().timeout_config();
    let timeouts = base.map_or_else(TimeoutConfig::builder, TimeoutConfig::to_builder);
    // Every limit is set, because an unset one would be taken from the client.
    let timeouts = timeouts.disable_read_timeout().operation_attempt_timeout(COPY_ATTEMPT).operation_timeout(operation);
    let config = client.config().to_builder().timeout_config(timeouts.build());
    // Stalled-stream protection would end a copy whose answer begins before its result is known: until then, S3 only
    // sends white space.
    config.stalled_stream_protection(StalledStreamProtectionConfig::disabled())
}

impl S3Objects {
    /// Makes an adapter that makes its clients with `make`, one per region.
    pub fn new(make: impl Fn(&Region) -> Client + Send + Sync + 'static) -> Self {
        Self { make: Box::new(make), clients: Mutex::new(HashMap::new()), parts: Parts::default() }
    }

    /// The same adapter with another part size, so that copies in parts can be tested without storing gigabytes.
    pub fn with_parts(self, parts: Parts) -> Self {
        Self { parts, ..self }
    }

    fn client(&self, bucket: &Bucket) -> Client {
        self.clients(bucket).patient
    }

    fn clients(&self, bucket: &Bucket) -> Clients {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        let make = || Clients::of((self.make)(&bucket.region));
        clients.entry(bucket.region.clone()).or_insert_with(make).clone()
    }

    /// The object at a copy's destination, compared with the copy; `None` if there is none.
    async fn destination(&self, request: &CopyRequest<'_>) -> Result<Option<CopyOutcome>, ObjectsError> {
        let head = self.client(request.to).head_object().bucket(&request.to.name).key(request.to_key).send().await;
        let head = match head {
            Ok(head) => head,
            Err(error) => {
                return match answer(&error) {
                    Answer::NotFound => Ok(None),
                    other => Err(plain(other, request.to, &error)),
                };
            }
        };
        let etag = unquoted(head.e_tag());
        let size = head.content_length().and_then(|size| u64::try_from(size).ok());
        let source_etag = head.metadata().and_then(|metadata| metadata.get(SOURCE_ETAG));
        let same = size == Some(request.size)
            && (source_etag.is_some_and(|source| source == request.from_etag) || etag == request.from_etag);
        let stored_by = head.metadata().and_then(|metadata| metadata.get(STORED_BY)).cloned();
        Ok(Some(if same { CopyOutcome::AlreadyThere { etag, stored_by } } else { CopyOutcome::Occupied }))
    }
}

/// An ETag without the quotes that S3 adds.
fn unquoted(etag: Option<&str>) -> String {
    etag.unwrap_or_default().trim_matches('"').to_owned()
}

fn quoted(etag: &str) -> String {
    format!("\"{etag}\"")
}

/// A lock's end in whole seconds, as S3 stores it, rounded up.
fn seconds(time: Time) -> DateTime {
    DateTime::from_secs(time.timestamp() + i64::from(time.timestamp_subsec_nanos() > 0))
}

async fn bytes_of(body: ByteStream, key: &str) -> Result<Vec<u8>, ObjectsError> {
    let collected = body.collect().await;
    Ok(collected.map_err(|error| ObjectsError::Unavailable(format!("reading {key}: {error}")))?.to_vec())
}

/// The characters that S3 requires to be encoded in the source of a copy: all but the unreserved ones of RFC 3986 and the
/// slash.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b'/');

/// The source of a copy, with the URL-encoded key that S3 requires.
fn copy_source(bucket: &Bucket, key: &str) -> String {
    format!("{}/{}", bucket.name, utf8_percent_encode(key, ENCODED))
}

#[async_trait]
impl Objects for S3Objects {
    async fn list(&self, bucket: &Bucket, prefix: &str, after: Option<&str>) -> Result<Page<ObjectMeta>, ObjectsError> {
        let request = self.client(bucket).list_objects_v2().bucket(&bucket.name).prefix(prefix);
        let listing = request.set_start_after(after.map(str::to_owned)).send().await;
        let listing = listing.map_err(|error| plain(answer(&error), bucket, &error))?;
        let items: Vec<ObjectMeta> = listing
            .contents()
            .iter()
            .map(|object| ObjectMeta {
                key: object.key().unwrap_or_default().to_owned(),
                size: object.size().and_then(|size| u64::try_from(size).ok()).unwrap_or_default(),
                etag: unquoted(object.e_tag()),
            })
            .collect();
        let next = match (listing.is_truncated().unwrap_or_default(), items.last()) {
            (true, Some(last)) => Some(last.key.clone()),
            (false, _) => None,
            (true, None) => {
                return Err(ObjectsError::Unavailable(format!("a page of {prefix} is empty and not the last")));
            }
        };
        Ok(Page { items, next })
    }

    async fn copy(&self, request: CopyRequest<'_>) -> Result<CopyOutcome, ObjectsError> {
        if request.size > self.parts.above {
            return self.copy_in_parts(&request).await;
        }
        let copied = self
            .clients(request.to)
            .prompt
            .copy_object()
            .copy_source(copy_source(request.from, request.from_key))
            .copy_source_if_match(quoted(request.from_etag))
            .bucket(&request.to.name)
            .key(request.to_key)
            .if_none_match("*")
            .metadata_directive(MetadataDirective::Replace)
            .metadata(SOURCE_ETAG, request.from_etag)
            .metadata(STORED_BY, request.stored_by)
            .send()
            .await;
        match copied {
            // The SDK also reports an answer of 200 with an error in its body as an error.
            Ok(copied) => {
                let etag = unquoted(copied.copy_object_result().and_then(|result| result.e_tag()));
                Ok(CopyOutcome::Copied { etag })
            }
            Err(error) => match answer(&error) {
                Answer::NotFound => Ok(CopyOutcome::SourceGone),
                // The answer doesn't say which of the two conditions failed.
                Answer::ConditionFailed => Ok(self.destination(&request).await?.unwrap_or(CopyOutcome::SourceGone)),
                Answer::Contended => {
                    let there = self.destination(&request).await?;
                    there.ok_or_else(|| plain_copy(Answer::Contended, &request, &error))
                }
                other => Err(plain_copy(other, &request, &error)),
            },
        }
    }

    async fn put(&self, bucket: &Bucket, key: &str, body: Vec<u8>, mode: PutMode) -> Result<PutOutcome, ObjectsError> {
        let mut request = self.client(bucket).put_object().bucket(&bucket.name).key(key);
        if mode == PutMode::IfAbsent {
            request = request.if_none_match("*");
        }
        match request.body(ByteStream::from(body)).send().await {
            Ok(_) => Ok(PutOutcome::Stored),
            Err(error) => match answer(&error) {
                Answer::ConditionFailed => Ok(PutOutcome::Occupied),
                other => Err(plain(other, bucket, &error)),
            },
        }
    }

    async fn get(&self, bucket: &Bucket, key: &str) -> Result<Option<Vec<u8>>, ObjectsError> {
        match self.client(bucket).get_object().bucket(&bucket.name).key(key).send().await {
            Ok(object) => Ok(Some(bytes_of(object.body, key).await?)),
            Err(error) => match answer(&error) {
                Answer::NotFound => Ok(None),
                other => Err(plain(other, bucket, &error)),
            },
        }
    }

    async fn get_range(&self, bucket: &Bucket, key: &str, range: Range<u64>) -> Result<Option<Vec<u8>>, ObjectsError> {
        // S3 refuses an empty range.
        if range.is_empty() {
            return Ok(Some(Vec::new()));
        }
        let bytes = format!("bytes={}-{}", range.start, range.end - 1);
        match self.client(bucket).get_object().bucket(&bucket.name).key(key).range(bytes).send().await {
            Ok(object) => Ok(Some(bytes_of(object.body, key).await?)),
            Err(error) => match answer(&error) {
                Answer::NotFound => Ok(None),
                Answer::BeyondEnd => Ok(Some(Vec::new())),
                other => Err(plain(other, bucket, &error)),
            },
        }
    }

    async fn delete(&self, bucket: &Bucket, keys: &[String]) -> Result<(), ObjectsError> {
        // S3 removes at most a thousand objects at once.
        for keys in keys.chunks(1000) {
            let objects: Result<Vec<_>, _> =
                keys.iter().map(|key| ObjectIdentifier::builder().key(key).build()).collect();
            let delete = objects.and_then(|objects| Delete::builder().set_objects(Some(objects)).quiet(true).build());
            let delete = delete.map_err(|error| ObjectsError::Unavailable(error.to_string()))?;
            let answered = self.client(bucket).delete_objects().bucket(&bucket.name).delete(delete).send().await;
            let answered = answered.map_err(|error| plain(answer(&error), bucket, &error))?;
            if let Some(failed) = answered.errors().first() {
                let code = failed.code().unwrap_or_default();
                if refuses_bucket(code) {
                    return Err(ObjectsError::Bucket { bucket: bucket.name.clone(), reason: code.to_owned() });
                }
                return Err(ObjectsError::Unavailable(format!(
                    "{} of {} objects couldn't be removed, such as {}: {}",
                    answered.errors().len(),
                    keys.len(),
                    failed.key().unwrap_or_default(),
                    code,
                )));
            }
        }
        Ok(())
    }

    async fn locking(&self, bucket: &Bucket) -> Result<Option<Locking>, ObjectsError> {
        let answered = self.client(bucket).get_object_lock_configuration().bucket(&bucket.name).send().await;
        let configuration = match answered {
            Ok(answered) => answered.object_lock_configuration,
            Err(error) if is_without_lock(&error) => None,
            Err(error) => return Err(plain(answer(&error), bucket, &error)),
        };
        let default = configuration.and_then(|configuration| configuration.rule?.default_retention);
        Ok(default.and_then(|default| {
            let days = default.days.or_else(|| default.years?.checked_mul(365))?;
            let mode = match default.mode? {
                ObjectLockRetentionMode::Governance => LockMode::Governance,
                // An unknown mode counts as the stricter one.
                _ => LockMode::Compliance,
            };
            Some(Locking { mode, period: TimeDelta::days(days.into()) })
        }))
    }

    async fn lock(&self, bucket: &Bucket, key: &str, mode: LockMode, until: Time) -> Result<(), ObjectsError> {
        let mode = match mode {
            LockMode::Governance => ObjectLockRetentionMode::Governance,
            LockMode::Compliance => ObjectLockRetentionMode::Compliance,
        };
        let client = self.client(bucket);
        let lock = async |mode: ObjectLockRetentionMode| {
            let retention = ObjectLockRetention::builder().mode(mode).retain_until_date(seconds(until)).build();
            client.put_object_retention().bucket(&bucket.name).key(key).retention(retention).send().await
        };
        let Err(error) = lock(mode.clone()).await else { return Ok(()) };
        if is_gone(&error) {
            return Ok(());
        }
        // A lock is never shortened and its mode never changed, but the refusal doesn't say that this is the reason.
        let present = client.get_object_retention().bucket(&bucket.name).key(key).send().await;
        let present = present.ok().and_then(|present| present.retention);
        if present.as_ref().and_then(|lock| lock.retain_until_date).is_some_and(|end| end.secs() >= until.timestamp()) {
            return Ok(());
        }
        match present.and_then(|lock| lock.mode).filter(|present| *present != mode) {
            Some(present) => lock(present).await.map(drop).map_err(|error| plain(answer(&error), bucket, &error)),
            None => Err(plain(answer(&error), bucket, &error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use aws_sdk_s3::config::BehaviorVersion;

    use super::*;

    #[test]
    fn copies_of_every_kind_outlive_small_requests_and_silence() {
        let seconds = Duration::from_secs;
        let small = TimeoutConfig::builder()
            .connect_timeout(seconds(3))
            .read_timeout(seconds(4))
            .operation_attempt_timeout(seconds(5))
            .operation_timeout(seconds(20))
            .build();
        let config = aws_sdk_s3::Config::builder().behavior_version(BehaviorVersion::latest());
        let clients = Clients::of(Client::from_conf(config.timeout_config(small.clone()).build()));
        assert_eq!(clients.patient.config().timeout_config(), Some(&small));
        for (client, operation) in [(&clients.prompt, 200), (&clients.parts, 400)] {
            let limits = TimeoutConfig::builder()
                .connect_timeout(seconds(3))
                .disable_read_timeout()
                .operation_attempt_timeout(seconds(180))
                .operation_timeout(seconds(operation));
            assert_eq!(client.config().timeout_config(), Some(&limits.build()), "{operation}");
            let watched = client.config().stalled_stream_protection();
            assert!(watched.is_some_and(|watched| !watched.is_enabled()), "{operation}");
        }
    }

    #[test]
    fn an_object_has_no_more_parts_than_s3_takes() {
        let parts = Parts::default();
        assert_eq!(parts.size_for(5 << 30), 128 << 20);
        // The largest object that S3 stores.
        for object in [5_u64 << 40, 50 << 40, (50 << 40) - 1] {
            assert!(object.div_ceil(parts.size_for(object)) <= 10_000, "{object}");
        }
    }

    #[test]
    fn the_source_of_a_copy_is_url_encoded() {
        let bucket = Bucket { region: "eu-west-1".parse().unwrap(), name: "data".into() };
        assert_eq!(copy_source(&bucket, "files/a b+ä.log"), "data/files/a%20b%2B%C3%A4.log");
    }
}
