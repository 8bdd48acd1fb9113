//! Whether an instance's storage is where its server keeps its data. One that is registered with another's bucket or
//! root path is told so at once, and not when a backup finds none of its files.

use std::{pin::pin, time::Duration};

use futures::future::{Either, select};
use milvault_model::{CollectionName, Instance, SegmentLevel, SourceStorage, Storage};
use milvault_ports::{Bucket, Milvus, MilvusError, ObjectsError, Segment};

use super::logs::INSERT;
use crate::{Error, FieldError, Jobs};

/// How long a caller who asks for a backup waits for the look: what can't be told by then, the backup finds out.
const PATIENCE: Duration = Duration::from_secs(5);

/// How many collections are asked for a segment: each is a call or two.
const COLLECTIONS: usize = 50;

/// A collection may have lost its files, and the others are to be backed up all the same; not one file of so many, and
/// they are elsewhere.
const MISSING: usize = 10;

/// How often another segment is looked for where the one before was compacted away meanwhile.
const TRIES: usize = 5;

/// A flushed segment with rows, whose insert logs the server has in object storage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Specimen {
    /// Of which collection.
    pub collection: CollectionName,
    /// The segment's id.
    pub segment: i64,
}

/// What is there of the server's data where the instance is registered to have it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceData {
    /// The logs of this segment.
    Found(Specimen),
    /// None of the collections that were asked has rows in object storage: it can't be told yet.
    Untold,
    /// Of this segment nothing, nor of any other that was looked for.
    Missing(Specimen),
}

/// Whether the instance's bucket is there and may be listed.
pub(crate) async fn check_source(jobs: &Jobs, instance: &Instance) -> Result<Bucket, Error> {
    let (bucket, storage) = storage(instance)?;
    jobs.ports.objects.list(&bucket, &storage.root_path.prefix(), None).await?;
    Ok(bucket)
}

/// Refuses an instance whose storage hasn't its server's data, as far as that can be told while a caller waits.
pub(super) async fn check_data(jobs: &Jobs, instance: &Instance) -> Result<(), Error> {
    let (_, storage) = storage(instance)?;
    let looked = match select(pin!(find_data(jobs, instance)), pin!(jobs.ports.clock.sleep(PATIENCE))).await {
        Either::Left((looked, _)) => looked,
        Either::Right(((), _)) => Ok(SourceData::Untold),
    };
    match looked {
        Ok(SourceData::Found(_) | SourceData::Untold) => Ok(()),
        Ok(SourceData::Missing(specimen)) => Err(missing(storage, &specimen).into()),
        Err(Error::Milvus(error)) => {
            tracing::warn!(%error, instance = %instance.id, "whether this is the server's storage isn't known");
            Ok(())
        }
        Err(error) => Err(error),
    }
}

/// Looks for the insert logs of one of the server's segments in the instance's bucket, below its root path.
///
/// # Errors
/// When the server or the bucket doesn't answer, or the instance is registered without its storage.
pub async fn find_data(jobs: &Jobs, instance: &Instance) -> Result<SourceData, Error> {
    let (bucket, storage) = storage(instance)?;
    let milvus = jobs.ports.milvus.connect(instance).await?;
    let look = Look { jobs, milvus: milvus.as_ref(), bucket, root: storage.root_path.prefix() };
    let (mut asked, mut missing) = (0, Vec::new());
    for database in milvus.databases().await? {
        // One that is gone, or that isn't ours to see, tells nothing.
        let collections = told(milvus.collections(&database).await)?.unwrap_or_default();
        for (name, id) in collections {
            match look.at(CollectionName::new(&database, name), id).await? {
                SourceData::Untold => {}
                SourceData::Missing(specimen) => missing.push(specimen),
                found @ SourceData::Found(_) => return Ok(found),
            }
            asked += 1;
            if asked == COLLECTIONS || missing.len() == MISSING {
                return Ok(of_missing(missing));
            }
        }
    }
    Ok(of_missing(missing))
}

fn of_missing(missing: Vec<Specimen>) -> SourceData {
    missing.into_iter().next().map_or(SourceData::Untold, SourceData::Missing)
}

/// What is to be said of a storage that hasn't this segment.
pub fn missing(storage: &Storage, specimen: &Specimen) -> ObjectsError {
    let root = match storage.root_path.as_str() {
        "" => "(empty)".to_owned(),
        path => format!("'{path}'"),
    };
    let Specimen { collection, segment } = specimen;
    ObjectsError::Bucket {
        bucket: storage.bucket.clone(),
        reason: format!(
            "the server's data isn't there below the root path {root}: not one file of segment {segment} of collection \
             {collection}. Register the instance with the bucket and root path of the server's own configuration, \
             'minio.bucketName' and 'minio.rootPath'"
        ),
    }
}

/// The instance's bucket, and what is registered of it.
fn storage(instance: &Instance) -> Result<(Bucket, &Storage), Error> {
    let Some(storage) = &instance.storage else {
        return Err(Error::Invalid(vec![FieldError::new(
            "/storage",
            "the instance is registered without its object storage, which a backup copies from: register it with \
             'storage'",
        )]));
    };
    Ok((Bucket { region: instance.region.clone(), name: storage.bucket.clone() }, storage))
}

struct Look<'a> {
    jobs: &'a Jobs,
    milvus: &'a dyn Milvus,
    bucket: Bucket,
    root: String,
}

impl Look<'_> {
    /// Looks for a segment of this collection.
    async fn at(&self, collection: CollectionName, id: i64) -> Result<SourceData, Error> {
        for _ in 0..TRIES {
            let segments = told(self.milvus.segments(&collection).await)?.unwrap_or_default();
            // The largest is the last to be compacted.
            let with_logs = segments.iter().filter(|segment| has_logs(segment));
            let Some(segment) = with_logs.max_by_key(|segment| segment.rows) else { break };
            let prefix = format!("{}{INSERT}/{id}/{}/{}/", self.root, segment.partition_id, segment.id);
            let listing = self.jobs.ports.objects.list(&self.bucket, &prefix, None).await?;
            let specimen = Specimen { collection: collection.clone(), segment: segment.id };
            if !listing.items.is_empty() {
                return Ok(SourceData::Found(specimen));
            }
            // A segment has its files for as long as the server has it: one that is gone by now tells nothing.
            let still = told(self.milvus.segments(&collection).await)?.unwrap_or_default();
            if still.iter().any(|still| still.id == segment.id) {
                // Nor does one of another collection that has come by the name since.
                let is_same = told(self.milvus.collection_id(&collection).await)?.flatten() == Some(id);
                return Ok(if is_same { SourceData::Missing(specimen) } else { SourceData::Untold });
            }
        }
        Ok(SourceData::Untold)
    }
}

fn has_logs(segment: &Segment) -> bool {
    segment.is_flushed && segment.rows > 0 && segment.level == SegmentLevel::Data
}

/// What the server says of one database or collection; `None` if it is gone, or not to be told.
fn told<T>(answer: Result<T, MilvusError>) -> Result<Option<T>, MilvusError> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(MilvusError::NoCollection(_) | MilvusError::Refused(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Where an instance's data comes from.
///
/// # Errors
/// When it is registered without its object storage.
pub(super) fn source(instance: &Instance) -> Result<(Bucket, SourceStorage), Error> {
    let storage = instance.storage.as_ref().ok_or_else(|| ObjectsError::Bucket {
        bucket: "(none)".to_owned(),
        reason: "the instance is registered without its object storage".to_owned(),
    })?;
    let (region, bucket, root_path) = (instance.region.clone(), storage.bucket.clone(), storage.root_path.clone());
    let source = SourceStorage { region: region.clone(), bucket: bucket.clone(), root_path };
    Ok((Bucket { region, name: bucket }, source))
}
