//! CLEAN: a backup that won't be finished leaves nothing behind.

use milvault_model::{BackupState, Ending, ObjectEntry};

use super::work::Work;
use crate::{
    garbage::Protection,
    layout::PageKind,
    ports::Write,
    slice::{Halt, Step},
};

pub(crate) async fn clean(work: &mut Work<'_>, ending: Ending) -> Step {
    let protection = Protection::read(work.jobs, &work.instance.id, &work.backup.id).await?;
    remove_planned(work, &protection).await?;
    work.folder().remove_all("").await?;

    let ended_at = work.jobs.ports.clock.now();
    let started_at = Some(work.run.started_at);
    let state = match ending {
        Ending::Failed(failure) => BackupState::Failed { started_at, ended_at, failure },
        Ending::Cancelled => BackupState::Cancelled { started_at, ended_at },
    };
    let release = Write::ReleaseName(work.instance.id.clone(), work.backup.name.clone(), work.backup.id.clone());
    Ok(work.end(state, vec![release]).await?)
}

/// Removes the objects that any of this backup's plans had copied and that nothing protects, then the plans.
///
/// The plans go last: as long as an object of theirs may be stored, they say so.
pub(crate) async fn remove_planned(work: &Work<'_>, protection: &Protection) -> Step {
    let folder = work.folder();
    let mut after: Option<String> = None;
    loop {
        let (keys, more) = folder.keys(PageKind::Plan.prefix(), after.as_deref()).await?;
        for key in &keys {
            if work.deadline.is_over(work.jobs.ports.clock.now()) {
                return Err(Halt::OutOfTime);
            }
            let planned: Vec<ObjectEntry> = folder.read(key).await?;
            // What has an ETag in a plan was taken over from a backup that was living then.
            let copied: Vec<ObjectEntry> = planned.into_iter().filter(|entry| entry.etag.is_none()).collect();
            protection.remove_unprotected(work.jobs, &work.instance.id, &copied).await?;
        }
        after = keys.last().cloned();
        if !more {
            break;
        }
    }
    folder.remove_all(PageKind::Plan.prefix()).await?;
    Ok(folder.remove_all(PageKind::Capture.prefix()).await?)
}
