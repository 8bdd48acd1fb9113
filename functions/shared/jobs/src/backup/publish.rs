//! PUBLISH: removes the working pages, and makes the backup AVAILABLE.

use std::{collections::BTreeSet, pin::pin};

use futures::TryStreamExt;
use milvault_model::{BackupPhase, BackupState, Completeness, Manifest, Publishing, Reuse, Snapshot};
use milvault_ports::items;

use super::{clean::remove_own, object_lock::ObjectLock, work::Work};
use crate::{
    Error,
    engine::halt::Step,
    snapshot::{layout::PageKind, ownership, removable_objects::Claims},
};

/// Publishes a backup whose manifest is written.
pub(crate) async fn publish(work: &mut Work<'_>, mut publishing: Publishing) -> Step {
    work.held.drain(work.deadline).await?;
    let manifest = work.folder().manifest().await?;
    // An earlier plan may have copied objects that the last plan doesn't have.
    if work.run.repeated_plans > 0 {
        let claims = Claims::read(work.jobs, &work.backup).await?;
        let claims = claims.with(work.backup.id.clone(), manifest.clone());
        remove_own(work, &claims, PageKind::Plan).await?;
        let pages = manifest.object_pages.iter().chain(&manifest.collection_pages);
        let named: BTreeSet<&str> = pages.map(|page| page.key.as_str()).collect();
        for kind in [PageKind::Objects, PageKind::Collections] {
            work.folder().remove_all_except(kind.prefix(), &named).await?;
        }
    }
    for kind in [PageKind::Plan, PageKind::Survey, PageKind::Capture] {
        work.folder().remove_all(kind.prefix()).await?;
    }
    // No object is stored after this, so no lock ends later.
    let lock = ObjectLock::for_backup(work.jobs, work.bucket, &work.backup, work.run.started_at).await?;
    work.backup.locked_until = lock.map(|lock| lock.locked_until(work.jobs.now()));
    let snapshot = Snapshot {
        started_at: work.run.started_at,
        completed_at: work.jobs.now(),
        point_in_time: manifest.point_in_time,
        totals: manifest.totals,
        completeness: Completeness::for_snapshot(&manifest.left_out, manifest.captured_as.as_ref()),
        captured_as: manifest.captured_as.clone(),
    };
    let owned = match ownership_of(work, &manifest).await? {
        Ownership::Certain => manifest.totals.added_bytes,
        Ownership::Uncertain => {
            // Until the job is over, no other job of the instance changes the claims of other backups.
            let counted = ownership::count(work.jobs, &work.backup, &manifest, &mut publishing, work.deadline).await;
            // The next try continues from here, whatever the error is.
            if counted.is_err() && work.run.phase != BackupPhase::Publish(publishing) {
                work.enter(BackupPhase::Publish(publishing)).await?;
            }
            counted?;
            publishing.owned_bytes
        }
    };
    let opened = ownership::open_account(&work.backup, &snapshot, owned, work.jobs.now());
    work.end(BackupState::Available(snapshot), opened.into_iter().collect()).await
}

/// Whether it is certain that a backup owns the objects that it stored.
enum Ownership {
    /// All other objects are its base's, and no other backup interferes: it owns the objects that it stored.
    Certain,
    /// The owner has to be determined for each object.
    Uncertain,
}

/// Returns whether ownership is certain. It isn't if the backup found objects of unknown origin, or if objects that it
/// stored may count as a damaged backup's that lacks them, or as a backup's that is being deleted.
async fn ownership_of(work: &Work<'_>, manifest: &Manifest) -> Result<Ownership, Error> {
    if manifest.totals.found_bytes > 0 || !matches!(work.run.reuse, Reuse::From(_)) {
        return Ok(Ownership::Uncertain);
    }
    let mut backups = pin!(items(100, |page| work.jobs.ports.catalog.backups(&work.instance.id, page)));
    while let Some(found) = backups.try_next().await? {
        if matches!(found.value.state, BackupState::Damaged { .. } | BackupState::Deleting { .. }) {
            return Ok(Ownership::Uncertain);
        }
    }
    Ok(Ownership::Certain)
}
