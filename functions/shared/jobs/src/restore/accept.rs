//! Accepts a restore: checks the request and records it as the instance's job.

use std::collections::{BTreeMap, BTreeSet};

use futures::{StreamExt, TryStreamExt, stream};
use milvault_model::{
    Backup, BackupId, BackupName, BackupState, CollectionName, CollectionPattern, Completeness, EngineVersion,
    Instance, InstanceId, JobRef, LeftOut, LeftOutCause, OnError, Reload, Restore, RestoreId, RestoreMode,
    RestoreState,
};
use milvault_ports::{CatalogError, Expect, Versioned, Write};

use crate::{Error, FieldError, IdempotencyKey, Jobs, backup, conflict::create_once, engine::slice};

/// Which backup to restore from.
#[derive(Debug, Clone)]
pub enum BackupSelector {
    /// The backup with this ID.
    Id(BackupId),
    /// The backup with this name.
    Name(BackupName),
}

/// A caller's request for a restore.
#[derive(Debug, Clone)]
pub struct CreateRestore {
    /// The instance to restore into.
    pub instance_id: InstanceId,
    /// The instance whose backup is restored.
    pub source_instance_id: InstanceId,
    /// The backup to restore from.
    pub backup: BackupSelector,
    /// The backup's collections to restore; empty for all.
    pub selection: Vec<CollectionPattern>,
    /// New names for some of the collections, by their names in the backup.
    pub rename: BTreeMap<CollectionName, CollectionName>,
    /// What to do if the backup is damaged.
    pub damaged: DamagedBackup,
    /// What to do about collections that exist.
    pub mode: RestoreMode,
    /// Whether to load the restored collections.
    pub reload: Reload,
    /// What to do about the other collections if one can't be restored.
    pub on_error: OnError,
    /// How many hours to keep the collections that are replaced.
    pub keep_previous_hours: u32,
    /// The caller's idempotency key.
    pub idempotency: Option<IdempotencyKey>,
}

/// What to do about a backup of which objects are missing or changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DamagedBackup {
    /// Refuse the restore.
    Refuse,
    /// Restore from the intact objects: a restore that needs a missing object fails and changes nothing.
    Use,
}

/// Returns the collections to restore: each one's name in the backup, and the name that it gets.
pub(crate) fn targets<'n>(
    names: impl Iterator<Item = &'n CollectionName>,
    selection: &[CollectionPattern],
    rename: &BTreeMap<CollectionName, CollectionName>,
) -> Vec<(CollectionName, CollectionName)> {
    names
        .filter(|name| CollectionPattern::selects(selection, name))
        .map(|name| (name.clone(), rename.get(name).unwrap_or(name).clone()))
        .collect()
}

/// The most names that are checked for aliases before a restore is accepted. All names are checked before the swap.
const MAX_ALIAS_LOOKUPS: usize = 100;
/// Concurrent alias lookups. Milvus answers each within milliseconds, unless it is busy.
const CONCURRENT_LOOKUPS: usize = 10;

/// Accepts a restore: checks the backup, the server and the names, then writes the record, makes it the instance's job
/// and pins the backup. Does not start it.
///
/// # Errors
/// The reason why the restore can't be accepted; then nothing is written.
pub async fn create(jobs: &Jobs, request: CreateRestore) -> Result<Restore, Error> {
    let scope = format!("create-restore#{}", request.instance_id);
    let mut checked = None;
    create_once(
        async || earlier(jobs, &request, &scope).await,
        async || attempt(jobs, &request, &scope, &mut checked).await,
    )
    .await
}

/// A server that passed the checks for a restore from this backup.
struct Checked {
    instance: Instance,
    backup: BackupId,
}

/// Makes one attempt; returns `None` if another writer changed a record that it read. Keeps the outcome of the server's
/// checks for the next attempt.
async fn attempt(
    jobs: &Jobs,
    request: &CreateRestore,
    scope: &str,
    checked: &mut Option<Checked>,
) -> Result<Option<Restore>, Error> {
    let catalog = jobs.ports.catalog.as_ref();
    let instance_id = &request.instance_id;
    let instance = jobs.instance(instance_id).await?;
    jobs.instance(&request.source_instance_id).await?;
    let backup = select(jobs, request).await?;
    jobs.require_idle(instance_id).await?;
    let is_checked = checked
        .as_ref()
        .is_some_and(|checked| checked.instance.is_same_server(&instance.value) && checked.backup == backup.value.id);
    if !is_checked {
        check(jobs, request, &backup.value, &instance.value).await?;
        *checked = Some(Checked { instance: instance.value.clone(), backup: backup.value.id.clone() });
    }

    let now = jobs.now();
    let restore = Restore {
        id: RestoreId::new(jobs.ports.ids.ulid(now)),
        instance_id: instance_id.clone(),
        source_instance_id: request.source_instance_id.clone(),
        backup_id: backup.value.id.clone(),
        backup_name: backup.value.name.clone(),
        backup_region: backup.value.region.clone(),
        selection: request.selection.clone(),
        rename: request.rename.clone(),
        mode: request.mode,
        reload: request.reload,
        on_error: request.on_error,
        keep_previous_hours: request.keep_previous_hours,
        created_at: now,
        cancel_requested_at: None,
        warnings: Vec::new(),
        collections: 0,
        completeness: Completeness::Complete,
        state: RestoreState::Pending,
    };
    let Versioned { value: mut pinned, version } = backup;
    pinned.pins.insert(restore.id.clone());
    let job = JobRef::Restore { instance_id: instance_id.clone(), restore_id: restore.id.clone() };
    let mut writes = vec![
        Write::ClaimJob(job, now + slice::HANDOVER_TIMEOUT),
        Write::Backup(Box::new(pinned), Expect::Version(version)),
        Write::Restore(Box::new(restore.clone()), Expect::Absent),
        // Conflicts if the instance is being removed or moved at this moment.
        Write::Instance(Box::new(instance.value), Expect::Version(instance.version)),
    ];
    if let Some(key) = &request.idempotency {
        writes.push(Write::Idempotency(key.record(scope.to_owned(), restore.id.to_string(), now)));
    }
    match catalog.commit(writes).await {
        Ok(()) => Ok(Some(restore)),
        // Another writer was faster: the next attempt reports what is in the way.
        Err(CatalogError::Conflict(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Returns the restore that an earlier request with the same idempotency key created.
async fn earlier(jobs: &Jobs, request: &CreateRestore, scope: &str) -> Result<Option<Restore>, Error> {
    let Some(key) = &request.idempotency else { return Ok(None) };
    let Some(id) = key.earlier(jobs.ports.catalog.as_ref(), scope).await? else { return Ok(None) };
    let not_found = || Error::RestoreNotFound(request.instance_id.clone(), id.clone());
    let id = id.parse().map_err(|_| not_found())?;
    Ok(Some(jobs.restore(&request.instance_id, &id).await?.value))
}

/// Returns the requested backup, if it can be restored from.
async fn select(jobs: &Jobs, request: &CreateRestore) -> Result<Versioned<Backup>, Error> {
    let catalog = jobs.ports.catalog.as_ref();
    let source = &request.source_instance_id;
    let id = match &request.backup {
        BackupSelector::Id(id) => id.clone(),
        BackupSelector::Name(name) => {
            let id = catalog.backup_named(source, name).await?;
            id.ok_or_else(|| Error::BackupNotFound(source.clone(), name.to_string()))?
        }
    };
    let found = jobs.backup(source, &id).await?;
    match &found.value.state {
        BackupState::Available(_) => Ok(found),
        BackupState::Damaged { .. } if request.damaged == DamagedBackup::Use => Ok(found),
        state => Err(Error::NotAvailable(id, state.status())),
    }
}

/// Checks that the server can take the backup, and that the requested names are valid.
async fn check(jobs: &Jobs, request: &CreateRestore, backup: &Backup, instance: &Instance) -> Result<(), Error> {
    let reported = backup::supported_version(jobs, instance).await?;
    if let (Some(target), Some(source)) =
        (EngineVersion::parse(&reported), EngineVersion::parse(&backup.engine_version))
        && !target.can_import_from(&source)
    {
        return Err(Error::EngineUnsupported(format!(
            "the backup was taken from engine version {source}, which cannot be restored into the older {target}: \
             upgrade the instance to {source} or later first"
        )));
    }
    backup::check_source(jobs, instance).await?;
    match check_names(jobs, request, backup, instance).await {
        // If the backup has been deleted since it was read, that is the error.
        Err(error @ Error::Document { .. }) => select(jobs, request).await.and(Err(error)),
        checked => checked,
    }
}

/// Checks that every pattern and rename matches, that no two collections get the same name, and that no name is an
/// alias or, in mode CREATE, an existing collection.
async fn check_names(jobs: &Jobs, request: &CreateRestore, backup: &Backup, instance: &Instance) -> Result<(), Error> {
    let folder = jobs.snapshot_of(backup)?;
    let manifest = folder.manifest().await?;
    let mut names = Vec::new();
    for page in &manifest.collection_pages {
        let collections = folder.collections(page).await?;
        names.extend(collections.into_iter().map(|collection| collection.name));
    }
    let mut invalid = Vec::new();
    // A pattern may match a database without collections, but not one whose collections could not be captured.
    let is_empty_database = |pattern: &CollectionPattern| match pattern {
        CollectionPattern::One(_) => false,
        CollectionPattern::Database(name) => {
            let is_lacking = |out: &LeftOut| out.cause == LeftOutCause::Trouble && pattern.matches(&out.collection);
            manifest.databases.iter().any(|database| database.name == *name)
                && !manifest.left_out.iter().any(is_lacking)
        }
    };
    for (index, pattern) in request.selection.iter().enumerate() {
        if !names.iter().any(|name| pattern.matches(name)) && !is_empty_database(pattern) {
            invalid.push(FieldError::new(
                format!("/collections/{index}"),
                format!("the backup has no collection that matches '{pattern}'"),
            ));
        }
    }
    let targets = targets(names.iter(), &request.selection, &request.rename);
    for source in request.rename.keys() {
        if !targets.iter().any(|(name, _)| name == source) {
            invalid.push(FieldError::new(
                format!("/rename/{source}"),
                format!("'{source}' is not among the collections to restore"),
            ));
        }
    }
    let mut seen = BTreeSet::new();
    for (source, target) in &targets {
        if !seen.insert(target) {
            invalid.push(FieldError::new(
                format!("/rename/{source}"),
                format!("more than one collection would be restored as '{target}'"),
            ));
        }
    }
    if !invalid.is_empty() {
        return Err(Error::Invalid(invalid));
    }
    let milvus = jobs.ports.milvus.connect(instance).await?;
    let databases: BTreeSet<String> = milvus.databases().await?.into_iter().collect();
    let existing = seen.iter().filter(|target| databases.contains(&target.database)).take(MAX_ALIAS_LOOKUPS);
    let lookups = existing.map(async |target| {
        let of = milvus.alias_target(&target.database, &target.collection).await?;
        Ok::<_, Error>(of.map(|of| format!("'{target}' is an alias of {of}: no collection can have that name")))
    });
    // Concurrently, because the caller waits.
    let aliases: Vec<Option<String>> = stream::iter(lookups).buffered(CONCURRENT_LOOKUPS).try_collect().await?;
    if let Some(message) = aliases.into_iter().flatten().next() {
        return Err(Error::Invalid(vec![FieldError::new("/collections", message)]));
    }
    if request.mode == RestoreMode::Create {
        for database in seen.iter().map(|target| &target.database).collect::<BTreeSet<_>>() {
            if !databases.contains(database) {
                continue;
            }
            for (collection, _) in milvus.collections(database).await? {
                let existing = CollectionName::new(database, collection);
                if seen.contains(&existing) {
                    return Err(Error::CollectionExists(existing));
                }
            }
        }
    }
    Ok(())
}
