//! Finding stored objects by listing: a thousand with each request, and all shards side by side.

use std::collections::VecDeque;

use futures::future::try_join_all;
use milvault_model::{ObjectEntry, ObjectKey, SHARDS};
use milvault_ports::{Bucket, ObjectMeta, ObjectsError};

use crate::{Error, Jobs};

/// A shard with fewer objects left than this is listed further when another one has to be.
const FEW: usize = 250;

/// What is wrong with an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Finding {
    Missing,
    Changed,
}

/// A listing of an instance's stored objects, walked along with sorted entries.
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
    /// Of the objects below an instance's data prefix.
    pub(crate) fn new(jobs: &'a Jobs, bucket: &'a Bucket, data: String) -> Self {
        let shard =
            |number| Shard { prefix: format!("{data}{number:x}/"), listed: VecDeque::new(), after: None, more: true };
        Self { jobs, bucket, shards: (0..SHARDS).map(shard).collect() }
    }

    /// What is wrong with this entry, which must sort after the one before it.
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
                    let right = object.size == entry.size && Some(&object.etag) == entry.etag.as_ref();
                    return Ok((!right).then_some(Finding::Changed));
                }
                None if shard.more => self.list_further(&entry.key).await?,
                _ => return Ok(Some(Finding::Missing)),
            }
        }
    }

    /// Lists the next page of every shard that has little left, from the present collection on at least.
    async fn list_further(&mut self, at: &ObjectKey) -> Result<(), ObjectsError> {
        let (jobs, bucket) = (self.jobs, self.bucket);
        let few = self.shards.iter_mut().filter(|shard| shard.more && shard.listed.len() < FEW);
        try_join_all(few.map(async |shard| {
            // Without the slash after it, the collection's id sorts before all of its keys.
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
