//! The delete function: deletes backups, and cancels backups and restores that are running.
#![forbid(unsafe_code)]

use milvault_gateway::{Answer, Call, Event, Route, Status, show};
use milvault_jobs::{Error, Jobs, deletion, restore};
use milvault_model::BackupStatus;
use milvault_runtime::Invocation;
use milvault_wire::{BackupView, DeletedBackupView};

#[derive(Debug, Clone, Copy)]
enum Action {
    Backup,
    Restore,
}

const ROUTES: [Route<Action>; 2] = [
    Route { http: Some("DELETE /instances/{instanceId}/backups/{backupId}"), name: "backup", action: Action::Backup },
    Route {
        http: Some("DELETE /instances/{instanceId}/restores/{restoreId}"),
        name: "restore",
        action: Action::Restore,
    },
];

/// Answers one event.
///
/// # Errors
/// The reason why the event has no answer; [`Invocation::reply`] decides what the caller gets.
pub async fn handle(jobs: &Jobs, event: Event, invocation: &Invocation) -> Result<Answer, Error> {
    let call = Call::read(event, &ROUTES)?;
    match call.action {
        Action::Backup => delete_backup(jobs, call, invocation).await,
        Action::Restore => cancel_restore(jobs, call).await,
    }
}

async fn delete_backup(jobs: &Jobs, call: Call<Action>, invocation: &Invocation) -> Result<Answer, Error> {
    let instance = call.instance()?;
    let id = call.backup(&instance)?;
    let deadline = invocation.deadline_for(call.caller, jobs.now());
    call.require_no_input()?;
    jobs.backup(&instance, &id).await?;
    let backup = deletion::delete(jobs, &instance, &id, deadline).await?;
    let (status, warning) = match backup.state.status() {
        BackupStatus::Available | BackupStatus::Damaged => (
            Status::Accepted,
            "Object Lock keeps the backup until 'lockedUntil': it is deleted then, and can be restored until then. This is \
             irreversible.",
        ),
        BackupStatus::Pending | BackupStatus::Running => {
            (Status::Accepted, "The backup is being cancelled and what it has stored removed. This is irreversible.")
        }
        BackupStatus::Deleting => {
            (Status::Accepted, "The backup is being deleted and can't be restored any more. This is irreversible.")
        }
        BackupStatus::Deleted => {
            (Status::Ok, "The backup is deleted and can't be brought back: deletion is irreversible.")
        }
        BackupStatus::Failed | BackupStatus::Cancelled => {
            (Status::Ok, "The backup had already ended without a result; none of its data is stored.")
        }
    };
    let view = BackupView::new(&backup, jobs.now());
    let answer = Answer::new(status, DeletedBackupView { backup: view, warning: warning.to_owned() });
    // No caller waits for a lock to end.
    let is_under_way =
        matches!(backup.state.status(), BackupStatus::Pending | BackupStatus::Running | BackupStatus::Deleting);
    Ok(if is_under_way { answer.with_retry_after(2) } else { answer })
}

async fn cancel_restore(jobs: &Jobs, call: Call<Action>) -> Result<Answer, Error> {
    let instance = call.instance()?;
    let id = call.restore(&instance)?;
    call.require_no_input()?;
    jobs.restore(&instance, &id).await?;
    let restore = restore::cancel(jobs, &instance, &id).await?;
    let shown = show::restore_first_page(jobs, &restore).await?;
    Ok(Answer::new(Status::Accepted, shown).with_retry_after(2))
}
