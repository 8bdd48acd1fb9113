//! The describe function: describes one backup or one restore with its collections.
#![forbid(unsafe_code)]

use milvault_gateway::{Answer, Call, Event, PageSize, Route, show};
use milvault_jobs::{Error, Jobs};
use milvault_runtime::Invocation;

#[derive(Debug, Clone, Copy)]
enum Action {
    Backup,
    Restore,
}

const ROUTES: [Route<Action>; 2] = [
    Route { http: Some("GET /instances/{instanceId}/backups/{backupId}"), name: "backup", action: Action::Backup },
    Route { http: Some("GET /instances/{instanceId}/restores/{restoreId}"), name: "restore", action: Action::Restore },
];

/// Answers one event.
///
/// # Errors
/// The reason why the event has no answer; [`Invocation::reply`] decides what the caller gets.
pub async fn handle(jobs: &Jobs, event: Event, _: &Invocation) -> Result<Answer, Error> {
    let call = Call::read(event, &ROUTES)?;
    match call.action {
        Action::Backup => describe_backup(jobs, call).await,
        Action::Restore => describe_restore(jobs, call).await,
    }
}

async fn describe_backup(jobs: &Jobs, call: Call<Action>) -> Result<Answer, Error> {
    let instance = call.instance()?;
    let id = call.backup(&instance)?;
    let paging =
        call.filters(&["limit", "cursor"])?.paging::<usize>(PageSize::COLLECTIONS, &jobs.settings.cursor_key)?;
    let backup = jobs.backup(&instance, &id).await?.value;
    match show::backup(jobs, &backup, &paging).await {
        // Only the first page may be omitted. If a later page were, its reader would take the listing for complete.
        Err(error @ Error::Document { .. }) if paging.after.is_none() => {
            // The backup may have been deleted between the reads of the record and of the manifest. Then only the
            // record remains.
            let now = jobs.backup(&instance, &id).await?.value;
            if now.is_living() {
                // A verification will report the damage. Until then, the record is worth showing.
                tracing::error!(%error, backup = %id, "the backup's documents can't be read");
                return Ok(Answer::ok(show::backup_without_collections(jobs, &now)));
            }
            Ok(Answer::ok(show::backup(jobs, &now, &paging).await?))
        }
        shown => Ok(Answer::ok(shown?)),
    }
}

async fn describe_restore(jobs: &Jobs, call: Call<Action>) -> Result<Answer, Error> {
    let instance = call.instance()?;
    let id = call.restore(&instance)?;
    let paging = call.filters(&["limit", "cursor"])?.paging::<u32>(PageSize::COLLECTIONS, &jobs.settings.cursor_key)?;
    let restore = jobs.restore(&instance, &id).await?.value;
    Ok(Answer::ok(show::restore(jobs, &restore, &paging).await?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_answer_of_a_restore_goes_on_here() {
        assert!(ROUTES.iter().any(|route| route.http == Some(show::RESTORE)));
    }
}
