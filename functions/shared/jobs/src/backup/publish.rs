//! PUBLISH: the backup becomes AVAILABLE, unless what is stored isn't what its manifest says.

use std::{collections::BTreeSet, pin::pin};

use futures::TryStreamExt;
use milvault_model::{BackupPhase, BackupState, Completeness, Manifest, Publishing, Reuse, Snapshot};
use milvault_ports::items;

use super::{clean::remove_own, object_lock::ObjectLock, work::Work};
use crate::{
    Error,
    engine::halt::Step,
    snapshot::{self, claims::Claims, layout::PageKind, ownership},
};

/// The manifest is written: tidy up and become AVAILABLE.
pub(crate) async fn publish(work: &mut Work<'_>, mut publishing: Publishing) -> Step {
    work.held.drain(work.deadline).await?;
    let objects = work.jobs.ports.objects.as_ref();
    let manifest = snapshot::manifest(objects, work.bucket, &work.instance.id, &work.backup.id).await?;
    // An earlier plan may have copied objects that the last one doesn't have.
    if work.run.replans > 0 {
        let claims = Claims::read(work.jobs, &work.backup).await?;
        let claims = claims.and(work.backup.id.clone(), manifest.clone());
        remove_own(work, &claims, PageKind::Plan).await?;
        let pages = manifest.object_pages.iter().chain(&manifest.collection_pages);
        let named: BTreeSet<&str> = pages.map(|page| page.key.as_str()).collect();
        for kind in [PageKind::Objects, PageKind::Collections] {
            work.folder().remove_all_but(kind.prefix(), &named).await?;
        }
    }
    for kind in [PageKind::Plan, PageKind::Survey, PageKind::Capture] {
        work.folder().remove_all(kind.prefix()).await?;
    }
    // Nothing is stored after this.
    let lock = ObjectLock::of(work.jobs, work.bucket, &work.backup, work.run.started_at).await?;
    work.backup.locked_until = lock.map(|lock| lock.locked_until(work.jobs.now()));
    let snapshot = Snapshot {
        started_at: work.run.started_at,
        completed_at: work.jobs.now(),
        point_in_time: manifest.point_in_time,
        totals: manifest.totals,
        completeness: Completeness::of(&manifest.left_out, manifest.captured_as.as_ref()),
        captured_as: manifest.captured_as.clone(),
    };
    let owned = match doubts(work, &manifest).await? {
        Stored::ByTheBook => manifest.totals.added_bytes,
        Stored::Doubtful => {
            // Until the job is over, no other one of the instance changes what other backups claim.
            let counted = ownership::count(work.jobs, &work.backup, &manifest, &mut publishing, work.deadline).await;
            // Whatever ended it, the next try goes on from here.
            if counted.is_err() && work.run.phase != BackupPhase::Publish(publishing) {
                work.enter(BackupPhase::Publish(publishing)).await?;
            }
            counted?;
            publishing.owned_bytes
        }
    };
    let opened = ownership::opened(&work.backup, &snapshot, owned, work.jobs.now());
    work.end(BackupState::Available(snapshot), opened.into_iter().collect()).await
}

/// What is known of a backup that is about to be published.
enum Stored {
    /// It has everything that it didn't store from its base, and nothing else interferes: it owns what it stored.
    ByTheBook,
    /// Object by object it has to be seen who owns it.
    Doubtful,
}

/// Whether what this backup stored may be counted as another one's: of a damaged one that lacks it, or of one that is
/// being deleted; and whether it has what it neither stored nor took over.
async fn doubts(work: &Work<'_>, manifest: &Manifest) -> Result<Stored, Error> {
    if manifest.totals.found_bytes > 0 || !matches!(work.run.reuse, Reuse::From(_)) {
        return Ok(Stored::Doubtful);
    }
    let mut backups = pin!(items(100, |page| work.jobs.ports.catalog.backups(&work.instance.id, page)));
    while let Some(found) = backups.try_next().await? {
        if matches!(found.value.state, BackupState::Damaged { .. } | BackupState::Deleting { .. }) {
            return Ok(Stored::Doubtful);
        }
    }
    Ok(Stored::ByTheBook)
}
