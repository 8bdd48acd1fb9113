//! CLEAN: removes everything that a failed or cancelled backup has stored.

use std::pin::pin;

use futures::TryStreamExt;
use milvault_model::{BackupState, Ending, ObjectEntry, Origin};
use milvault_ports::Write;

use super::work::Work;
use crate::{
    engine::halt::{Step, require_time},
    snapshot::{layout::PageKind, removable_objects::Claims},
};

pub(crate) async fn clean(work: &mut Work<'_>, ending: Ending) -> Step {
    work.held.drain(work.deadline).await?;
    let claims = Claims::read(work.jobs, &work.backup).await?;
    // PUBLISH may have removed the plan's pages already; then the manifest's pages name the objects.
    for kind in [PageKind::Plan, PageKind::Objects] {
        remove_own(work, &claims, kind).await?;
    }
    work.folder().remove_all("").await?;

    let ended_at = work.jobs.now();
    let started_at = Some(work.run.started_at);
    let state = match ending {
        Ending::Failed(failure) => BackupState::Failed { started_at, ended_at, failure },
        Ending::Cancelled => BackupState::Cancelled { started_at, ended_at },
    };
    let release = Write::ReleaseName(work.instance.id.clone(), work.backup.name.clone(), work.backup.id.clone());
    work.end(state, vec![release]).await
}

/// Removes the objects on pages of this kind that this backup stored, or planned to store, and that no other backup
/// claims. A page is removed after its objects, so that every object that may be stored is named by a page.
pub(crate) async fn remove_own(work: &Work<'_>, claims: &Claims<'_>, kind: PageKind) -> Step {
    let folder = work.folder();
    let mut pages = pin!(folder.keys(kind.prefix()));
    while let Some(keys) = pages.try_next().await? {
        for key in &keys {
            require_time(work.deadline, work.jobs.now())?;
            let planned: Vec<ObjectEntry> = folder.read(key).await?;
            // Objects that were already stored when they were planned belong to an earlier backup.
            let own = |entry: &ObjectEntry| entry.etag.is_none() || entry.origin == Origin::Own;
            let own: Vec<ObjectEntry> = planned.into_iter().filter(own).collect();
            claims.remove_unclaimed(&own).await?;
            folder.remove(key).await?;
        }
    }
    Ok(())
}
