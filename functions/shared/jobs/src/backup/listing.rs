//! Lists a collection's logs in the source, in parts that are listed in parallel.

use milvault_model::{CollectionCapture, ObjectKey};
use milvault_ports::{Bucket, ObjectMeta, Page};

use super::logs::KINDS;
use crate::{Error, Jobs};

/// The number of logs that a part of a listing should have: one page, with some room.
const LOGS_PER_PART: usize = 900;

/// A listing of one kind of a collection's logs.
pub(super) struct Logs {
    pub(super) kind: &'static str,
    pub(super) prefix: String,
    pub(super) listing: Page<ObjectMeta>,
}

impl Logs {
    /// Lists the first page of both kinds, from the segment of the last planned object on.
    pub(super) async fn begin(
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
                // Without a trailing slash, this sorts before the segment's keys.
                Some(format!("{prefix}{}/{}", parts.next()?, parts.next()?))
            });
            let listing = jobs.ports.objects.list(bucket, &prefix, after.as_deref()).await?;
            Ok::<_, Error>(Self { kind, prefix, listing })
        };
        let (delta, insert) = futures::try_join!(begin(KINDS[0]), begin(KINDS[1]))?;
        Ok([delta, insert])
    }

    /// Divides the rest of the listing, after the first page, into parts that can be listed in parallel. The segments
    /// are known, and the first page shows how many segments fill a page.
    pub(super) fn rest(&self, collection: &CollectionCapture) -> Vec<Part> {
        let Some(last) = self.listing.items.last().filter(|_| self.listing.next.is_some()) else { return Vec::new() };
        let listed = &last.key[self.prefix.len()..];
        let mut segments: Vec<String> =
            collection.segments.iter().map(|s| format!("{}/{}", s.partition_id, s.id)).collect();
        segments.sort();
        let begun = segments.partition_point(|segment| segment.as_str() < listed);
        let mut seen: Vec<&str> =
            self.listing.items.iter().filter_map(|object| path_of(&object.key[self.prefix.len()..])).collect();
        seen.dedup();
        let per_page = seen.len() * LOGS_PER_PART / self.listing.items.len().max(1);
        let mut parts = vec![Part { after: last.key.clone(), end: None }];
        for segment in segments[begun..].iter().step_by(per_page.max(1)) {
            let begin = format!("{}{segment}", self.prefix);
            if let Some(before) = parts.last_mut() {
                before.end = Some(format!("{begin}/"));
            }
            // Without a trailing slash, this sorts before the segment's keys.
            parts.push(Part { after: begin, end: None });
        }
        parts
    }
}

/// Returns the leading `{partition}/{segment}` of a key below the collection's prefix.
fn path_of(below: &str) -> Option<&str> {
    let partition = below.find('/')?;
    let segment = below[partition + 1..].find('/')?;
    below.get(..partition + 1 + segment)
}

/// Part of a listing.
pub(super) struct Part {
    /// The part begins after this key.
    after: String,
    /// The part ends before this key.
    end: Option<String>,
}

impl Part {
    pub(super) async fn list(self, jobs: &Jobs, bucket: &Bucket, prefix: &str) -> Result<Vec<ObjectMeta>, Error> {
        let mut objects: Vec<ObjectMeta> = Vec::new();
        let mut after = self.after;
        loop {
            let mut listing = jobs.ports.objects.list(bucket, prefix, Some(&after)).await?;
            let listed = listing.items.len();
            listing.items.retain(|object| self.end.as_ref().is_none_or(|end| object.key < *end));
            // Objects beyond the end belong to another part.
            let is_past_end = listing.items.len() < listed;
            objects.append(&mut listing.items);
            match listing.next {
                Some(next) if !is_past_end => after = next,
                _ => return Ok(objects),
            }
        }
    }
}
