//! Registration of an instance, and changes to it.

use milvault_gateway::{Answer, Findings, Status};
use milvault_jobs::{Error, FieldError, Jobs, Precondition, STAGING_PREFIX, SnapshotBuckets, Tag, retry_on_conflict};
use milvault_model::{AllowedEndpoints, Instance, InstanceId, RootPath, Storage, Time};
use milvault_ports::{Expect, Write};
use milvault_wire::{CheckedInstanceView, InstanceView, Registration};

use crate::{backups::refuse_with_backups, endpoint, preflight};

/// The maximum number of copy workers. One copies some thousand objects a second, and an account has a thousand
/// concurrent invocations for all of its functions.
const MOST_COPY_WORKERS: u8 = 32;

/// What is checked when an instance is registered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Check {
    /// The registration itself only.
    Nothing,
    /// The registration, and then whether the registered instance can be backed up.
    Preflight,
}

/// Registers an instance, or replaces its registration. It makes no connection, because an instance can be registered
/// before it runs; the preflight checks the rest.
pub(crate) async fn put(
    jobs: &Jobs,
    id: InstanceId,
    registration: Registration,
    precondition: &Precondition,
    check: Check,
) -> Result<Answer, Error> {
    self::check(&registration, &jobs.settings.snapshots, &jobs.settings.endpoints)?;
    let (instance, status) = retry_on_conflict(async || put_once(jobs, &id, &registration, precondition).await).await?;
    let preflight = match check {
        Check::Nothing => None,
        // A failed preflight is part of the answer, not a reason to discard the registration.
        Check::Preflight => Some(preflight::preflight(jobs, &id).await?),
    };
    let answer = Answer::new(status, CheckedInstanceView { instance: InstanceView::new(&instance), preflight });
    let answer = answer.with_etag(&Tag::for_instance(&instance));
    Ok(if status == Status::Created { answer.with_location(format!("/instances/{id}")) } else { answer })
}

async fn put_once(
    jobs: &Jobs,
    id: &InstanceId,
    registration: &Registration,
    precondition: &Precondition,
) -> Result<(Instance, Status), Error> {
    let catalog = &jobs.ports.catalog;
    let found = catalog.instance(id).await?;
    precondition.check(found.as_ref().map(|found| Tag::for_instance(&found.value)).as_ref())?;
    let (instance, expect, status) = match found {
        None => {
            let instance = record(registration, id.clone(), jobs.now());
            (instance, Expect::Absent, Status::Created)
        }
        Some(found) => {
            let before = found.value;
            let mut instance = record(registration, id.clone(), before.created_at);
            if instance.endpoint == before.endpoint {
                instance.reported_engine_version.clone_from(&before.reported_engine_version);
            }
            if moves(&before, &instance) {
                jobs.require_idle(id).await?;
            }
            if instance.region != before.region {
                // A backup's bytes are stored and billed in the region that its instance was in.
                refuse_with_backups(jobs, id).await?;
            }
            (instance, Expect::Version(found.version), Status::Ok)
        }
    };
    catalog.commit(vec![Write::Instance(Box::new(instance.clone()), expect)]).await?;
    Ok((instance, status))
}

/// Whether the change would make a running job work on another server or bucket.
fn moves(before: &Instance, after: &Instance) -> bool {
    (&before.endpoint, &before.region, &before.storage) != (&after.endpoint, &after.region, &after.storage)
}

/// The refusal of an endpoint that the template's parameter AllowedEndpoints doesn't allow.
const NOT_ALLOWED: &str = "is a server that the deployment doesn't connect to";

/// The record of a registration.
fn record(registration: &Registration, id: InstanceId, created_at: Time) -> Instance {
    Instance {
        id,
        name: registration.name.clone(),
        endpoint: registration.endpoint.clone(),
        region: registration.region.clone(),
        storage: registration.storage.as_ref().map(|storage| Storage {
            bucket: storage.bucket.clone(),
            root_path: storage.root_path.clone().unwrap_or_default(),
        }),
        auth: registration.auth.clone(),
        management_endpoint: registration.management_endpoint.clone(),
        copy_workers: registration.copy_workers.unwrap_or(1),
        created_at,
        reported_engine_version: None,
    }
}

fn check(registration: &Registration, snapshots: &SnapshotBuckets, allowed: &AllowedEndpoints) -> Result<(), Error> {
    let server = |endpoint: &str| {
        let is_allowed = || if allowed.may_allow(endpoint) { Ok(()) } else { Err(NOT_ALLOWED) };
        endpoint::check(endpoint).and_then(|()| is_allowed()).err()
    };
    let mut findings = Findings::default();
    let mut wrong = |pointer: &str, reason: Option<&str>| {
        findings.note(reason.map(|reason| FieldError::new(pointer, reason)));
    };
    wrong("/name", name(&registration.name));
    wrong("/endpoint", server(&registration.endpoint));
    if let Some(management) = &registration.management_endpoint {
        wrong("/managementEndpoint", server(management));
    }
    let workers = registration.copy_workers.is_some_and(|workers| !(1..=MOST_COPY_WORKERS).contains(&workers));
    wrong("/copyWorkers", workers.then_some("is a number from 1 to 32"));
    if let Some(storage) = &registration.storage {
        wrong("/storage/bucket", bucket(&storage.bucket, snapshots));
        wrong("/storage/rootPath", storage.root_path.as_ref().and_then(root_path));
    }
    if let Some(auth) = &registration.auth {
        wrong("/auth/secretArn", secret_arn(&auth.secret_arn));
    }
    findings.report()
}

fn name(name: &str) -> Option<&'static str> {
    let fits = (1..=128).contains(&name.chars().count()) && !name.chars().any(char::is_control) && name.trim() == name;
    (!fits).then_some("has 1 to 128 characters, none of them a control character, and no blanks at its ends")
}

fn bucket<'a>(bucket: &str, snapshots: &SnapshotBuckets) -> Option<&'a str> {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
    let ends = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let is_bucket = (3..=63).contains(&bucket.len())
        && bucket.chars().all(allowed)
        && bucket.starts_with(ends)
        && bucket.ends_with(ends)
        && !bucket.contains("..");
    if !is_bucket {
        Some("is not a bucket's name: 3 to 63 lower-case letters, digits, '-' and '.'")
    } else if snapshots.iter().any(|snapshots| snapshots.name == bucket) {
        Some("is the bucket that snapshots are kept in; an instance's data is in one of its own")
    } else {
        None
    }
}

fn root_path(path: &RootPath) -> Option<&'static str> {
    path.prefix()
        .starts_with(STAGING_PREFIX)
        .then_some("is where restores stage their data, which must not be among the live data")
}

fn secret_arn(arn: &str) -> Option<&'static str> {
    // arn:partition:secretsmanager:region:account:secret:name
    let parts: Vec<&str> = arn.split(':').collect();
    let is_arn = parts.len() == 7
        && parts[0] == "arn"
        && parts[2] == "secretsmanager"
        && parts[5] == "secret"
        && arn.len() <= 2048
        && arn.bytes().all(|c| c.is_ascii_graphic())
        && parts.iter().all(|part| !part.is_empty());
    (!is_arn)
        .then_some("is not the ARN of a Secrets Manager secret: 'arn:aws:secretsmanager:region:account:secret:name'")
}

#[cfg(test)]
mod tests {
    use milvault_ports::Bucket;
    use serde_json::{Value, json};

    use super::*;

    fn whole() -> Value {
        json!({
            "name": "orders", "endpoint": "http://10.0.3.17:19530", "region": "eu-west-1",
            "storage": { "bucket": "milvus-data", "rootPath": "files" },
            "auth": { "secretArn": "arn:aws:secretsmanager:eu-west-1:123456789012:secret:milvus-AbCdEf" },
            "managementEndpoint": "http://10.0.3.17:9091"
        })
    }

    fn pointers(registration: Value) -> Vec<String> {
        let registration: Registration = serde_json::from_value(registration).unwrap();
        let home = Bucket { region: "eu-west-1".parse().unwrap(), name: "snapshots".to_owned() };
        match check(&registration, &SnapshotBuckets::new(home, []), &AllowedEndpoints::any()) {
            Ok(()) => Vec::new(),
            Err(Error::Invalid(found)) => found.into_iter().map(|found| found.pointer).collect(),
            Err(other) => panic!("{other}"),
        }
    }

    fn with(pointer: &str, value: &str) -> Vec<String> {
        let mut registration = whole();
        *registration.pointer_mut(pointer).unwrap() = json!(value);
        pointers(registration)
    }

    #[test]
    fn a_whole_registration_and_the_smallest_one_are_fine() {
        assert!(pointers(whole()).is_empty());
        assert!(pointers(json!({ "name": "a", "endpoint": "http://a:1", "region": "eu-west-1" })).is_empty());
    }

    #[test]
    fn a_server_that_nobody_may_connect_to_is_not_registered() {
        assert_eq!(with("/endpoint", "http://169.254.169.254:80"), ["/endpoint"]);
        assert_eq!(with("/managementEndpoint", "http://127.0.0.1:9001"), ["/managementEndpoint"]);
    }

    #[test]
    fn every_wrong_field_is_pointed_at_in_one_answer() {
        let mut wrong = whole();
        for pointer in ["/name", "/endpoint", "/managementEndpoint", "/storage/bucket"] {
            *wrong.pointer_mut(pointer).unwrap() = json!("");
        }
        *wrong.pointer_mut("/storage/rootPath").unwrap() = json!("milvault-staging");
        assert_eq!(
            pointers(wrong),
            ["/name", "/endpoint", "/managementEndpoint", "/storage/bucket", "/storage/rootPath"]
        );
    }

    #[test]
    fn a_bucket_and_its_root_path_can_not_be_where_our_own_objects_are() {
        assert_eq!(with("/storage/bucket", "snapshots"), ["/storage/bucket"]);
        for bad in ["Milvus", "ab", "-ab", "a..b", "a/b", "a_b"] {
            assert_eq!(with("/storage/bucket", bad), ["/storage/bucket"], "{bad}");
        }
        for bad in ["milvault-staging", "/milvault-staging/", "milvault-staging/x"] {
            assert_eq!(with("/storage/rootPath", bad), ["/storage/rootPath"], "{bad}");
        }
        assert!(with("/storage/rootPath", "milvault-staging-2").is_empty());
    }

    #[test]
    fn a_root_path_is_taken_as_milvus_takes_it_and_kept_in_one_form() {
        let kept = |storage: Value| {
            let mut registration = whole();
            registration["storage"] = storage;
            let registration: Registration = serde_json::from_value(registration).unwrap();
            let instance = record(&registration, "orders".parse().unwrap(), chrono::DateTime::UNIX_EPOCH);
            instance.storage.unwrap().root_path.to_string()
        };
        assert_eq!(kept(json!({ "bucket": "milvus-data" })), "");
        for (given, stored) in [("", ""), ("/", ""), ("/files/", "files"), ("a/b/c", "a/b/c"), ("a/b/", "a/b")] {
            assert_eq!(kept(json!({ "bucket": "milvus-data", "rootPath": given })), stored, "{given}");
            assert!(with("/storage/rootPath", given).is_empty(), "{given}");
        }
        for bad in ["a//b", "..", "a/../b", "."] {
            let mut registration = whole();
            registration["storage"]["rootPath"] = json!(bad);
            assert!(serde_json::from_value::<Registration>(registration).is_err(), "{bad}");
        }
    }

    #[test]
    fn only_the_arn_of_a_secret_is_taken_never_a_password() {
        for bad in ["hunter2", "arn:aws:s3:::bucket", "arn:aws:secretsmanager:::secret:x"] {
            assert_eq!(with("/auth/secretArn", bad), ["/auth/secretArn"], "{bad}");
        }
    }
}
