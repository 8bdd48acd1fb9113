//! PLAN: which objects the backup consists of, and which of them are stored already.
//!
//! Collections come in the order of their ids, and the listings of their logs in the order of keys: so the plan is
//! sorted as it is made, is compared with an earlier backup's objects side by side, and never is in memory whole.

use std::collections::{BTreeSet, HashSet};

use futures::{StreamExt, stream};
use milvault_model::{
    Backup, BackupId, BackupPhase, BackupState, CollectionCapture, Copied, Copying, ObjectEntry, ObjectKey, Origin,
    Planning, Progress, Reuse, SegmentCapture, SegmentLevel,
};

use super::{
    flush::Found,
    metadata::{Known, Metadata},
    work::Work,
};
use crate::{
    Error, Jobs,
    layout::PageKind,
    ports::{Bucket, Listing, ObjectMeta, PageRequest},
    slice::{Halt, Step},
    snapshot::{self, ObjectReader},
};

/// Collections whose listings are begun before it is their turn: most have less than one page of it.
const LISTINGS_IN_FLIGHT: usize = 32;

/// So many logs are meant to be in a part of a listing: one page of it, with some room.
const PART: usize = 900;

/// The kinds of logs that hold a collection's data, in the order of their names.
const KINDS: [&str; 2] = [DELTA, INSERT];
pub(crate) const DELTA: &str = "delta_log";
pub(crate) const INSERT: &str = "insert_log";

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
                Some(ObjectReader::of_manifest(folder, manifest))
            }
            Reuse::Newest | Reuse::Nothing => None,
        };
        let earlier = planning.again.as_ref().map(|again| ObjectReader::of_plan(work.folder(), again.plan.clone()));
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
            let collections = lines.into_iter().filter_map(|line| match line {
                Found::Collection(collection) => Some(collection),
                Found::Database(_) | Found::AccessControl(_) | Found::LeftOut(_) => None,
            });
            let collections = collections.filter(|c| after.as_ref().is_none_or(|after| c.id.to_string() >= *after));
            let (jobs, bucket, root) = (self.work.jobs, self.bucket.clone(), self.root.clone());
            let (after, again) = (self.planning.after.clone(), self.planning.again.clone());
            let mut begun = stream::iter(collections)
                .map(async |collection| {
                    let is_kept = again.as_ref().is_some_and(|again| !again.collections.contains(&collection.id));
                    let logs = match is_kept {
                        true => None,
                        false => Some(Logs::begin(jobs, &bucket, &root, &collection, after.as_ref()).await?),
                    };
                    Ok::<_, Error>((collection, logs))
                })
                .buffered(LISTINGS_IN_FLIGHT);
            while let Some(begun) = begun.next().await {
                match begun? {
                    (collection, Some(logs)) => self.list(&collection, logs).await?,
                    (collection, None) => self.keep(&collection).await?,
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

    /// Adds the insert and delete logs of a collection's captured segments.
    async fn list(&mut self, collection: &CollectionCapture, logs: [Logs; 2]) -> Step {
        let mut metadata = Metadata::new(self.work.milvus().await?, collection);
        let mut expected = Expected::of(collection, self.planning.after.as_ref());
        let (jobs, bucket) = (self.work.jobs, self.bucket.clone());
        for logs in logs {
            let rest = logs.rest(collection);
            self.take(collection, logs.kind, logs.listing.objects, &mut expected, &mut metadata).await?;
            let mut parts =
                stream::iter(rest).map(|part| part.list(jobs, &bucket, &logs.prefix)).buffered(LISTINGS_IN_FLIGHT);
            while let Some(objects) = parts.next().await {
                self.take(collection, logs.kind, objects?, &mut expected, &mut metadata).await?;
            }
        }
        expected.end(&mut metadata).await?;
        self.note_missing(collection, &expected);
        Ok(())
    }

    /// Adds those of the listed logs that belong to the backup.
    async fn take(
        &mut self,
        collection: &CollectionCapture,
        kind: &str,
        objects: Vec<ObjectMeta>,
        expected: &mut Expected,
        metadata: &mut Metadata,
    ) -> Step {
        for object in objects {
            let Some(key) = ObjectKey::from_source(&object.key[self.root.len()..]) else { continue };
            let Some(segment) = segment_of(&key, kind) else { continue };
            if !expected.segments.contains(&segment) || metadata.knows(&key, segment).await? == Known::Orphan {
                continue;
            }
            expected.see(&key, segment, metadata).await?;
            // Listed again, because the page that it is in was begun again.
            if self.planning.after.as_ref().is_some_and(|after| key <= *after) {
                continue;
            }
            let (size, source_etag) = (object.size, object.etag);
            let mut entry = ObjectEntry { key, size, source_etag, etag: None, origin: Origin::Earlier };
            self.reuse(&mut entry).await?;
            self.entries.push(entry);
            if self.is_full() {
                // Before the page is written: the next slice begins after it.
                expected.confirm(metadata).await?;
                self.note_missing(collection, expected);
                self.end_page().await?;
            }
        }
        Ok(())
    }

    /// A collection that lacks something is captured again.
    fn note_missing(&mut self, collection: &CollectionCapture, expected: &Expected) {
        if let Some(segment) = expected.missing
            && self.planning.gone.insert(collection.id)
        {
            tracing::info!(segment, collection = %collection.name, backup = %self.work.backup.id, "a segment was removed");
        }
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
        match self.work.deadline.is_over(self.work.jobs.ports.clock.now()) {
            true => Err(Halt::OutOfTime),
            false => Ok(()),
        }
    }

    async fn write_page(&mut self) -> Step {
        let Some(last) = self.entries.last() else { return Ok(()) };
        self.planning.after = Some(last.key.clone());
        self.planning.objects += self.entries.len() as u64;
        self.planning.bytes += self.entries.iter().map(|entry| entry.size).sum::<u64>();
        let fence = self.work.lease.fence;
        let key = PageKind::Plan.key_of(fence, self.planning.plan.count);
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

/// A listing of one kind of a collection's logs.
struct Logs {
    kind: &'static str,
    prefix: String,
    listing: Listing,
}

impl Logs {
    /// The beginnings of both listings, from the segment of the last planned object on.
    async fn begin(
        jobs: &Jobs,
        bucket: &Bucket,
        root: &str,
        collection: &CollectionCapture,
        after: Option<&ObjectKey>,
    ) -> Result<[Self; 2], Error> {
        let after = after.filter(|key| key.collection() == collection.id.to_string());
        let begin = async |kind: &'static str| {
            let prefix = format!("{root}{kind}/{}/", collection.id);
            let after = after.and_then(|key| key.below(kind)).and_then(|rest| {
                let mut parts = rest.split('/');
                // With a slash more it would be where the segment's keys begin; without, it sorts before them.
                Some(format!("{prefix}{}/{}", parts.next()?, parts.next()?))
            });
            let listing = jobs.ports.objects.list(bucket, &prefix, after.as_deref()).await?;
            Ok::<_, Error>(Self { kind, prefix, listing })
        };
        let (delta, insert) = futures::try_join!(begin(KINDS[0]), begin(KINDS[1]))?;
        Ok([delta, insert])
    }
}

impl Logs {
    /// What is left to list after the beginning, in parts that can be listed side by side: the segments are known, and
    /// the beginning tells how many of them have so many logs as a page of a listing.
    fn rest(&self, collection: &CollectionCapture) -> Vec<Part> {
        let Some(last) = self.listing.objects.last().filter(|_| self.listing.more) else { return Vec::new() };
        let listed = &last.key[self.prefix.len()..];
        let mut segments: Vec<String> =
            collection.segments.iter().map(|s| format!("{}/{}", s.partition_id, s.id)).collect();
        segments.sort();
        let begun = segments.partition_point(|segment| segment.as_str() < listed);
        let mut seen: Vec<&str> =
            self.listing.objects.iter().filter_map(|object| path_of(&object.key[self.prefix.len()..])).collect();
        seen.dedup();
        let per_page = seen.len() * PART / self.listing.objects.len().max(1);
        let mut parts = vec![Part { after: last.key.clone(), end: None }];
        for segment in segments[begun..].iter().step_by(per_page.max(1)) {
            let begin = format!("{}{segment}", self.prefix);
            if let Some(before) = parts.last_mut() {
                before.end = Some(format!("{begin}/"));
            }
            // With a slash more it would be where the segment's keys begin; without, it sorts before them.
            parts.push(Part { after: begin, end: None });
        }
        parts
    }
}

/// `{partition}/{segment}` of what follows.
fn path_of(below: &str) -> Option<&str> {
    let partition = below.find('/')?;
    let segment = below[partition + 1..].find('/')?;
    below.get(..partition + 1 + segment)
}

/// Part of a listing.
struct Part {
    /// Begin after this key.
    after: String,
    /// And end before this one.
    end: Option<String>,
}

impl Part {
    async fn list(self, jobs: &Jobs, bucket: &Bucket, prefix: &str) -> Result<Vec<ObjectMeta>, Error> {
        let mut objects: Vec<ObjectMeta> = Vec::new();
        let mut after = self.after;
        loop {
            let mut listing = jobs.ports.objects.list(bucket, prefix, Some(&after)).await?;
            let listed = listing.objects.len();
            listing.objects.retain(|object| self.end.as_ref().is_none_or(|end| object.key < *end));
            // What is beyond the end is another part's.
            let is_over = !listing.more || listing.objects.len() < listed;
            objects.append(&mut listing.objects);
            match objects.last() {
                Some(last) if !is_over => after.clone_from(&last.key),
                _ => return Ok(objects),
            }
        }
    }
}

/// `{partition}/{segment}/…`
fn segment_of(key: &ObjectKey, kind: &str) -> Option<i64> {
    key.below(kind)?.split('/').nth(1)?.parse().ok()
}

/// What must be among a collection's listed logs.
struct Expected {
    segments: HashSet<i64>,
    /// Segments of which no log was listed yet that there must be, an insert log of those with rows and a delete of those
    /// that hold deletes; in the order of the listing, the last first.
    unseen: Vec<(String, i64)>,
    /// The segment whose insert logs are being listed, and how many were.
    current: Option<(i64, usize)>,
    /// A segment that has been removed meanwhile.
    missing: Option<i64>,
}

impl Expected {
    /// Those that were listed before `after` was planned were there.
    fn of(collection: &CollectionCapture, after: Option<&ObjectKey>) -> Self {
        let path = |s: &SegmentCapture| {
            let kind = match s.level {
                SegmentLevel::Data => INSERT,
                SegmentLevel::L0 => DELTA,
            };
            format!("{}/{kind}/{}/{}/", collection.id, s.partition_id, s.id)
        };
        let with_logs = collection.segments.iter().filter(|s| s.rows > 0 || s.level == SegmentLevel::L0);
        let with_logs = with_logs.map(|s| (path(s), s.id));
        let is_ahead = |path: &str| after.is_none_or(|after| after.as_str() < path || after.as_str().starts_with(path));
        let mut unseen: Vec<_> = with_logs.filter(|(path, _)| is_ahead(path)).collect();
        unseen.sort_by(|a, b| b.cmp(a));
        let segments = collection.segments.iter().map(|segment| segment.id).collect();
        Self { segments, unseen, current: None, missing: None }
    }

    /// A log of this segment was listed.
    async fn see(&mut self, key: &ObjectKey, segment: i64, metadata: &mut Metadata) -> Result<(), Error> {
        // What the listing has passed isn't there.
        while let Some((path, passed)) = self.unseen.pop_if(|(path, _)| path.as_str() <= key.as_str()) {
            if !key.as_str().starts_with(&path) {
                self.missing = Some(passed);
            }
        }
        match &mut self.current {
            _ if key.below(INSERT).is_none() => {}
            Some((current, logs)) if *current == segment => *logs += 1,
            _ => {
                self.check(metadata).await?;
                self.current = Some((segment, 1));
            }
        }
        Ok(())
    }

    /// Whether all insert logs of the segment that was listed last were there.
    async fn check(&mut self, metadata: &mut Metadata) -> Result<(), Error> {
        if let Some((segment, logs)) = self.current.take()
            && metadata.insert_logs(segment).await?.is_some_and(|all| all > logs)
        {
            self.missing = Some(segment);
        }
        Ok(())
    }

    /// Whether the listing can be believed so far: garbage collection removes the files of a segment one by one, but only
    /// of one that the server no longer knows. Those that it knows by now were listed whole, deletes and all.
    async fn confirm(&mut self, metadata: &Metadata) -> Result<(), Error> {
        let known = metadata.segments().await?;
        self.missing = self.missing.or(self.segments.iter().find(|segment| !known.contains(segment)).copied());
        Ok(())
    }

    /// The listing is at its end: what it hasn't shown isn't there.
    async fn end(&mut self, metadata: &mut Metadata) -> Result<(), Error> {
        self.check(metadata).await?;
        self.confirm(metadata).await?;
        self.missing = self.missing.or(self.unseen.pop().map(|(_, segment)| segment));
        Ok(())
    }
}

async fn newest_available(jobs: &Jobs, backup: &Backup) -> Result<Option<BackupId>, Error> {
    let is_near = |found: &Backup| matches!(found.state, BackupState::Available(_)) && found.region == backup.region;
    let mut after = None;
    loop {
        let page = jobs.ports.catalog.backups(&backup.instance_id, PageRequest { after, limit: 100 }).await?;
        if let Some(found) = page.items.iter().find(|found| is_near(&found.value)) {
            return Ok(Some(found.value.id.clone()));
        }
        after = page.items.last().map(|b| b.value.id.to_string());
        if !page.more {
            return Ok(None);
        }
    }
}
