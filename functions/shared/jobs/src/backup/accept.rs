//! Validation and acceptance of backup requests.

use chrono::TimeDelta;
use milvault_model::{
    Backup, BackupId, BackupKind, BackupName, BackupState, CaptureMethod, CollectionPattern, EngineVersion, Instance,
    InstanceId, JobRef, Support,
};
use milvault_ports::{CatalogError, Expect, Write};

use super::source::{check_data, check_source};
use crate::{Error, IdempotencyKey, Jobs, conflict::create_once, engine::slice};

/// A request for a backup.
#[derive(Debug, Clone)]
pub struct CreateBackup {
    /// The instance to back up.
    pub instance_id: InstanceId,
    /// The backup's name.
    pub name: BackupName,
    /// Who asks for the backup.
    pub kind: BackupKind,
    /// The collections to back up; empty selects all.
    pub selection: Vec<CollectionPattern>,
    /// How long the backup is kept; `None` keeps it forever.
    pub expires_in: Option<TimeDelta>,
    /// The caller's key for this request.
    pub idempotency: Option<IdempotencyKey>,
}

/// Accepts a backup: checks that the server answers and is supported, and that the registered bucket is readable and
/// holds the server's data. Then writes the record and makes the backup the instance's job. Doesn't start the backup.
///
/// # Errors
/// The reason why the backup isn't accepted; then nothing is written.
pub async fn create(jobs: &Jobs, request: CreateBackup) -> Result<Backup, Error> {
    create_with_writes(jobs, request, &|_| Vec::new()).await
}

/// Accepts a backup as [`create`] does, with extra writes in the same commit.
///
/// # Errors
/// As for [`create`], and the conflict of an extra write.
pub(crate) async fn create_with_writes(
    jobs: &Jobs,
    request: CreateBackup,
    extra_writes: &(dyn Fn(&Backup) -> Vec<Write> + Send + Sync),
) -> Result<Backup, Error> {
    let scope = format!("create-backup#{}", request.instance_id);
    let mut checked = None;
    create_once(
        async || earlier(jobs, &request, &scope).await,
        async || attempt(jobs, &request, &scope, extra_writes, &mut checked).await,
    )
    .await
}

/// An instance that passed the checks, and the version that its server reported.
struct Checked {
    instance: Instance,
    engine_version: String,
}

/// Tries once to create the backup. Returns `None` if another request changed a record that this attempt read.
/// `checked` keeps the result of the checks for the next attempt.
async fn attempt(
    jobs: &Jobs,
    request: &CreateBackup,
    scope: &str,
    extra_writes: &(dyn Fn(&Backup) -> Vec<Write> + Send + Sync),
    checked: &mut Option<Checked>,
) -> Result<Option<Backup>, Error> {
    let catalog = jobs.ports.catalog.as_ref();
    let instance_id = &request.instance_id;
    let instance = jobs.instance(instance_id).await?;
    refuse_if_taken(jobs, request).await?;
    let engine_version = match checked {
        Some(checked) if checked.instance.is_same_server(&instance.value) => checked.engine_version.clone(),
        _ => {
            let engine_version = supported_version(jobs, &instance.value).await?;
            check_source(jobs, &instance.value).await?;
            check_data(jobs, &instance.value).await?;
            *checked = Some(Checked { instance: instance.value.clone(), engine_version: engine_version.clone() });
            engine_version
        }
    };

    let now = jobs.now();
    let backup = Backup {
        id: BackupId::new(jobs.ports.ids.ulid(now)),
        instance_id: instance_id.clone(),
        name: request.name.clone(),
        kind: request.kind,
        method: CaptureMethod::Binlog,
        region: jobs.settings.snapshots.for_instance_in(&instance.value.region).region.clone(),
        engine_version: engine_version.clone(),
        selection: request.selection.clone(),
        created_at: now,
        expires_at: request.expires_in.map(|after| now + after),
        kept_until: None,
        all_locked_until: None,
        locked_until: None,
        deletion_requested_at: None,
        cancel_requested_at: None,
        pins: Default::default(),
        verification: None,
        state: BackupState::Pending,
    };
    let job = JobRef::Backup { instance_id: instance_id.clone(), backup_id: backup.id.clone() };
    let seen = Instance { reported_engine_version: Some(engine_version), ..instance.value };
    let mut writes = vec![
        Write::ClaimJob(job, now + slice::HANDOVER_TIMEOUT),
        Write::ClaimName(instance_id.clone(), request.name.clone(), backup.id.clone()),
        Write::Backup(Box::new(backup.clone()), Expect::Absent),
        // Also conflicts with a concurrent removal or move of the instance.
        Write::Instance(Box::new(seen), Expect::Version(instance.version)),
    ];
    if let Some(key) = &request.idempotency {
        writes.push(Write::Idempotency(key.record(scope.to_owned(), backup.id.to_string(), now)));
    }
    let first_extra = writes.len();
    writes.extend(extra_writes(&backup));
    match catalog.commit(writes).await {
        Ok(()) => Ok(Some(backup)),
        Err(CatalogError::Conflict(place)) if place >= first_extra => Err(CatalogError::Conflict(place).into()),
        // Another request was faster: the next attempt returns the error that names the reason.
        Err(CatalogError::Conflict(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Returns the backup that an earlier request with the same idempotency key created.
async fn earlier(jobs: &Jobs, request: &CreateBackup, scope: &str) -> Result<Option<Backup>, Error> {
    let Some(key) = &request.idempotency else { return Ok(None) };
    let Some(id) = key.earlier(jobs.ports.catalog.as_ref(), scope).await? else { return Ok(None) };
    let not_found = || Error::BackupNotFound(request.instance_id.clone(), id.clone());
    let id = id.parse().map_err(|_| not_found())?;
    Ok(Some(jobs.backup(&request.instance_id, &id).await?.value))
}

async fn refuse_if_taken(jobs: &Jobs, request: &CreateBackup) -> Result<(), Error> {
    let catalog = jobs.ports.catalog.as_ref();
    if let Some(holder) = catalog.backup_named(&request.instance_id, &request.name).await? {
        return Err(Error::NameTaken(request.name.clone(), holder));
    }
    jobs.require_idle(&request.instance_id).await
}

/// Returns the version that the server reports, if backup and restore support it.
pub(crate) async fn supported_version(jobs: &Jobs, instance: &Instance) -> Result<String, Error> {
    let reported = jobs.ports.milvus.connect(instance).await?.version().await?;
    match EngineVersion::gate(&reported) {
        Support::Supported => Ok(reported),
        Support::UpgradeTo(version) => Err(Error::EngineUnsupported(format!(
            "the server reports engine version {reported}; backup and restore need {version} or later: upgrade the \
             instance to {version} first"
        ))),
        Support::Unknown => Err(Error::EngineUnsupported(format!(
            "the server reports '{reported}', which is not a Milvus version known to backup and restore"
        ))),
    }
}
