//! Checks of stored objects by listing: a thousand objects per request, and all shards side by side.

use std::collections::VecDeque;

use futures::future::try_join_all;
use milvault_model::{ObjectEntry, ObjectKey, SHARDS};
use milvault_ports::{Bucket, ObjectMeta, ObjectsError};

use crate::{Error, Jobs};

/// A shard with fewer listed objects left is listed further whenever another shard has to be.
const FEW: usize = 250;

/// The fault of a stored object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Finding {
    Missing,
    Changed,
}

/// A listing of an instance's stored objects, compared with sorted entries.
pub(crate) struct Inspection<'a> {
    jobs: &'a Jobs,
    bucket: &'a Bucket,
    shards: Vec<Shard>,
}

struct Shard {
    prefix: String,
    listed: VecDeque<ObjectMeta>,
    after: Option<String>,
    more: bool,
}

impl<'a> Inspection<'a> {
    /// Creates an inspection of the objects below an instance's data prefix.
    pub(crate) fn new(jobs: &'a Jobs, bucket: &'a Bucket, data: String) -> Self {
        let shard =
            |number| Shard { prefix: format!("{data}{number:x}/"), listed: VecDeque::new(), after: None, more: true };
        Self { jobs, bucket, shards: (0..SHARDS).map(shard).collect() }
    }

    /// Checks the object of this entry, which must sort after the previous entry.
    pub(crate) async fn check(&mut self, entry: &ObjectEntry) -> Result<Option<Finding>, Error> {
        let place = entry.key.shard();
        loop {
            let shard = &mut self.shards[place];
            let key = format!("{}{}", shard.prefix, entry.key);
            while shard.listed.front().is_some_and(|object| object.key < key) {
                shard.listed.pop_front();
            }
            match shard.listed.front() {
                Some(object) if object.key == key => {
                    let is_intact = object.size == entry.size && Some(&object.etag) == entry.etag.as_ref();
                    return Ok((!is_intact).then_some(Finding::Changed));
                }
                None if shard.more => self.list_further(&entry.key).await?,
                _ => return Ok(Some(Finding::Missing)),
            }
        }
    }

    /// Lists the next page of every shard with few objects left, from the collection of `at` on.
    async fn list_further(&mut self, at: &ObjectKey) -> Result<(), ObjectsError> {
        let (jobs, bucket) = (self.jobs, self.bucket);
        let few = self.shards.iter_mut().filter(|shard| shard.more && shard.listed.len() < FEW);
        try_join_all(few.map(async |shard| {
            // Without a slash, the collection's id sorts before all of its keys.
            let collection = format!("{}{}", shard.prefix, at.collection());
            let after = shard.after.take().map_or(collection.clone(), |after| after.max(collection));
            let listing = jobs.ports.objects.list(bucket, &shard.prefix, Some(&after)).await?;
            shard.more = listing.next.is_some();
            shard.after = listing.next;
            shard.listed.extend(listing.items);
            Ok::<_, ObjectsError>(())
        }))
        .await?;
        Ok(())
    }
}
