//! The preflight checks: whether an instance can be backed up and restored, by trying everything that both need.

use std::time::Duration;

use chrono::TimeDelta;
use milvault_jobs::{
    Error, Jobs, STAGING_PREFIX,
    backup::{SourceData, data_missing, find_data},
    probe_key,
};
use milvault_model::{CollectionName, EngineVersion, Instance, InstanceId, Principal, Support, Time, Visibility};
use milvault_ports::{
    Bucket, CatalogError, Expect, GarbageHold, Milvus, MilvusError, ObjectsError, PutMode, Versioned, Write,
};
use milvault_wire::{CheckName, CheckStatus, CheckView, PreflightView};

/// The time limit of one check. The caller waits for all of them, for at most 30 seconds.
const PATIENCE: Duration = Duration::from_secs(8);

/// How long a hold made for the check lasts. A server keeps the longer of two holds, so this one doesn't shorten a
/// backup's.
const TRIED_HOLD: Duration = Duration::from_secs(1);

/// The largest acceptable difference of the clocks. Points in time come from the server's clock, so a larger difference
/// would mislead users who choose a backup.
const CLOCKS_APART: TimeDelta = TimeDelta::seconds(60);

/// Runs all checks, and stores the version that the server reports.
pub(crate) async fn preflight(jobs: &Jobs, id: &InstanceId) -> Result<PreflightView, Error> {
    let found = jobs.instance(id).await?;
    let instance = &found.value;
    let ((mut checks, version), visibility, buckets, data, hold, clocks) = tokio::join!(
        server(jobs, instance),
        visibility(jobs, instance),
        buckets(jobs, instance),
        data(jobs, instance),
        hold(jobs, instance),
        clocks(jobs, instance)
    );
    checks.push(visibility);
    checks.extend(buckets);
    checks.extend([data, hold, clocks]);
    if let Some(version) = version {
        remember(jobs, found, version).await?;
    }
    let ok = checks.iter().all(|check| check.status != CheckStatus::Failed);
    Ok(PreflightView { ok, checks })
}

/// The checks of the server, and the version that it reports.
async fn server(jobs: &Jobs, instance: &Instance) -> (Vec<CheckView>, Option<String>) {
    use CheckName::{Authenticated, Reachable, Version};

    let asked = within_patience(async {
        let milvus = jobs.ports.milvus.connect(instance).await?;
        let version = milvus.version().await?;
        // Some servers report their version to anyone. A call that only a user may make shows whether the credentials
        // work.
        Ok::<_, MilvusError>((version, milvus.databases().await))
    })
    .await;
    let (version, databases) = match asked {
        Ok(answers) => answers,
        Err(error) => {
            let unknown = |name: CheckName| name.skipped("the server gave no answer");
            let checks = match error {
                MilvusError::Unreachable(_) | MilvusError::NotReady(_) | MilvusError::RateLimited(_) => {
                    vec![Reachable.failed(error.to_string()), unknown(Authenticated), unknown(Version)]
                }
                _ => {
                    let reachable = Reachable.skipped("not checked: the connection needs working credentials first");
                    vec![reachable, Authenticated.failed(error.to_string()), unknown(Version)]
                }
            };
            return (checks, None);
        }
    };
    let authenticated = match databases {
        Ok(databases) => Authenticated.passed(format!("{} databases{}", databases.len(), caution(instance))),
        Err(error) => Authenticated.failed(error.to_string()),
    };
    let checks = vec![Reachable.passed(instance.endpoint.clone()), authenticated, engine(&version)];
    (checks, Some(version))
}

/// Checks which user the server answers as, whether that user sees everything, and whether it may make a backup's
/// calls.
async fn visibility(jobs: &Jobs, instance: &Instance) -> CheckView {
    let name = CheckName::Visibility;
    let asked = within_patience(async {
        let milvus = jobs.ports.milvus.connect(instance).await?;
        Ok((milvus.principal().await?, refused(milvus.as_ref()).await?))
    });
    match asked.await {
        Ok((principal, refused)) => seen(name, &principal, &refused),
        Err(_) => name.skipped("the server gave no answer"),
    }
}

fn seen(name: CheckName, principal: &Principal, refused: &[String]) -> CheckView {
    let who = principal.user.as_ref().map_or_else(|| "everyone".to_owned(), |user| format!("user {user}"));
    let seen = match &principal.visibility {
        Visibility::Everything => format!("as {who}, who sees everything"),
        Visibility::Unsure { reason } => {
            format!(
                "{reason}; a backup of everything contains what this user sees, and reports that it may be incomplete"
            )
        }
    };
    match (refused, &principal.visibility) {
        ([], Visibility::Everything) => name.passed(seen),
        ([], Visibility::Unsure { .. }) => name.warning(seen),
        (refused, _) => {
            name.warning(format!("{seen}; a backup needs privileges that {who} doesn't have: {}", refused.join("; ")))
        }
    }
}

/// The refusals of a backup's calls on the first visible collection, in the server's words, which name the privilege.
/// Nothing is flushed.
async fn refused(milvus: &dyn Milvus) -> Result<Vec<String>, MilvusError> {
    let mut refused = Vec::new();
    for database in milvus.databases().await? {
        note(milvus.database_properties(&database).await.map(drop), &mut refused);
        let Some((collection, _)) = milvus.collections(&database).await?.into_iter().next() else { continue };
        let collection = CollectionName::new(database, collection);
        note(milvus.describe(&collection).await.map(drop), &mut refused);
        note(milvus.segments(&collection).await.map(drop), &mut refused);
        break;
    }
    Ok(refused)
}

/// Notes a refusal. Other errors say nothing about privileges.
fn note(result: Result<(), MilvusError>, refused: &mut Vec<String>) {
    if let Err(MilvusError::Forbidden(reason)) = result {
        refused.push(reason);
    }
}

/// A warning about how the credentials were sent.
fn caution(instance: &Instance) -> &'static str {
    match instance.auth.is_some() && instance.endpoint.starts_with("http://") {
        true => "; the credentials were sent without TLS: let nobody else into that network, or use https://",
        false => "",
    }
}

fn engine(version: &str) -> CheckView {
    let name = CheckName::Version;
    match EngineVersion::gate(version) {
        Support::Supported => name.passed(format!("{version} is supported")),
        Support::UpgradeTo(upgrade) => {
            name.failed(format!("{version} is not supported: upgrade to {upgrade} or later"))
        }
        Support::Unknown => name.failed(format!("'{version}' is not a version that backup and restore know")),
    }
}

/// Checks whether the server keeps the files of dropped segments while a backup copies them. A server that doesn't can
/// still be backed up, because a missing file is noticed.
async fn hold(jobs: &Jobs, instance: &Instance) -> CheckView {
    let name = CheckName::GarbageCollectionHold;
    if instance.management_endpoint.is_none() {
        return name.skipped("the instance is registered without its management endpoint");
    }
    let asked = within_patience(async {
        let milvus = jobs.ports.milvus.connect(instance).await?;
        let hold = milvus.hold_garbage(TRIED_HOLD).await?;
        // A hold without a ticket isn't released, because that would end a running backup's hold too. It ends by
        // itself.
        if matches!(hold, GarbageHold::Held { ticket: Some(_) }) {
            milvus.release_garbage(&hold).await?;
        }
        Ok(hold)
    });
    match asked.await {
        Ok(GarbageHold::Held { .. }) => name.passed("held during a backup"),
        Ok(GarbageHold::NotOffered) => name.skipped("the server doesn't offer it"),
        Err(error) => name.failed(error.to_string()),
    }
}

/// Checks whether the server's clock agrees with this service's.
async fn clocks(jobs: &Jobs, instance: &Instance) -> CheckView {
    let name = CheckName::Clocks;
    let before = jobs.now();
    match within_patience(async { jobs.ports.milvus.connect(instance).await?.clock().await }).await {
        Ok(Some(theirs)) => compared(before, theirs, jobs.now()),
        Ok(None) => name.skipped("the server doesn't tell its time"),
        Err(_) => name.skipped("the server gave no answer"),
    }
}

/// Compares the server's time with the times of this service's clock before and after it was read.
fn compared(before: Time, theirs: Time, after: Time) -> CheckView {
    let apart = (before - theirs).max(theirs - after).max(TimeDelta::zero());
    let detail = format!("the server's clock and ours are {} s apart", apart.num_seconds());
    if apart <= CLOCKS_APART { CheckName::Clocks.passed(detail) } else { CheckName::Clocks.failed(detail) }
}

async fn within_patience<T>(asked: impl Future<Output = Result<T, MilvusError>>) -> Result<T, MilvusError> {
    tokio::time::timeout(PATIENCE, asked).await.unwrap_or_else(|_| Err(MilvusError::Unreachable(no_answer())))
}

async fn buckets(jobs: &Jobs, instance: &Instance) -> Vec<CheckView> {
    let snapshots = jobs.settings.snapshots.for_instance_in(&instance.region);
    let id = jobs.ports.ids.ulid(jobs.now());
    let kept = bounded(probe(jobs, snapshots, probe_key(&format!("{}/", instance.id), id)));
    let (data, storage) = match Bucket::of_data(instance) {
        Ok(found) => found,
        Err(error) => {
            let skipped = |name: CheckName| name.skipped(error.to_string());
            let kept = outcome(CheckName::SnapshotBucketWritable, kept.await, snapshots);
            return vec![skipped(CheckName::DataBucketReadable), skipped(CheckName::StagingWritable), kept];
        }
    };
    let prefix = storage.root_path.prefix();
    let read = bounded(async { jobs.ports.objects.list(&data, &prefix, None).await.map(drop) });
    let staged = bounded(probe(jobs, &data, probe_key(STAGING_PREFIX, id)));
    let (read, staged, kept) = tokio::join!(read, staged, kept);
    vec![
        outcome(CheckName::DataBucketReadable, read, &data),
        outcome(CheckName::StagingWritable, staged, &data),
        outcome(CheckName::SnapshotBucketWritable, kept, snapshots),
    ]
}

/// Checks whether the storage is the one that the server keeps its data in.
async fn data(jobs: &Jobs, instance: &Instance) -> CheckView {
    let name = CheckName::DataFound;
    let storage = match Bucket::of_data(instance) {
        Ok((_, storage)) => storage,
        Err(error) => return name.skipped(error.to_string()),
    };
    match tokio::time::timeout(PATIENCE, find_data(jobs, instance)).await {
        Ok(Ok(SourceData::Found(found))) => name.passed(format!("segment {} of {}", found.id, found.collection)),
        Ok(Ok(SourceData::Unknown)) => name.skipped("the server has no rows in its object storage yet to look for"),
        Ok(Ok(SourceData::Missing(segment))) => name.failed(data_missing(storage, &segment).to_string()),
        Ok(Err(Error::Objects(error))) => name.failed(error.to_string()),
        Ok(Err(_)) => name.skipped("the server gave no answer"),
        Err(_) => name.skipped(no_answer()),
    }
}

/// Checks that an object can be written and removed.
async fn probe(jobs: &Jobs, bucket: &Bucket, key: String) -> Result<(), ObjectsError> {
    let objects = jobs.ports.objects.as_ref();
    objects.put(bucket, &key, b"preflight".to_vec(), PutMode::Replace).await?;
    objects.delete(bucket, &[key]).await
}

async fn bounded(check: impl Future<Output = Result<(), ObjectsError>>) -> Result<(), ObjectsError> {
    tokio::time::timeout(PATIENCE, check).await.unwrap_or_else(|_| Err(ObjectsError::Unavailable(no_answer())))
}

fn outcome(name: CheckName, outcome: Result<(), ObjectsError>, bucket: &Bucket) -> CheckView {
    match outcome {
        Ok(()) => name.passed(format!("bucket {} in {}", bucket.name, bucket.region)),
        Err(error) => name.failed(error.to_string()),
    }
}

fn no_answer() -> String {
    format!("no answer within {} seconds", PATIENCE.as_secs())
}

/// Stores the reported version, unless the instance was changed meanwhile: the version may be another server's then.
async fn remember(jobs: &Jobs, found: Versioned<Instance>, version: String) -> Result<(), Error> {
    if found.value.reported_engine_version.as_ref() == Some(&version) {
        return Ok(());
    }
    let instance = Instance { reported_engine_version: Some(version), ..found.value };
    let put = Write::Instance(Box::new(instance), Expect::Version(found.version));
    match jobs.ports.catalog.commit(vec![put]).await {
        Ok(()) | Err(CatalogError::Conflict(_)) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;

    #[test]
    fn clocks_that_are_more_than_a_minute_apart_fail() {
        let at = |seconds| DateTime::UNIX_EPOCH + TimeDelta::seconds(seconds);
        for theirs in [-60, 0, 3, 63] {
            assert_eq!(compared(at(0), at(theirs), at(3)).status, CheckStatus::Passed, "{theirs}");
        }
        for theirs in [-61, 64, 3_600] {
            let apart = compared(at(0), at(theirs), at(3));
            assert_eq!(apart.status, CheckStatus::Failed, "{theirs}");
        }
        assert!(compared(at(0), at(3_603), at(3)).detail.contains("3600 s"));
    }

    #[test]
    fn a_user_who_may_not_see_or_do_everything_is_a_warning_that_says_why() {
        let principal = |visibility| Principal { user: Some("ann".to_owned()), visibility };
        let check = |visibility, refused: &[String]| seen(CheckName::Visibility, &principal(visibility), refused);
        let all = check(Visibility::Everything, &[]);
        assert_eq!((all.status, all.detail.as_str()), (CheckStatus::Passed.into(), "as user ann, who sees everything"));
        let unsure = || Visibility::Unsure { reason: "ann may not see every collection".to_owned() };
        let some = check(unsure(), &[]);
        assert_eq!(some.status, CheckStatus::Warning);
        assert!(some.detail.contains("ann may not see every collection"), "{}", some.detail);
        let denied = check(Visibility::Everything, &["PrivilegeGetLoadState: permission deny to ann".to_owned()]);
        assert_eq!(denied.status, CheckStatus::Warning);
        assert!(denied.detail.contains("PrivilegeGetLoadState"), "{}", denied.detail);
    }

    #[test]
    fn an_old_engine_fails_and_is_told_what_to_upgrade_to() {
        assert_eq!(engine("v2.3.5-lite").status, CheckStatus::Passed);
        let old = engine("2.4.22-0.1.0_3.1");
        assert_eq!(old.status, CheckStatus::Failed);
        assert!(old.detail.contains("2.4.22-0.1.0_3.2"));
        assert_eq!(engine("main").status, CheckStatus::Failed);
    }
}
