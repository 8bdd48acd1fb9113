//! FLUSH: every collection at a stated point in time.

use futures::{StreamExt, TryStreamExt, stream};
use milvault_model::{BackupPhase, CollectionName, CollectionPattern, FailureCode, LeftOut, restore_owns};

use super::{
    capture::{Captured, capture},
    work::Work,
};
use crate::{
    layout::PageKind,
    pages::COLLECTIONS_PER_PAGE,
    ports::PutMode,
    slice::{Step, fatal},
};

/// Collections flushed at once: each flush waits seconds for the server, which works on them side by side.
const FLUSHES_IN_FLIGHT: usize = 4;

/// What FLUSH found beside the collections, kept until the manifest is written.
#[derive(Debug, Default, serde::Serialize, serde::Deserialize)]
pub(crate) struct Survey {
    pub(crate) databases: Vec<String>,
    pub(crate) left_out: Vec<LeftOut>,
}

/// The survey's key in the backup's folder.
pub(crate) fn survey_key(capture: u64) -> String {
    format!("{}{capture:010}-survey.json", PageKind::Capture.prefix())
}

pub(crate) async fn flush(work: &mut Work<'_>) -> Step {
    let milvus = work.milvus().await?;
    let mut survey = Survey::default();
    let mut wanted = Vec::new();
    for database in milvus.databases().await? {
        for (collection, _) in milvus.collections(&database).await? {
            let name = CollectionName::new(&database, collection);
            if restore_owns(&name.collection) {
                let reason = "made by a restore: being rebuilt, or kept for a rollback".to_owned();
                survey.left_out.push(LeftOut { collection: name, reason });
            } else if CollectionPattern::selects(&work.backup.selection, &name) {
                wanted.push(name);
            }
        }
        survey.databases.push(database);
    }
    for pattern in &work.backup.selection {
        if !wanted.iter().any(|name| pattern.matches(name)) {
            return Err(fatal(FailureCode::MilvusRefused, format!("nothing matches '{pattern}': no such collection")));
        }
    }
    wanted.sort();

    let captures: Vec<Captured> = stream::iter(&wanted)
        .map(|name| capture(milvus.as_ref(), name))
        .buffered(FLUSHES_IN_FLIGHT)
        .try_collect()
        .await?;
    let mut collections = Vec::with_capacity(captures.len());
    for captured in captures {
        match captured {
            Captured::Whole(collection) => collections.push(*collection),
            Captured::DroppedBefore(name) => {
                survey.left_out.push(LeftOut { collection: name, reason: "dropped before its flush".to_owned() });
            }
        }
    }

    let fence = work.lease.fence;
    let folder = work.folder();
    for (number, page) in (0..).zip(collections.chunks(COLLECTIONS_PER_PAGE)) {
        folder.write(PageKind::Capture.key(fence, number), page).await?;
    }
    let body = serde_json::to_vec(&survey).map_err(|error| folder.bad("survey", error.to_string()))?;
    folder.objects.put(folder.bucket, &folder.path(&survey_key(fence)), body, PutMode::Replace).await?;
    Ok(work.enter(BackupPhase::Plan { capture: fence }).await?)
}
