//! VERIFY: checks that every object is stored, then writes the manifest.

use std::{
    collections::{BTreeMap, BTreeSet},
    iter::Peekable,
    pin::pin,
    vec::IntoIter,
};

use futures::{
    StreamExt, TryStreamExt,
    stream::{self, BoxStream},
};
use milvault_model::{
    BackupPhase, CollectionCapture, FailureCode, LeftOutCause, Manifest, ObjectEntry, Origin, PageRef, Planning,
    Publishing, Reuse, RowCount, SegmentCapture, Time, Totals, Verifying,
};
use milvault_ports::{PutMode, PutOutcome};

use super::{
    explain,
    inspection::{Finding, Inspection},
    lines::CaptureLine,
    logs::{DELTA, INSERT},
    object_lock::Locks,
    work::Work,
};
use crate::{
    Error,
    engine::halt::{Halt, Step, fatal, require_time},
    snapshot::layout::{self, PageKind},
};

/// The number of pages read at once; each takes some megabytes of memory.
const PAGES_IN_FLIGHT: usize = 4;

/// Compares the plan's pages with a listing of the destination, then writes the manifest.
pub(crate) async fn verify(work: &mut Work<'_>, mut verifying: Verifying) -> Step {
    let folder = work.folder();
    let mut inspection = Inspection::new(work.jobs, work.bucket, work.data_prefix());
    let locks = Locks::for_work(work).await?;
    if let Some(locks) = &locks {
        // The earliest time that any invocation found: the base's locks may be renewed between invocations.
        work.backup.all_locked_until = work.backup.all_locked_until.into_iter().chain([locks.until()]).min();
    }
    let keys: Vec<String> =
        (verifying.next..verifying.plan.count).map(|number| PageKind::Objects.key(&verifying.plan, number)).collect();
    // The next page is read while one is compared.
    let mut pages = pin!(stream::iter(keys).map(async |key| folder.read::<ObjectEntry>(&key).await).buffered(2));
    while verifying.next < verifying.plan.count {
        require_time(work.deadline, work.jobs.now())?;
        let Some(entries) = pages.try_next().await? else { return Err(Halt::OutOfTime) };
        for entry in &entries {
            if let Some(finding) = inspection.check(entry).await? {
                // A reused object, or one that was lost after it was copied, has to be copied.
                let what = match finding {
                    Finding::Missing => "is missing",
                    Finding::Changed => "is not what was copied",
                };
                tracing::warn!(key = %entry.key, backup = %work.backup.id, "a stored object {what}: planning again");
                work.run.reuse = Reuse::Nothing;
                let planning = Planning { capture: verifying.capture, ..Planning::default() };
                return work.plan_again(planning, format!("the stored object {} {what}", entry.key)).await;
            }
        }
        if let Some(locks) = &locks {
            locks.renew(work, &entries).await?;
        }
        verifying.next += 1;
        work.run.phase = BackupPhase::Verify(verifying.clone());
        work.checkpoint().await?;
    }
    seal(work, &verifying).await?;
    if let Some(locks) = &locks {
        locks.renew_documents(work).await?;
    }
    Ok(work.enter(BackupPhase::Publish(Publishing::default())).await?)
}

/// Writes the manifest's pages of collections, with their sizes, and the manifest.
async fn seal(work: &Work<'_>, verified: &Verifying) -> Step {
    let folder = work.folder();
    let (_, source) = work.source()?;
    let mut manifest = Manifest {
        format: 1,
        backup_id: work.backup.id.clone(),
        instance_id: work.instance.id.clone(),
        name: work.backup.name.clone(),
        method: work.backup.method,
        engine_version: work.backup.engine_version.clone(),
        source,
        // An instance without collections is captured as of when the backup began.
        point_in_time: work.run.started_at,
        totals: Totals::default(),
        databases: Vec::new(),
        left_out: Vec::new(),
        captured_as: None,
        access_control: None,
        object_pages: Vec::new(),
        collection_pages: Vec::new(),
    };
    let mut earliest: Option<Time> = None;
    let mut names = BTreeSet::new();
    let mut sizes = Sizes::new(work, verified);
    for number in 0..verified.capture.count {
        let mut collections = Vec::new();
        for line in folder.read(&PageKind::Capture.key(&verified.capture, number)).await? {
            match line {
                CaptureLine::Database(database) => manifest.databases.push(database),
                CaptureLine::AccessControl(found) => manifest.access_control = Some(found),
                CaptureLine::LeftOut(left_out) => manifest.left_out.push(left_out),
                CaptureLine::Principal(principal) => manifest.captured_as = Some(principal),
                CaptureLine::Collection(line) => {
                    let mut collection = line.capture;
                    // Only PLAN needs the captured delta logs.
                    collection.segments.iter_mut().for_each(|segment| segment.delta_logs.clear());
                    sizes.measure(&mut collection, &mut manifest).await?;
                    names.insert(collection.name.clone());
                    manifest.totals.entities += collection.rows.rows();
                    manifest.totals.counted_exactly += u64::from(matches!(collection.rows, RowCount::Exactly { .. }));
                    earliest = earliest.into_iter().chain([collection.point_in_time]).min();
                    collections.push(collection);
                }
            }
        }
        if !collections.is_empty() {
            manifest.totals.collections += collections.len() as u64;
            let key = PageKind::Collections.key(&verified.capture, number);
            manifest.collection_pages.push(folder.write_with_ref(key, &collections).await?);
        }
    }
    // A dropped collection isn't reported if a new one has its name.
    manifest.left_out.retain(|out| out.cause != LeftOutCause::Dropped || !names.contains(&out.collection));
    let mut troubles = manifest.left_out.iter().filter(|left_out| left_out.cause == LeftOutCause::Trouble);
    if let (0, Some(first)) = (manifest.totals.collections, troubles.next()) {
        let more = match troubles.count() {
            0 => String::new(),
            more => format!(" (and {more} more)"),
        };
        let message = format!("no collection could be backed up: {}: {}{more}", first.collection, first.reason);
        return Err(fatal(first.code.unwrap_or(FailureCode::SourceInconsistent), message));
    }
    if sizes.has_more(&mut manifest).await? {
        return Err(folder.bad(PageKind::Objects.prefix(), "an object belongs to no collection").into());
    }
    manifest.point_in_time = earliest.unwrap_or(work.run.started_at);

    let body = serde_json::to_vec_pretty(&manifest).map_err(|error| folder.bad(layout::MANIFEST, error.to_string()))?;
    let key = folder.path(layout::MANIFEST);
    let put = folder.objects.put(folder.bucket, &key, body, PutMode::IfAbsent).await?;
    // An interrupted worker may have written the manifest already.
    if put == PutOutcome::Occupied && folder.manifest_if_exists().await?.as_ref() != Some(&manifest) {
        return Err(folder.bad(layout::MANIFEST, "another manifest is stored").into());
    }
    Ok(())
}

/// The objects' pages, read once in the order of the collections.
struct Sizes<'a> {
    pages: BoxStream<'a, Result<(Vec<ObjectEntry>, PageRef), Error>>,
    entries: Peekable<IntoIter<ObjectEntry>>,
}

impl<'a> Sizes<'a> {
    fn new(work: &Work<'a>, verified: &Verifying) -> Self {
        let (folder, plan) = (work.folder(), verified.plan.clone());
        let pages = stream::iter(0..plan.count).map(move |number| {
            let (folder, key) = (folder.clone(), PageKind::Objects.key(&plan, number));
            async move { folder.read_with_ref(&key).await }
        });
        Self { pages: pages.buffered(PAGES_IN_FLIGHT).boxed(), entries: Vec::new().into_iter().peekable() }
    }

    /// Adds up the objects of this collection, which must sort after the previous one, in the collection and the
    /// manifest.
    ///
    /// # Errors
    /// If a segment with rows has no object: whatever the cause is, such a backup isn't published.
    async fn measure(&mut self, collection: &mut CollectionCapture, manifest: &mut Manifest) -> Step {
        let id = collection.id.to_string();
        let (mut bytes, mut delta_logs) = (0, 0);
        let mut unseen: BTreeMap<i64, &SegmentCapture> = collection
            .segments
            .iter()
            .filter(|segment| segment.rows > 0)
            .map(|segment| (segment.id, segment))
            .collect();
        while self.has_more(manifest).await?
            && let Some(entry) = self.entries.next_if(|entry| entry.key.collection() == id)
        {
            if let Some(segment) = entry.key.below(INSERT).and_then(|rest| rest.split('/').nth(1)?.parse().ok()) {
                unseen.remove(&segment);
            }
            delta_logs += u64::from(entry.key.below(DELTA).is_some());
            bytes += entry.size;
            manifest.totals.objects += 1;
            manifest.totals.size_bytes += entry.size;
            match entry.origin {
                Origin::Own => manifest.totals.added_bytes += entry.size,
                Origin::AlreadyStored => manifest.totals.found_bytes += entry.size,
                Origin::Earlier => {}
            }
        }
        if let Some(segment) = unseen.into_values().next() {
            let reason = explain::unexplained(collection, segment, "none of them is in the backup");
            return Err(fatal(FailureCode::SourceInconsistent, format!("{}: {reason}", collection.name)));
        }
        collection.size_bytes = bytes;
        collection.delta_logs = Some(delta_logs);
        Ok(())
    }

    /// Returns whether there is another entry. Adds each page that it reads to the manifest.
    async fn has_more(&mut self, manifest: &mut Manifest) -> Result<bool, Error> {
        while self.entries.peek().is_none() {
            let Some((entries, page)) = self.pages.try_next().await? else { return Ok(false) };
            manifest.object_pages.push(page);
            self.entries = entries.into_iter().peekable();
        }
        Ok(true)
    }
}
