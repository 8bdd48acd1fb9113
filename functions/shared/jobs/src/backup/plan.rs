//! PLAN: which objects the backup consists of, and which of them are stored already.
//!
//! Collections come in the order of their ids, and the listings of their logs in the order of keys: so the plan is
//! sorted as it is made, is compared with an earlier backup's objects side by side, and never is in memory whole.

use std::{collections::BTreeSet, pin::pin};

use futures::{StreamExt, TryStreamExt, stream};
use milvault_model::{
    Backup, BackupId, BackupPhase, BackupState, CollectionCapture, Copied, Copying, FailureCode, ObjectEntry,
    ObjectKey, Origin, Planning, Progress, Reuse, SegmentCapture, SegmentLevel, StorageVersion, Unexplained,
};
use milvault_ports::{Bucket, ObjectMeta, items};

use super::{
    explain::{self, Judgement, Listed, Resolver},
    found::{Found, Taken},
    listing::Logs,
    logs::{Log, log_of},
    metadata::{Known, Metadata},
    segments::{Segments, Unconfirmed},
    survey::Asked,
    work::Work,
};
use crate::{
    Error, Jobs,
    engine::halt::{Halt, Step, fatal, require_time},
    snapshot::{self, ObjectReader, layout::PageKind},
};

/// Collections whose listings are begun before it is their turn: most have less than one page of it.
const LISTINGS_IN_FLIGHT: usize = 32;

/// So many collections with files that can't be explained are left out, each by name; more are no accident.
const MOST_UNEXPLAINED: usize = 200;

/// Plans until all is planned or the time is over.
pub(crate) async fn plan(work: &mut Work<'_>, planning: Planning) -> Step {
    if work.run.reuse == Reuse::Newest {
        work.run.reuse = match newest_available(work.jobs, &work.backup).await? {
            Some(base) => Reuse::From(base),
            None => Reuse::Nothing,
        };
        // Durable before it is used: another worker has to go on with the same one.
        work.checkpoint().await?;
    }
    let capture = planning.capture.clone();
    match Planner::plan(work, planning).await {
        // Of the earlier backup something can't be read: do without it.
        Err(Halt::Error(Error::Document { key, reason })) if matches!(work.run.reuse, Reuse::From(_)) => {
            tracing::warn!(key, reason, backup = %work.backup.id, "planning again, without the earlier backup");
            work.run.reuse = Reuse::Nothing;
            let reason = format!("the earlier backup's {key} can't be read");
            work.plan_again(Planning { capture, ..Planning::default() }, reason).await
        }
        result => result,
    }
}

struct Planner<'w, 'a> {
    work: &'w mut Work<'a>,
    planning: Planning,
    /// The present page's objects.
    entries: Vec<ObjectEntry>,
    /// What the earlier backup has.
    base: Option<ObjectReader<'a>>,
    /// What this backup's earlier plan has, if it plans again.
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
                let (objects, bucket) = (work.jobs.ports.objects.as_ref(), work.bucket);
                let manifest = snapshot::manifest(objects, bucket, &work.instance.id, base).await?;
                let folder = snapshot::folder(objects, bucket, &work.instance.id, base);
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
            let lines: Vec<Found> = self.work.folder().read(&key).await?;
            let collections: Vec<Box<Taken>> = lines
                .into_iter()
                .filter_map(|line| match line {
                    Found::Collection(taken) => Some(taken),
                    Found::Principal(_) | Found::Database(_) | Found::AccessControl(_) | Found::LeftOut(_) => None,
                })
                .collect();
            // What is behind `after` was planned before only if the order is right: else a collection would be skipped.
            let ids = || collections.iter().map(|taken| taken.capture.id.to_string());
            if !ids().is_sorted_by(|a, b| a < b) {
                return Err(self.work.folder().bad(&key, "its collections aren't sorted").into());
            }
            let is_ahead = |id: String| after.as_ref().is_none_or(|after| id >= *after);
            let collections = collections.into_iter().filter(|taken| is_ahead(taken.capture.id.to_string()));
            let (jobs, bucket, root) = (self.work.jobs, self.bucket.clone(), self.root.clone());
            let (last, again) = (self.planning.after.clone(), self.planning.again.clone());
            let mut begun = stream::iter(collections)
                .map(async |taken| {
                    let is_kept = again.as_ref().is_some_and(|again| !again.collections.contains(&taken.capture.id));
                    let logs = match is_kept {
                        true => None,
                        false => Some(Logs::begin(jobs, &bucket, &root, &taken.capture, last.as_ref()).await?),
                    };
                    Ok::<_, Error>((taken, logs))
                })
                .buffered(LISTINGS_IN_FLIGHT);
            while let Some(begun) = begun.next().await {
                match begun? {
                    (taken, Some(logs)) => self.list(&taken, logs).await?,
                    (taken, None) => self.keep(&taken.capture).await?,
                }
            }
            drop(begun);
            self.planning.page += 1;
        }
        Ok(())
    }

    /// Takes a collection over from the earlier plan.
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
    async fn list(&mut self, taken: &Taken, logs: [Logs; 2]) -> Step {
        let collection = &taken.capture;
        let metadata = Metadata::new(self.work.milvus().await?, collection);
        let mut listing = Segments::of(collection, metadata, self.planning.after.as_ref());
        let (jobs, bucket) = (self.work.jobs, self.bucket.clone());
        for logs in logs {
            let rest = logs.rest(collection);
            self.take(&mut listing, logs.kind, logs.listing.items).await?;
            let mut parts =
                stream::iter(rest).map(|part| part.list(jobs, &bucket, &logs.prefix)).buffered(LISTINGS_IN_FLIGHT);
            while let Some(objects) = parts.next().await {
                self.take(&mut listing, logs.kind, objects?).await?;
            }
        }
        self.explain(&mut listing).await?;
        // No key of the collection sorts behind this one.
        self.note_lost_deletes(&mut listing, &format!("{}0", collection.id)).await?;
        if let Some(segment) = listing.ahead.last().map(|(_, segment)| *segment) {
            self.note_unseen(&listing, segment).await?;
        }
        self.confirm(&mut listing).await?;
        // A backup without a collection that was asked for by name isn't what was asked for.
        match self.planning.unexplained.last() {
            Some(unexplained) if unexplained.collection == collection.id && matches!(taken.asked, Asked::ByName(_)) => {
                let message = format!("{}: {}", collection.name, unexplained.reason);
                Err(fatal(FailureCode::SourceInconsistent, message))
            }
            _ => Ok(()),
        }
    }

    /// Adds those of the listed logs that belong to the backup.
    async fn take(&mut self, listing: &mut Segments<'_>, kind: &str, objects: Vec<ObjectMeta>) -> Step {
        for object in objects {
            let Some(key) = ObjectKey::from_source(&object.key[self.root.len()..]) else { continue };
            let Some((segment, log)) = log_of(&key, kind) else { continue };
            if !listing.segments.contains_key(&segment) {
                continue;
            }
            if let Some(passed) = listing.see(&key) {
                self.note_unseen(listing, passed).await?;
            }
            self.note_lost_deletes(listing, key.as_str()).await?;
            match log {
                Log::Delta(log) => {
                    if listing.metadata.knows_delta(segment, log).await? != Known::Orphan {
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

    /// The insert logs of a segment are listed: adds them, if they explain its rows.
    async fn explain(&mut self, listing: &mut Segments<'_>) -> Step {
        let Some((id, mut logs)) = listing.current.take() else { return Ok(()) };
        let Some(segment) = listing.segments.get(&id).copied() else { return Ok(()) };
        let known = listing.metadata.insert_logs(id).await?;
        let source = match known {
            Some(known) => {
                logs.retain(|log| known.contains(&log.place));
                if logs.len() < known.len() {
                    let odd = format!("{} of its {} logs aren't there", known.len() - logs.len(), known.len());
                    return self.note(listing, segment, odd).await;
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
            let lacking = explain::lacking(&listing.collection.fields, &folders);
            if row_ids.is_some() || lacking.is_some() {
                listing.unconfirmed.push(Unconfirmed { segment, row_ids, lacking });
            }
        }
        match judgement {
            Judgement::Explained => {}
            Judgement::Odd(odd) => return self.note(listing, segment, odd).await,
            Judgement::Doubtful => {
                let resolver = Resolver { objects: self.work.jobs.ports.objects.as_ref(), bucket: &self.bucket };
                match resolver.resolve(segment, &folders).await? {
                    Ok(left) => copies = left,
                    Err(odd) => return self.note(listing, segment, odd).await,
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
        // Listed again, because the page that it is in was begun again.
        if self.planning.after.as_ref().is_some_and(|after| key <= *after) || self.is_lost(listing) {
            return Ok(());
        }
        let (size, source_etag) = (object.size, object.etag);
        let mut entry = ObjectEntry { key, size, source_etag, etag: None, origin: Origin::Earlier };
        self.reuse(&mut entry).await?;
        self.entries.push(entry);
        if self.is_full() {
            // Before the page is written: the next slice begins after it.
            self.confirm(listing).await?;
            self.end_page().await?;
        }
        Ok(())
    }

    /// Sees whether the listing can be believed so far: garbage collection removes the files of a segment one by one, but
    /// only of one that the server no longer has. Of such a one, the logs of row ids must have all of its rows, and no field
    /// may lack logs, though it may have been added after the segment was written.
    async fn confirm(&mut self, listing: &mut Segments<'_>) -> Step {
        let unconfirmed = std::mem::take(&mut listing.unconfirmed);
        if unconfirmed.is_empty() || self.is_lost(listing) {
            return Ok(());
        }
        let there = listing.metadata.segments().await?;
        let resolver = Resolver { objects: self.work.jobs.ports.objects.as_ref(), bucket: &self.bucket };
        for Unconfirmed { segment, row_ids, lacking } in unconfirmed {
            if there.contains(&segment.id) {
                continue;
            }
            let odd = match (lacking, row_ids) {
                (Some(field), _) => Some(format!("it has no logs of field {} ({})", field.id, field.name)),
                (None, Some(row_ids)) => resolver.resolve(segment, &row_ids).await?.err(),
                (None, None) => None,
            };
            if let Some(odd) = odd {
                return self.note(listing, segment, odd).await;
            }
        }
        Ok(())
    }

    /// Notes that a segment has no files where the listing should have shown them.
    async fn note_unseen(&mut self, listing: &Segments<'_>, segment: &SegmentCapture) -> Step {
        let what = match segment.level {
            SegmentLevel::Data => "insert logs",
            SegmentLevel::L0 => "delta logs",
        };
        let odd = self.not_found(listing, what);
        self.note(listing, segment, odd).await
    }

    /// Notes that delta logs were captured, and aren't listed. One that the server still has the segment of was left from a
    /// write that was tried again: of a segment that is there, nothing else is collected.
    async fn note_lost_deletes(&mut self, listing: &mut Segments<'_>, key: &str) -> Step {
        let lost = listing.see_deletes(key);
        if lost.is_empty() || self.is_lost(listing) {
            return Ok(());
        }
        let there = listing.metadata.segments().await?;
        match lost.into_iter().find(|segment| !there.contains(&segment.id)) {
            Some(segment) => self.note(listing, segment, "one of its delta logs isn't there any more".to_owned()).await,
            None => Ok(()),
        }
    }

    /// Whether this collection isn't going to be in the backup with what is listed of it now.
    fn is_lost(&self, listing: &Segments<'_>) -> bool {
        let id = listing.collection.id;
        self.planning.gone.contains(&id) || self.planning.unexplained.iter().any(|lost| lost.collection == id)
    }

    /// Notes that a segment isn't explained by its files. One that the server has no more was compacted or dropped since
    /// it was captured, and its files are being removed: the collection is captured again.
    async fn note(&mut self, listing: &Segments<'_>, segment: &SegmentCapture, odd: String) -> Step {
        if self.is_lost(listing) {
            return Ok(());
        }
        let collection = listing.collection;
        let is_there = listing.metadata.segments().await?.contains(&segment.id);
        tracing::info!(
            segment = segment.id, is_there, odd, collection = %collection.name, backup = %self.work.backup.id,
            "a segment's files don't explain its rows"
        );
        if !is_there {
            self.planning.gone.insert(collection.id);
            return Ok(());
        }
        if self.planning.unexplained.len() >= MOST_UNEXPLAINED {
            let message = format!("{}: {}", collection.name, explain::told(collection, segment, &odd));
            let message =
                format!("more than {MOST_UNEXPLAINED} collections can't be backed up, the last of them {message}");
            return Err(fatal(FailureCode::SourceInconsistent, message));
        }
        let reason = explain::told(collection, segment, &odd);
        let code = FailureCode::SourceInconsistent;
        self.planning.unexplained.push(Unexplained { collection: collection.id, code, reason });
        Ok(())
    }

    /// What to say of a segment without any files.
    fn not_found(&self, listing: &Segments<'_>, what: &str) -> String {
        let root = match self.root.as_str() {
            "" => "(empty)",
            root => root,
        };
        let others = match listing.is_any_seen {
            true => "",
            false => ", nor of any other of the collection's segments: is this where the server keeps its data?",
        };
        format!("there are no {what} of it in bucket {} below the root path {root}{others}", self.bucket.name)
    }

    /// Marks what is stored already.
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
