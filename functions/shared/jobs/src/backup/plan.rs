//! PLAN: lists the objects that the backup consists of, and marks those that are stored already.
//!
//! Collections are sorted by id, and the listings of their logs by key. So the plan is created in order, is compared
//! with an earlier backup's objects along the way, and is never in memory as a whole.

use std::{collections::BTreeSet, pin::pin};

use futures::{StreamExt, TryStreamExt, stream};
use milvault_model::{
    Backup, BackupId, BackupPhase, BackupState, CollectionCapture, Copied, Copying, FailureCode, ObjectEntry,
    ObjectKey, Origin, Planning, Progress, Reuse, SegmentCapture, SegmentLevel, StorageVersion, Unexplained,
};
use milvault_ports::{Bucket, ObjectMeta, items};

use super::{
    explain::{self, Judgement, Listed, Resolver},
    lines::{CaptureLine, CollectionLine},
    listing::Logs,
    logs::{Log, log_of},
    metadata::{FileStatus, Metadata},
    segments::{Segments, Unconfirmed},
    survey::Selected,
    work::Work,
};
use crate::{
    Error, Jobs,
    engine::halt::{Halt, Step, fatal, require_time},
    snapshot::{ObjectReader, layout::PageKind, pages::Folder},
};

/// The number of collections whose listings are requested in advance: most listings have less than one page.
const LISTINGS_IN_FLIGHT: usize = 32;

/// The most collections that are left out because their files don't explain their rows; if there are more, the backup
/// fails.
const MOST_UNEXPLAINED: usize = 200;

/// Plans collections until all are planned or the time is over.
pub(crate) async fn plan(work: &mut Work<'_>, planning: Planning) -> Step {
    if work.run.reuse == Reuse::Newest {
        work.run.reuse = match newest_available(work.jobs, &work.backup).await? {
            Some(base) => Reuse::From(base),
            None => Reuse::Nothing,
        };
        // Durable before it is used: another worker has to continue with the same base.
        work.checkpoint().await?;
    }
    let capture = planning.capture.clone();
    match Planner::plan(work, planning).await {
        // A document of the earlier backup can't be read: plan without that backup.
        Err(Halt::Error(Error::Document { key, reason })) if matches!(work.run.reuse, Reuse::From(_)) => {
            tracing::warn!(key, reason, backup = %work.backup.id, "planning again, without the earlier backup");
            work.run.reuse = Reuse::Nothing;
            let reason = format!("the earlier backup's {key} cannot be read");
            work.plan_again(Planning { capture, ..Planning::default() }, reason).await
        }
        result => result,
    }
}

struct Planner<'w, 'a> {
    work: &'w mut Work<'a>,
    planning: Planning,
    /// The objects of the present page.
    entries: Vec<ObjectEntry>,
    /// The objects of the earlier backup.
    base: Option<ObjectReader<'a>>,
    /// The objects of this backup's earlier plan, if it plans again.
    earlier: Option<ObjectReader<'a>>,
    bucket: Bucket,
    root: String,
}

impl<'w, 'a> Planner<'w, 'a> {
    async fn plan(work: &'w mut Work<'a>, planning: Planning) -> Step {
        let (bucket, source) = work.source()?;
        let root = source.root_path.prefix();
        let base = match &work.run.reuse {
            Reuse::From(base) => {
                let folder = Folder::new(work.jobs.ports.objects.as_ref(), work.bucket, &work.instance.id, base);
                let manifest = folder.manifest().await?;
                Some(ObjectReader::for_manifest(folder, manifest))
            }
            Reuse::Newest | Reuse::Nothing => None,
        };
        let earlier = planning.again.as_ref().map(|again| ObjectReader::for_plan(work.folder(), again.plan.clone()));
        let entries = Vec::new();
        let mut planner = Planner { work, planning, entries, base, earlier, bucket, root };
        planner.collections().await?;
        planner.end().await
    }

    async fn collections(&mut self) -> Step {
        let after = self.planning.after.as_ref().map(|key| key.collection().to_owned());
        while self.planning.page < self.planning.capture.count {
            let key = PageKind::Capture.key(&self.planning.capture, self.planning.page);
            let lines: Vec<CaptureLine> = self.work.folder().read(&key).await?;
            let collections: Vec<Box<CollectionLine>> = lines
                .into_iter()
                .filter_map(|line| match line {
                    CaptureLine::Collection(line) => Some(line),
                    CaptureLine::Principal(_)
                    | CaptureLine::Database(_)
                    | CaptureLine::AccessControl(_)
                    | CaptureLine::LeftOut(_) => None,
                })
                .collect();
            // In another order, a collection that isn't planned yet could be skipped.
            let ids = || collections.iter().map(|line| line.capture.id.to_string());
            if !ids().is_sorted_by(|a, b| a < b) {
                return Err(self.work.folder().bad(&key, "its collections are not sorted").into());
            }
            let is_ahead = |id: String| after.as_ref().is_none_or(|after| id >= *after);
            let collections = collections.into_iter().filter(|line| is_ahead(line.capture.id.to_string()));
            let (jobs, bucket, root) = (self.work.jobs, self.bucket.clone(), self.root.clone());
            let (last, again) = (self.planning.after.clone(), self.planning.again.clone());
            let mut begun = stream::iter(collections)
                .map(async |line| {
                    let is_kept = again.as_ref().is_some_and(|again| !again.collections.contains(&line.capture.id));
                    let logs = match is_kept {
                        true => None,
                        false => Some(Logs::begin(jobs, &bucket, &root, &line.capture, last.as_ref()).await?),
                    };
                    Ok::<_, Error>((line, logs))
                })
                .buffered(LISTINGS_IN_FLIGHT);
            while let Some(begun) = begun.next().await {
                match begun? {
                    (line, Some(logs)) => self.list(&line, logs).await?,
                    (line, None) => self.keep(&line.capture).await?,
                }
            }
            drop(begun);
            self.planning.page += 1;
        }
        Ok(())
    }

    /// Plans a collection as in the earlier plan.
    async fn keep(&mut self, collection: &CollectionCapture) -> Step {
        let Some(mut earlier) = self.earlier.take() else { return Ok(()) };
        let id = collection.id.to_string();
        while let Some(entry) = earlier.next_of(&id).await? {
            if self.planning.after.as_ref().is_none_or(|after| entry.key > *after) {
                self.entries.push(entry);
            }
            if self.is_full() {
                self.end_page().await?;
            }
        }
        self.earlier = Some(earlier);
        Ok(())
    }

    /// Adds the insert and delete logs of a collection's captured segments, if they explain its rows.
    async fn list(&mut self, line: &CollectionLine, logs: [Logs; 2]) -> Step {
        let collection = &line.capture;
        let metadata = Metadata::new(self.work.milvus().await?, collection);
        let mut listing = Segments::new(collection, metadata, self.planning.after.as_ref());
        let (jobs, bucket) = (self.work.jobs, self.bucket.clone());
        for logs in logs {
            let rest = logs.rest(collection);
            self.add_listed(&mut listing, logs.kind, logs.listing.items).await?;
            let mut parts =
                stream::iter(rest).map(|part| part.list(jobs, &bucket, &logs.prefix)).buffered(LISTINGS_IN_FLIGHT);
            while let Some(objects) = parts.next().await {
                self.add_listed(&mut listing, logs.kind, objects?).await?;
            }
        }
        self.explain(&mut listing).await?;
        // No key of the collection sorts behind this one.
        self.note_lost_deletes(&mut listing, &format!("{}0", collection.id)).await?;
        if let Some(segment) = listing.ahead.last().map(|(_, segment)| *segment) {
            self.note_unseen(&listing, segment).await?;
        }
        self.confirm(&mut listing).await?;
        // A collection that was selected by name can't be left out.
        match self.planning.unexplained.last() {
            Some(unexplained)
                if unexplained.collection == collection.id && matches!(line.selected, Selected::ByName(_)) =>
            {
                let message = format!("{}: {}", collection.name, unexplained.reason);
                Err(fatal(FailureCode::SourceInconsistent, message))
            }
            _ => Ok(()),
        }
    }

    /// Adds the listed logs that belong to the backup.
    async fn add_listed(&mut self, listing: &mut Segments<'_>, kind: &str, objects: Vec<ObjectMeta>) -> Step {
        for object in objects {
            let Some(key) = ObjectKey::from_source(&object.key[self.root.len()..]) else { continue };
            let Some((segment, log)) = log_of(&key, kind) else { continue };
            if !listing.segments.contains_key(&segment) {
                continue;
            }
            if let Some(passed) = listing.note_listed(&key) {
                self.note_unseen(listing, passed).await?;
            }
            self.note_lost_deletes(listing, key.as_str()).await?;
            match log {
                Log::Delta(log) => {
                    if listing.metadata.delta_log(segment, log).await? != FileStatus::Orphan {
                        self.add(listing, key, object).await?;
                    }
                }
                Log::Insert(place) => {
                    if listing.current.as_ref().is_none_or(|(current, _)| *current != segment) {
                        self.explain(listing).await?;
                    }
                    let (_, logs) = listing.current.get_or_insert_with(|| (segment, Vec::new()));
                    logs.push(Listed { key, place, object });
                }
            }
        }
        Ok(())
    }

    /// Adds the insert logs of the current segment, if they explain its rows.
    async fn explain(&mut self, listing: &mut Segments<'_>) -> Step {
        let Some((id, mut logs)) = listing.current.take() else { return Ok(()) };
        let Some(segment) = listing.segments.get(&id).copied() else { return Ok(()) };
        let known = listing.metadata.insert_logs(id).await?;
        let source = match known {
            Some(known) => {
                logs.retain(|log| known.contains(&log.place));
                if logs.len() < known.len() {
                    let reason = format!("{} of its {} logs are missing", known.len() - logs.len(), known.len());
                    return self.note(listing, segment, reason).await;
                }
                explain::Source::Metadata
            }
            None => explain::Source::Listing,
        };
        let folders = explain::folders(logs);
        let mut copies = BTreeSet::new();
        let judgement = explain::judge(segment, &listing.collection.fields, &folders, source);
        if source == explain::Source::Listing && segment.storage == StorageVersion::V1 {
            let row_ids = (judgement == Judgement::Explained).then(|| explain::row_ids(&folders));
            let without_logs = explain::field_without_logs(&listing.collection.fields, &folders);
            if row_ids.is_some() || without_logs.is_some() {
                listing.unconfirmed.push(Unconfirmed { segment, row_ids, without_logs });
            }
        }
        match judgement {
            Judgement::Explained => {}
            Judgement::Inconsistent(reason) => return self.note(listing, segment, reason).await,
            Judgement::Doubtful => {
                let resolver = Resolver { objects: self.work.jobs.ports.objects.as_ref(), bucket: &self.bucket };
                match resolver.resolve(segment, &folders).await? {
                    Ok(left) => copies = left,
                    Err(reason) => return self.note(listing, segment, reason).await,
                }
            }
        }
        let mut logs: Vec<Listed> =
            folders.into_values().flatten().filter(|log| !copies.contains(&log.place)).collect();
        logs.sort_by(|a, b| a.key.cmp(&b.key));
        for log in logs {
            self.add(listing, log.key, log.object).await?;
        }
        Ok(())
    }

    /// Adds a log to the plan.
    async fn add(&mut self, listing: &mut Segments<'_>, key: ObjectKey, object: ObjectMeta) -> Step {
        // Logs up to `after` are in the plan already.
        if self.planning.after.as_ref().is_some_and(|after| key <= *after) || self.is_lost(listing) {
            return Ok(());
        }
        let (size, source_etag) = (object.size, object.etag);
        let mut entry = ObjectEntry { key, size, source_etag, etag: None, origin: Origin::Earlier };
        self.reuse(&mut entry).await?;
        self.entries.push(entry);
        if self.is_full() {
            // Confirmed before the page is written: the next slice begins after it.
            self.confirm(listing).await?;
            self.end_page().await?;
        }
        Ok(())
    }

    /// Checks that the listing is complete so far. Garbage collection removes the files of a segment one by one, but
    /// only if the server no longer has the segment. The logs of row ids of such a segment must have all of its rows,
    /// and every field must have logs, even one that may have been added after the segment was written.
    async fn confirm(&mut self, listing: &mut Segments<'_>) -> Step {
        let unconfirmed = std::mem::take(&mut listing.unconfirmed);
        if unconfirmed.is_empty() || self.is_lost(listing) {
            return Ok(());
        }
        let there = listing.metadata.segments().await?;
        let resolver = Resolver { objects: self.work.jobs.ports.objects.as_ref(), bucket: &self.bucket };
        for Unconfirmed { segment, row_ids, without_logs } in unconfirmed {
            if there.contains(&segment.id) {
                continue;
            }
            let reason = match (without_logs, row_ids) {
                (Some(field), _) => Some(format!("it has no logs of field {} ({})", field.id, field.name)),
                (None, Some(row_ids)) => resolver.resolve(segment, &row_ids).await?.err(),
                (None, None) => None,
            };
            if let Some(reason) = reason {
                return self.note(listing, segment, reason).await;
            }
        }
        Ok(())
    }

    /// Notes that the listing shows no files of a segment.
    async fn note_unseen(&mut self, listing: &Segments<'_>, segment: &SegmentCapture) -> Step {
        let what = match segment.level {
            SegmentLevel::Data => "insert logs",
            SegmentLevel::L0 => "delta logs",
        };
        let reason = self.not_found(listing, what);
        self.note(listing, segment, reason).await
    }

    /// Notes that captured delta logs aren't listed. If the server still has the segment, the log was left behind by a
    /// retried write: no other file of such a segment is collected.
    async fn note_lost_deletes(&mut self, listing: &mut Segments<'_>, key: &str) -> Step {
        let lost = listing.pass_deletes(key);
        if lost.is_empty() || self.is_lost(listing) {
            return Ok(());
        }
        let there = listing.metadata.segments().await?;
        match lost.into_iter().find(|segment| !there.contains(&segment.id)) {
            Some(segment) => self.note(listing, segment, "one of its delta logs is gone".to_owned()).await,
            None => Ok(()),
        }
    }

    /// Returns whether this collection is already left out, or to be captured again.
    fn is_lost(&self, listing: &Segments<'_>) -> bool {
        let id = listing.collection.id;
        self.planning.gone.contains(&id) || self.planning.unexplained.iter().any(|lost| lost.collection == id)
    }

    /// Notes that a segment's files don't explain its rows. If the server no longer has the segment, it was compacted
    /// or dropped after the capture, and its files are being removed: the collection is captured again.
    async fn note(&mut self, listing: &Segments<'_>, segment: &SegmentCapture, reason: String) -> Step {
        if self.is_lost(listing) {
            return Ok(());
        }
        let collection = listing.collection;
        let is_there = listing.metadata.segments().await?.contains(&segment.id);
        tracing::info!(
            segment = segment.id, is_there, odd = reason, collection = %collection.name, backup = %self.work.backup.id,
            "a segment's files do not explain its rows"
        );
        if !is_there {
            self.planning.gone.insert(collection.id);
            return Ok(());
        }
        if self.planning.unexplained.len() >= MOST_UNEXPLAINED {
            let message = format!("{}: {}", collection.name, explain::unexplained(collection, segment, &reason));
            let message =
                format!("more than {MOST_UNEXPLAINED} collections cannot be backed up, the last of them {message}");
            return Err(fatal(FailureCode::SourceInconsistent, message));
        }
        let reason = explain::unexplained(collection, segment, &reason);
        let code = FailureCode::SourceInconsistent;
        self.planning.unexplained.push(Unexplained { collection: collection.id, code, reason });
        Ok(())
    }

    /// The reason for a segment without any files.
    fn not_found(&self, listing: &Segments<'_>, what: &str) -> String {
        let root = match self.root.as_str() {
            "" => "(empty)",
            root => root,
        };
        let others = match listing.is_any_seen {
            true => "",
            false => ", nor has any other segment of the collection: is this where the server keeps its data?",
        };
        format!("it has no {what} in bucket {} below the root path {root}{others}", self.bucket.name)
    }

    /// Marks an entry if its object is stored already.
    async fn reuse(&mut self, entry: &mut ObjectEntry) -> Result<(), Error> {
        for (reader, is_own) in [(&mut self.earlier, true), (&mut self.base, false)] {
            let Some(reader) = reader else { continue };
            if let Some(found) = reader.seek(&entry.key).await?
                && found.etag.is_some()
                && found.size == entry.size
                && found.source_etag == entry.source_etag
            {
                entry.etag = found.etag;
                entry.origin = if is_own { found.origin } else { Origin::Earlier };
                return Ok(());
            }
        }
        Ok(())
    }

    fn is_full(&self) -> bool {
        self.entries.len() >= self.work.jobs.settings.objects_per_page
    }

    async fn end_page(&mut self) -> Step {
        self.write_page().await?;
        let progress =
            Progress { objects_total: self.planning.objects, bytes_total: self.planning.bytes, ..Progress::default() };
        self.work.advance_to(BackupPhase::Plan(self.planning.clone()), progress).await?;
        require_time(self.work.deadline, self.work.jobs.now())
    }

    async fn write_page(&mut self) -> Step {
        let Some(last) = self.entries.last() else { return Ok(()) };
        self.planning.after = Some(last.key.clone());
        self.planning.objects += self.entries.len() as u64;
        self.planning.bytes += self.entries.iter().map(|entry| entry.size).sum::<u64>();
        let fence = self.work.lease.fence;
        let key = PageKind::Plan.key_with_fence(fence, self.planning.plan.count);
        self.work.folder().write(&key, &self.entries).await?;
        self.planning.plan.push(fence);
        self.entries.clear();
        Ok(())
    }

    async fn end(mut self) -> Step {
        self.write_page().await?;
        let Planning { capture, plan, objects, bytes, gone, unexplained, .. } = self.planning;
        let progress = Progress { objects_total: objects, bytes_total: bytes, ..Progress::default() };
        let (ahead, done) = (BTreeSet::new(), Copied::default());
        let copying = Copying { capture, plan, next: 0, ahead, done, gone, unexplained };
        Ok(self.work.advance_to(BackupPhase::Copy(copying), progress).await?)
    }
}

/// Returns the instance's newest available backup in the same region.
async fn newest_available(jobs: &Jobs, backup: &Backup) -> Result<Option<BackupId>, Error> {
    let is_near = |found: &Backup| matches!(found.state, BackupState::Available(_)) && found.region == backup.region;
    let mut backups = pin!(items(100, |page| jobs.ports.catalog.backups(&backup.instance_id, page)));
    while let Some(found) = backups.try_next().await? {
        if is_near(&found.value) {
            return Ok(Some(found.value.id));
        }
    }
    Ok(None)
}
