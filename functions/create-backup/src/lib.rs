//! The create-backup function: accepts backups, works on them, and verifies finished ones.
#![forbid(unsafe_code)]

use chrono::TimeDelta;
use milvault_gateway::{Answer, Call, Caller, Event, Findings, Route, Status, invalid, patterns};
use milvault_jobs::{
    Error, FieldError, Jobs,
    backup::{self, CreateBackup},
    schedule::{self, RunEnd},
    scrub,
};
use milvault_model::{BackupId, BackupKind, InstanceId, JobRef};
use milvault_ports::{BackgroundEvent, Scheduled, Verify};
use milvault_runtime::{Invocation, begin_job, slice};
use milvault_wire::{BackupRequest, BackupView, VerifiedBackupView};
use serde_json::json;

#[derive(Debug, Clone, Copy)]
enum Action {
    Create,
    Verify,
}

const ROUTES: [Route<Action>; 2] = [
    Route { http: Some("POST /instances/{instanceId}/backups"), name: "create", action: Action::Create },
    Route {
        http: Some("POST /instances/{instanceId}/backups/{backupId}/verify"),
        name: "verify",
        action: Action::Verify,
    },
];

/// A hundred years. A caller who wants a longer time means "for ever", which is expressed by leaving the field out.
const LONGEST_DAYS: u32 = 36_500;

/// Answers one event.
///
/// # Errors
/// The reason why the event has no answer; [`Invocation::reply`] decides what the caller gets.
pub async fn handle(jobs: &Jobs, event: Event, invocation: &Invocation) -> Result<Answer, Error> {
    let event = match event {
        Event::Background(event) => return background(jobs, event, invocation).await,
        event => event,
    };
    let call = Call::read(event, &ROUTES)?;
    match call.action {
        Action::Create => create(jobs, call, invocation).await,
        Action::Verify => verify(jobs, call, invocation).await,
    }
}

async fn background(jobs: &Jobs, event: BackgroundEvent, invocation: &Invocation) -> Result<Answer, Error> {
    match event {
        BackgroundEvent::Resume(JobRef::Backup { instance_id, backup_id }) => {
            go_on(jobs, instance_id, backup_id, invocation).await
        }
        BackgroundEvent::Resume(JobRef::Restore { .. }) => Err(invalid("/resume", "this function works on backups")),
        BackgroundEvent::CopyPage(task) => Ok(Answer::ok(backup::copy_page(jobs, task, invocation.deadline).await?)),
        BackgroundEvent::Verify(Verify { instance_id, backup_id }) => {
            let backup = scrub::verify(jobs, &instance_id, &backup_id, invocation.deadline).await?;
            Ok(Answer::ok(VerifiedBackupView::new(&backup, jobs.now())))
        }
        BackgroundEvent::Scheduled(scheduled) => automatic(jobs, scheduled, invocation).await,
    }
}

async fn create(jobs: &Jobs, call: Call<Action>, invocation: &Invocation) -> Result<Answer, Error> {
    let instance_id = call.instance()?;
    let (caller, key) = (call.caller, call.key());
    let request: BackupRequest = call.body()?;
    let idempotency = key.for_request(&request)?;
    let mut findings = Findings::default();
    let selection = findings.keep(patterns(request.collections));
    let expires_in = findings.keep(expiry(request.expires_in_days));
    findings.report()?;

    let name = request.name;
    let kind = BackupKind::Manual;
    let asked = CreateBackup { instance_id, name, kind, selection, expires_in, idempotency };
    let mut backup = backup::create(jobs, asked).await?;
    let job = JobRef::Backup { instance_id: backup.instance_id.clone(), backup_id: backup.id.clone() };
    let deadline = invocation.deadline_for(caller, jobs.now());
    begin_job(jobs, &job, caller, backup::run(jobs, &backup.instance_id, &backup.id, deadline)).await;
    if caller == Caller::Direct {
        backup = jobs.backup(&backup.instance_id, &backup.id).await?.value;
    }
    let location = format!("/instances/{}/backups/{}", backup.instance_id, backup.id);
    let view = BackupView::new(&backup, jobs.now());
    Ok(Answer::new(Status::Accepted, view).with_location(location).with_retry_after(2))
}

/// Does a slice of a backup's work.
async fn go_on(
    jobs: &Jobs,
    instance_id: InstanceId,
    backup_id: BackupId,
    invocation: &Invocation,
) -> Result<Answer, Error> {
    slice(backup::run(jobs, &instance_id, &backup_id, invocation.deadline)).await
}

/// Begins an automatic backup, and works on it at once.
async fn automatic(jobs: &Jobs, scheduled: Scheduled, invocation: &Invocation) -> Result<Answer, Error> {
    let end = schedule::run(jobs, &scheduled.instance_id, scheduled.time).await?;
    Ok(match end {
        RunEnd::Begun(backup) => go_on(jobs, backup.instance_id.clone(), backup.id.clone(), invocation).await?,
        RunEnd::Waits(failure) => Answer::ok(json!({ "run": "WAITING", "failure": failure })),
        RunEnd::Failed(failure) => Answer::ok(json!({ "run": "FAILED", "failure": failure })),
        RunEnd::Nothing(reason) => Answer::ok(json!({ "run": "NONE", "reason": reason })),
    })
}

fn expiry(days: Option<u32>) -> Result<Option<TimeDelta>, FieldError> {
    match days {
        None => Ok(None),
        Some(days) if (1..=LONGEST_DAYS).contains(&days) => Ok(Some(TimeDelta::days(days.into()))),
        Some(_) => Err(FieldError::new("/expiresInDays", format!("is a number from 1 to {LONGEST_DAYS}"))),
    }
}

async fn verify(jobs: &Jobs, call: Call<Action>, invocation: &Invocation) -> Result<Answer, Error> {
    let instance = call.instance()?;
    let id = call.backup(&instance)?;
    let deadline = invocation.deadline_for(call.caller, jobs.now());
    let key = call.key().for_request(&id)?;
    call.require_no_input()?;
    let mut backup = jobs.backup(&instance, &id).await?.value;
    let asked_at = match key {
        Some(key) => Some(key.remember(jobs, format!("verify#{instance}"), id.to_string()).await?),
        None => None,
    };
    // A verification in progress is continued. If one has ended since this request was first made, its result is the
    // answer.
    let ended_at = backup.verification.as_ref().and_then(|last| last.completed_at);
    if asked_at.is_none_or(|asked_at| ended_at.is_none_or(|ended_at| ended_at < asked_at)) {
        backup = scrub::verify(jobs, &instance, &id, deadline).await?;
    }
    let is_over = backup.verification.as_ref().is_none_or(|last| last.completed_at.is_some());
    let view = VerifiedBackupView::new(&backup, jobs.now());
    Ok(if is_over { Answer::ok(view) } else { Answer::new(Status::Accepted, view).with_retry_after(10) })
}
