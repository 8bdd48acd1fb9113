//! The restore function: accepts restores, works on them, and rolls completed ones back.
#![forbid(unsafe_code)]

use milvault_gateway::{Answer, Call, Caller, Event, Findings, Route, Status, invalid, patterns, renames, show};
use milvault_jobs::{
    Error, FieldError, Jobs,
    restore::{self, BackupSelector, CreateRestore, DamagedBackup},
};
use milvault_model::{BackupName, InstanceId, JobRef, Restore};
use milvault_ports::BackgroundEvent;
use milvault_runtime::{Invocation, begin_job, slice};
use milvault_wire::RestoreRequest;

#[derive(Debug, Clone, Copy)]
enum Action {
    Create,
    Rollback,
}

const ROUTES: [Route<Action>; 2] = [
    Route { http: Some("POST /instances/{instanceId}/restores"), name: "create", action: Action::Create },
    Route {
        http: Some("POST /instances/{instanceId}/restores/{restoreId}/rollback"),
        name: "rollback",
        action: Action::Rollback,
    },
];

/// A year. The limit exists because previous collections take as much of the server's storage as the live ones.
const LONGEST_HOURS: u32 = 8_760;

/// Answers one event.
///
/// # Errors
/// The reason why the event has no answer; [`Invocation::reply`] decides what the caller gets.
pub async fn handle(jobs: &Jobs, event: Event, invocation: &Invocation) -> Result<Answer, Error> {
    if let Event::Background(BackgroundEvent::Resume(JobRef::Restore { instance_id, restore_id })) = &event {
        return slice(restore::run(jobs, instance_id, restore_id, invocation.deadline)).await;
    }
    let call = Call::read(event, &ROUTES)?;
    match call.action {
        Action::Create => create(jobs, call, invocation).await,
        Action::Rollback => roll_back(jobs, call, invocation).await,
    }
}

async fn create(jobs: &Jobs, call: Call<Action>, invocation: &Invocation) -> Result<Answer, Error> {
    let instance_id = call.instance()?;
    let (caller, key) = (call.caller, call.key());
    let mut request: RestoreRequest = call.body()?;
    request.source_instance_id = request.source_instance_id.filter(|source| *source != instance_id);
    let idempotency = key.for_request(&request)?;
    let mut findings = Findings::default();
    let selection = findings.keep(patterns(request.collections));
    let rename = findings.keep(renames(request.rename));
    let keep_previous_hours = findings.keep(keep(request.keep_previous_hours));
    findings.report()?;

    let source_instance_id = request.source_instance_id.unwrap_or_else(|| instance_id.clone());
    let backup = selector(&source_instance_id, request.backup_id, request.backup_name)?;
    let damaged = if request.allow_damaged { DamagedBackup::Use } else { DamagedBackup::Refuse };
    let (mode, reload, on_error) = (request.mode, request.reload, request.on_error);
    let asked = CreateRestore {
        instance_id,
        source_instance_id,
        backup,
        selection,
        rename,
        damaged,
        mode,
        reload,
        on_error,
        keep_previous_hours,
        idempotency,
    };
    let restore = restore::create(jobs, asked).await?;
    begin(jobs, restore, caller, invocation).await
}

fn selector(source: &InstanceId, id: Option<String>, name: Option<BackupName>) -> Result<BackupSelector, Error> {
    match (id, name) {
        (Some(id), None) => match id.parse() {
            Ok(id) => Ok(BackupSelector::Id(id)),
            Err(_) => Err(Error::BackupNotFound(source.clone(), id)),
        },
        (None, Some(name)) => Ok(BackupSelector::Name(name)),
        (None, None) => Err(invalid("/backupId", "say which backup: by 'backupId' or by 'backupName'")),
        (Some(_), Some(_)) => Err(invalid("/backupName", "say either 'backupId' or 'backupName'")),
    }
}

fn keep(hours: u32) -> Result<u32, FieldError> {
    if hours <= LONGEST_HOURS {
        return Ok(hours);
    }
    Err(FieldError::new("/keepPreviousHours", format!("is a number from 0 to {LONGEST_HOURS}")))
}

async fn roll_back(jobs: &Jobs, call: Call<Action>, invocation: &Invocation) -> Result<Answer, Error> {
    let instance = call.instance()?;
    let id = call.restore(&instance)?;
    let (caller, key) = (call.caller, call.key().for_request(&id)?);
    call.require_no_input()?;
    jobs.restore(&instance, &id).await?;
    let restore = restore::rollback(jobs, &instance, &id, key.as_ref()).await?;
    begin(jobs, restore, caller, invocation).await
}

/// Starts the work on a restore, and answers with its description.
async fn begin(jobs: &Jobs, mut restore: Restore, caller: Caller, invocation: &Invocation) -> Result<Answer, Error> {
    let job = JobRef::Restore { instance_id: restore.instance_id.clone(), restore_id: restore.id.clone() };
    let deadline = invocation.deadline_for(caller, jobs.now());
    begin_job(jobs, &job, caller, restore::run(jobs, &restore.instance_id, &restore.id, deadline)).await;
    if caller == Caller::Direct {
        restore = jobs.restore(&restore.instance_id, &restore.id).await?.value;
    }
    let location = format!("/instances/{}/restores/{}", restore.instance_id, restore.id);
    let shown = show::restore_first_page(jobs, &restore).await?;
    Ok(Answer::new(Status::Accepted, shown).with_location(location).with_retry_after(2))
}
