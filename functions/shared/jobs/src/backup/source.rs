//! Checks that an instance's registered storage is the one in which its server keeps its data, so that a wrong bucket
//! or root path is reported at once and not by a failed backup.

use std::{pin::pin, time::Duration};

use futures::future::{Either, select};
use milvault_model::{CollectionName, Instance, SegmentLevel, SourceStorage, Storage};
use milvault_ports::{Bucket, Milvus, MilvusError, ObjectsError, Segment};

use super::logs::INSERT;
use crate::{Error, FieldError, Jobs};

/// How long a caller who requests a backup waits for the check. If it takes longer, the backup itself finds the
/// problem.
const PATIENCE: Duration = Duration::from_secs(5);

/// How many collections are searched for a segment: each takes a call or two.
const COLLECTIONS: usize = 50;

/// If this number of collections have no files, the data is elsewhere. Fewer may have lost their files, which doesn't
/// prevent a backup of the others.
const MISSING: usize = 10;

/// How often another segment of a collection is tried because the previous one was compacted during the check.
const TRIES: usize = 5;

/// A flushed segment with rows, whose insert logs are in object storage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlushedSegment {
    /// The segment's collection.
    pub collection: CollectionName,
    /// The segment's id.
    pub id: i64,
}

/// Whether the registered storage has the server's data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceData {
    /// The storage has the logs of this segment.
    Found(FlushedSegment),
    /// Unknown: none of the searched collections has rows in object storage yet.
    Unknown,
    /// The storage has no file of this segment, nor of any other segment that was checked.
    Missing(FlushedSegment),
}

/// Checks that the instance's bucket exists and can be listed.
pub(crate) async fn check_source(jobs: &Jobs, instance: &Instance) -> Result<Bucket, Error> {
    let (bucket, storage) = storage(instance)?;
    jobs.ports.objects.list(&bucket, &storage.root_path.prefix(), None).await?;
    Ok(bucket)
}

/// Refuses an instance whose storage lacks its server's data, as far as that is known within [`PATIENCE`].
pub(super) async fn check_data(jobs: &Jobs, instance: &Instance) -> Result<(), Error> {
    let (_, storage) = storage(instance)?;
    let found = match select(pin!(find_data(jobs, instance)), pin!(jobs.ports.clock.sleep(PATIENCE))).await {
        Either::Left((found, _)) => found,
        Either::Right(((), _)) => Ok(SourceData::Unknown),
    };
    match found {
        Ok(SourceData::Found(_) | SourceData::Unknown) => Ok(()),
        Ok(SourceData::Missing(segment)) => Err(data_missing(storage, &segment).into()),
        Err(Error::Milvus(error)) => {
            tracing::warn!(%error, instance = %instance.id, "the storage's data could not be checked");
            Ok(())
        }
        Err(error) => Err(error),
    }
}

/// Searches the instance's bucket, below its root path, for the insert logs of one of the server's segments.
///
/// # Errors
/// If the server or the bucket doesn't answer, or the instance is registered without its storage.
pub async fn find_data(jobs: &Jobs, instance: &Instance) -> Result<SourceData, Error> {
    let (bucket, storage) = storage(instance)?;
    let milvus = jobs.ports.milvus.connect(instance).await?;
    let search = Search { jobs, milvus: milvus.as_ref(), bucket, root: storage.root_path.prefix() };
    let (mut searched, mut missing) = (0, Vec::new());
    for database in milvus.databases().await? {
        // A database that is gone, or hidden from the user, is skipped.
        let collections = if_visible(milvus.collections(&database).await)?.unwrap_or_default();
        for (name, id) in collections {
            match search.collection(CollectionName::new(&database, name), id).await? {
                SourceData::Unknown => {}
                SourceData::Missing(segment) => missing.push(segment),
                found @ SourceData::Found(_) => return Ok(found),
            }
            searched += 1;
            if searched == COLLECTIONS || missing.len() == MISSING {
                return Ok(first_missing(missing));
            }
        }
    }
    Ok(first_missing(missing))
}

fn first_missing(missing: Vec<FlushedSegment>) -> SourceData {
    missing.into_iter().next().map_or(SourceData::Unknown, SourceData::Missing)
}

/// The error for a storage that lacks this segment.
pub fn data_missing(storage: &Storage, segment: &FlushedSegment) -> ObjectsError {
    let root = match storage.root_path.as_str() {
        "" => "(empty)".to_owned(),
        path => format!("'{path}'"),
    };
    let FlushedSegment { collection, id } = segment;
    ObjectsError::Bucket {
        bucket: storage.bucket.clone(),
        reason: format!(
            "the server's data is not below the root path {root}: there is no file of segment {id} of collection \
             {collection}. Register the instance with the bucket and root path of the server's own configuration, \
             'minio.bucketName' and 'minio.rootPath'"
        ),
    }
}

/// Returns the instance's bucket and storage to a caller, who can register the instance with them.
fn storage(instance: &Instance) -> Result<(Bucket, &Storage), Error> {
    Bucket::of_data(instance).map_err(|error| Error::Invalid(vec![FieldError::new("/storage", error.to_string())]))
}

struct Search<'a> {
    jobs: &'a Jobs,
    milvus: &'a dyn Milvus,
    bucket: Bucket,
    root: String,
}

impl Search<'_> {
    /// Searches for a segment of this collection.
    async fn collection(&self, collection: CollectionName, id: i64) -> Result<SourceData, Error> {
        for _ in 0..TRIES {
            let segments = if_visible(self.milvus.segments(&collection).await)?.unwrap_or_default();
            // The largest segment is the last to be compacted.
            let with_logs = segments.iter().filter(|segment| has_logs(segment));
            let Some(segment) = with_logs.max_by_key(|segment| segment.rows) else { break };
            let prefix = format!("{}{INSERT}/{id}/{}/{}/", self.root, segment.partition_id, segment.id);
            let listing = self.jobs.ports.objects.list(&self.bucket, &prefix, None).await?;
            let segment = FlushedSegment { collection: collection.clone(), id: segment.id };
            if !listing.items.is_empty() {
                return Ok(SourceData::Found(segment));
            }
            // The files are removed only after the server has dropped the segment: then their absence proves nothing.
            let still = if_visible(self.milvus.segments(&collection).await)?.unwrap_or_default();
            if still.iter().any(|still| still.id == segment.id) {
                // Nor does it if another collection has the name now.
                let is_same = if_visible(self.milvus.collection_id(&collection).await)?.flatten() == Some(id);
                return Ok(if is_same { SourceData::Missing(segment) } else { SourceData::Unknown });
            }
        }
        Ok(SourceData::Unknown)
    }
}

fn has_logs(segment: &Segment) -> bool {
    segment.is_flushed && segment.rows > 0 && segment.level == SegmentLevel::Data
}

/// Returns the answer about a database or collection; `None` if it is gone, or hidden from the user.
fn if_visible<T>(answer: Result<T, MilvusError>) -> Result<Option<T>, MilvusError> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(MilvusError::NoCollection(_) | MilvusError::Refused(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The bucket and root path of an instance's data.
///
/// # Errors
/// If the instance is registered without its object storage.
pub(super) fn registered_source(instance: &Instance) -> Result<(Bucket, SourceStorage), Error> {
    let (bucket, storage) = Bucket::of_data(instance)?;
    let (region, name, root_path) = (bucket.region.clone(), bucket.name.clone(), storage.root_path.clone());
    Ok((bucket, SourceStorage { region, bucket: name, root_path }))
}
