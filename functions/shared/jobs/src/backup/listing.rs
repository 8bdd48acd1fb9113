//! Listings of a collection's logs in the source, in parts that are listed side by side.

use milvault_model::{CollectionCapture, ObjectKey};
use milvault_ports::{Bucket, ObjectMeta, Page};

use super::logs::KINDS;
use crate::{Error, Jobs};

/// So many logs are meant to be in a part of a listing: one page of it, with some room.
const PART: usize = 900;

/// A listing of one kind of a collection's logs.
pub(super) struct Logs {
    pub(super) kind: &'static str,
    pub(super) prefix: String,
    pub(super) listing: Page<ObjectMeta>,
}

impl Logs {
    /// The beginnings of both listings, from the segment of the last planned object on.
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
                // With a slash more it would be where the segment's keys begin; without, it sorts before them.
                Some(format!("{prefix}{}/{}", parts.next()?, parts.next()?))
            });
            let listing = jobs.ports.objects.list(bucket, &prefix, after.as_deref()).await?;
            Ok::<_, Error>(Self { kind, prefix, listing })
        };
        let (delta, insert) = futures::try_join!(begin(KINDS[0]), begin(KINDS[1]))?;
        Ok([delta, insert])
    }

    /// What is left to list after the beginning, in parts that can be listed side by side: the segments are known, and
    /// the beginning tells how many of them have so many logs as a page of a listing.
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
        let per_page = seen.len() * PART / self.listing.items.len().max(1);
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
pub(super) struct Part {
    /// Begin after this key.
    after: String,
    /// And end before this one.
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
            // What is beyond the end is another part's.
            let is_past_end = listing.items.len() < listed;
            objects.append(&mut listing.items);
            match listing.next {
                Some(next) if !is_past_end => after = next,
                _ => return Ok(objects),
            }
        }
    }
}
