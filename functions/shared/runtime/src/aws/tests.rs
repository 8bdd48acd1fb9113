//! Tests of the clients against slow servers for S3 and Lambda.

use std::{
    collections::BTreeSet,
    panic::AssertUnwindSafe,
    time::{Duration, Instant},
};

use aws_credential_types::Credentials;
use chrono::{DateTime, TimeDelta};
use futures::{
    FutureExt,
    future::{BoxFuture, join_all},
};
use milvault_milvus::{SecretError, SecretSource};
use milvault_model::Copied;
use milvault_ports::{
    Bucket, Continuation, CopyEnd, CopyOutcome, CopyReport, CopyRequest, CopyTask, CopyWorkers, Objects, ObjectsError,
};
use milvault_s3::Parts;

use super::{
    slow::{Asked, Slow},
    *,
};
use crate::secrets::client_in;

/// How much longer than its limit an operation may take, on a machine that does other work too.
const GRACE: Duration = Duration::from_secs(8);
const SIZE: u64 = 20;

/// Settings for this address, with credentials that don't come from the test's environment.
fn config_at(address: &str) -> SdkConfig {
    let variables = [
        ("AWS_REGION", "eu-west-1"),
        ("AWS_ENDPOINT_URL", address),
        ("ALLOWED_ENDPOINTS", "10.0.0.0/8"),
        ("CATALOG_TABLE", "catalog"),
        ("SNAPSHOT_BUCKET", "snapshots"),
        ("CURSOR_KEY", "7d9c1fe0"),
        ("CREATE_BACKUP_FUNCTION", "worker"),
        ("RESTORE_FUNCTION", "restore"),
        ("SCHEDULE_GROUP", "milvault"),
        ("SCHEDULED_FUNCTION_ARN", "arn:aws:lambda:eu-west-1:123456789012:function:create-backup"),
        ("SCHEDULE_ROLE_ARN", "arn:aws:iam::123456789012:role/schedules"),
        ("SCHEDULE_DEAD_LETTERS_ARN", "arn:aws:sqs:eu-west-1:123456789012:dead-letters"),
    ];
    let find = |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
    let credentials = Credentials::new("a", "b", None, None, "test");
    config(&Environment::read(find).unwrap())
        .into_builder()
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .build()
}

#[test]
fn every_client_has_all_of_its_time_limits() {
    let config = config_at("http://127.0.0.1:9");
    let seconds = |attempt, operation| {
        let limits = TimeoutConfig::builder()
            .connect_timeout(Duration::from_secs(3))
            .operation_attempt_timeout(Duration::from_secs(attempt))
            .operation_timeout(Duration::from_secs(operation));
        // The limit is set explicitly, because an unset limit is taken from another configuration.
        limits.disable_read_timeout().build()
    };
    let small = seconds(5, 20);
    let region: Region = "eu-west-1".parse().unwrap();
    for (client, limits, expected) in [
        ("DynamoDB", aws_sdk_dynamodb::Client::new(&config).config().timeout_config(), &small),
        ("Scheduler", aws_sdk_scheduler::Client::new(&config).config().timeout_config(), &small),
        ("EventBridge", aws_sdk_eventbridge::Client::new(&config).config().timeout_config(), &small),
        ("Secrets Manager", client_in(&config, None).config().timeout_config(), &small),
        ("S3", s3_client(&config, &region).config().timeout_config(), &seconds(10, 20)),
        ("Lambda", lambda_client(&config).config().timeout_config(), &seconds(10, 10)),
        ("Lambda, waiting", waiting_client(&config).config().timeout_config(), &seconds(180, 180)),
    ] {
        assert_eq!(limits, Some(expected), "{client}");
    }
}

/// The functions' clients, connected to a slow server.
struct World {
    config: SdkConfig,
    slow: Slow,
}

impl World {
    async fn new() -> Self {
        let (slow, address) = Slow::start().await;
        Self { config: config_at(&address), slow }
    }

    fn objects(&self) -> S3Objects {
        let config = self.config.clone();
        S3Objects::new(move |region| s3_client(&config, region))
    }

    fn bucket(name: &str) -> Bucket {
        Bucket { region: "eu-west-1".parse().unwrap(), name: name.to_owned() }
    }

    async fn copy(&self, objects: S3Objects, bucket: &str) -> Result<CopyOutcome, ObjectsError> {
        let (from, to) = (Self::bucket("data"), Self::bucket(bucket));
        let request = CopyRequest {
            from: &from,
            from_key: "files/insert_log/1/2/3/0/4",
            from_etag: "e",
            size: SIZE,
            to: &to,
            to_key: "orders/objects/a/1/insert_log/2/3/0/4",
            stored_by: "bk-1",
        };
        objects.copy(request).await
    }

    /// Asserts that a copy with a late answer succeeds.
    async fn copies(&self, bucket: &str) {
        let copied = self.copy(self.objects(), bucket).await;
        assert!(matches!(&copied, Ok(CopyOutcome::Copied { etag }) if etag == "copied"), "{bucket}: {copied:?}");
        assert_eq!(self.slow.asked(bucket), Asked { times: 1, given_up: 0 }, "{bucket}");
    }

    /// Asserts that a copy in two parts succeeds in five requests: one to look for the object, one to begin the upload,
    /// two for the parts and one to complete it.
    async fn copies_in_parts(&self, bucket: &str) {
        let objects = self.objects().with_parts(Parts { above: 0, size: SIZE / 2, ..Parts::default() });
        let copied = self.copy(objects, bucket).await;
        assert!(matches!(&copied, Ok(CopyOutcome::Copied { etag }) if etag == "copied"), "{bucket}: {copied:?}");
        assert_eq!(self.slow.asked(bucket), Asked { times: 5, given_up: 0 }, "{bucket}");
    }

    async fn hears_of_an_error_that_comes_late(&self) {
        let copied = self.copy(self.objects(), "refuses-late").await;
        assert!(matches!(&copied, Err(ObjectsError::Unavailable(why)) if why.contains("SlowDown")), "{copied:?}");
        assert_eq!(self.slow.asked("refuses-late"), Asked { times: 1, given_up: 0 });
    }

    /// Shows that the server notices a client that gives up, so that its count of 0 in other cases means something.
    async fn a_copy_that_is_given_up_is_seen(&self) {
        let copy = self.copy(self.objects(), "given-up");
        tokio::time::timeout(Duration::from_secs(1), copy).await.unwrap_err();
        let given_up = async {
            while self.slow.asked("given-up").given_up == 0 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(GRACE, given_up).await.unwrap();
    }

    async fn waits_for_a_worker(&self) {
        let workers = LambdaCopyWorkers { client: waiting_client(&self.config), function: "worker".to_owned() };
        let task = CopyTask {
            instance_id: "orders".parse().unwrap(),
            backup_id: "bk-01JCV4Z7Q8M6W2XN5R3T9Y0KAB".parse().unwrap(),
            region: "eu-west-1".parse().unwrap(),
            fence: 1,
            plan: 1,
            page: 1,
            until: DateTime::UNIX_EPOCH + TimeDelta::days(30_000),
        };
        let report = workers.copy(&task).await.unwrap();
        let copied = Copied { objects: 7, bytes: 70, added_bytes: 70 };
        assert_eq!(report, CopyReport { end: CopyEnd::Whole, copied, gone: BTreeSet::new(), failed_at: None });
        assert_eq!(self.slow.asked("worker"), Asked { times: 1, given_up: 0 });
    }

    /// Asserts that a call that hangs is given up after this time and this number of tries.
    async fn gives_up<T>(&self, what: &str, limit: Duration, tries: usize, call: impl Future<Output = Option<T>>) {
        let began = Instant::now();
        assert!(call.await.is_none(), "{what} never answers");
        let took = began.elapsed();
        assert!(took < limit + GRACE, "{what} took {took:?}");
        assert_eq!(self.slow.asked(what).times, tries, "{what}");
    }

    async fn gives_up_a_secret(&self) {
        let secrets = SecretsManager { config: self.config.clone() };
        let began = Instant::now();
        let secret = secrets.secret("arn:aws:secretsmanager:eu-west-1:123456789012:secret:milvault/orders").await;
        assert!(matches!(secret, Err(SecretError::Unavailable(_))), "{secret:?}");
        assert!(began.elapsed() < OPERATION + GRACE, "{:?}", began.elapsed());
    }

    async fn gives_up_what_hangs(&self) {
        let objects = self.objects();
        let bucket = Self::bucket;
        let (lists, gets) = (bucket("hanging-list"), bucket("hanging-get"));
        let in_parts = self.objects().with_parts(Parts { above: 0, ..Parts::default() });
        let continuation = LambdaContinuation {
            client: lambda_client(&self.config),
            create_backup_function: "hanging-function".to_owned(),
            restore_function: String::new(),
        };
        let instance = "orders".parse().unwrap();
        tokio::join!(
            self.gives_up("hanging-list", OPERATION, 2, async { objects.list(&lists, "", None).await.ok() }),
            self.gives_up("hanging-get", OPERATION, 2, async { objects.get(&gets, "key").await.ok() }),
            // A copy in parts first looks at its destination.
            self.gives_up("hanging-head", OPERATION, 2, async { self.copy(in_parts, "hanging-head").await.ok() }),
            self.gives_up("hanging-function", INVOKE, 1, async {
                continuation.begin_run(&instance, DateTime::UNIX_EPOCH).await.ok()
            }),
        );
    }
}

/// A single test, because its waits are real and should pass at the same time.
#[tokio::test]
async fn what_takes_long_is_waited_for_and_what_hangs_is_given_up() {
    let world = World::new().await;
    let all: [(&str, BoxFuture<'_, ()>); 9] = [
        ("a silent copy", world.copies("silent").boxed()),
        ("a copy kept alive", world.copies("kept-alive").boxed()),
        ("slow parts", world.copies_in_parts("slow-parts").boxed()),
        ("a slow end of parts", world.copies_in_parts("slow-end").boxed()),
        ("an error that comes late", world.hears_of_an_error_that_comes_late().boxed()),
        ("a copy that is given up", world.a_copy_that_is_given_up_is_seen().boxed()),
        ("a worker", world.waits_for_a_worker().boxed()),
        ("what hangs", world.gives_up_what_hangs().boxed()),
        ("a secret", world.gives_up_a_secret().boxed()),
    ];
    let ended = all.map(|(name, case)| async move { (name, AssertUnwindSafe(case).catch_unwind().await.is_err()) });
    let failed: Vec<&str> =
        join_all(ended).await.into_iter().filter(|(_, is_failed)| *is_failed).map(|(name, _)| name).collect();
    assert!(failed.is_empty(), "{failed:?}");
}
