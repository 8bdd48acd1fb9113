//! Imports of logs, as each line does them.

use std::{collections::BTreeMap, pin::pin};

use futures::TryStreamExt;
use milvault_ports::ObjectMeta;
use milvus::proto::{
    common::{KeyValuePair, SegmentLevel},
    milvus::ImportRequest,
};

use crate::{
    DataBucket,
    state::{
        Event, Log, Place, State, is_deleted,
        job::{self, Import, When},
    },
};

/// The options of an import.
struct Options {
    end: u64,
    is_backup: bool,
    storage_version: i64,
}

impl Options {
    fn of(pairs: &[KeyValuePair]) -> Self {
        let value = |key: &str| pairs.iter().find(|pair| pair.key == key).map(|pair| pair.value.as_str());
        let number = |key| value(key).and_then(|value| value.parse().ok());
        Self {
            end: number("end_ts").unwrap_or(u64::MAX),
            is_backup: value("backup") == Some("true"),
            storage_version: value("storage_version").and_then(|value| value.parse().ok()).unwrap_or_default(),
        }
    }
}

/// A hybrid timestamp of before this is none (`IsValidHybridTs` in `pkg/util/tsoutil/tso.go`, roughly): that of 2001.
const EARLIEST: u64 = 1_000_000_000_000 << 18;

impl State {
    /// Imports the logs below two prefixes; returns the job's id.
    pub(crate) async fn import(&mut self, database: &str, request: &ImportRequest) -> Result<i64, String> {
        let unfinished = self.imports.values().filter(|import| import.is_unfinished()).count();
        if self.faults.imports.is_some_and(|pace| unfinished >= pace.most) {
            self.imports_refused += 1;
            return Err("importing data failed: The number of jobs has reached the limit, please try again later. If \
                        your request is set to only import a single file, please consider importing multiple files in \
                        one request for better efficiency."
                .to_owned());
        }
        let collection = self.collection(database, &request.collection_name).ok_or("there is no such collection")?;
        let (id, fields, partition) =
            (collection.id, collection.fields(), collection.partition(&request.partition_name));
        if partition < 0 {
            return Err(format!("there is no partition {}", request.partition_name));
        }
        let is_it = |partition: &mut String| *partition == request.partition_name;
        let once = self.faults.import_fails_once.take_if(is_it).map(|_| "as it happens".to_owned());
        let read = match once.or_else(|| self.faults.imports_fail.clone()) {
            None => self.read(&request.files, &Options::of(&request.options)).await,
            Some(reason) => Err(reason),
        };
        let is_lost = self.faults.import_brings_nothing.as_ref() == Some(&request.partition_name);
        let outcome = match read {
            Ok(segments) => {
                let mut rows = 0;
                for segment in segments.into_iter().filter(|rows| !is_lost && !rows.is_empty()) {
                    rows += segment.len() as u64;
                    let segment = self
                        .write(Place { collection: id, fields: &fields, partition }, SegmentLevel::L1, &segment)
                        .await;
                    self.add(database, &request.collection_name, segment);
                }
                Ok(rows)
            }
            Err(reason) => Err(reason),
        };
        let job = self.id();
        let when = self.faults.imports.map_or(When::Asked(3), |pace| job::next(pace, &self.imports));
        self.imports.insert(job, Import { collection: id, outcome, when });
        Ok(job)
    }

    /// The rows of each segment below the first prefix that the deletes below the second one leave.
    async fn read(&self, files: &[String], options: &Options) -> Result<Vec<Vec<Event>>, String> {
        let [insert, delta] = files else { return Err(format!("{} paths", files.len())) };
        if !options.is_backup {
            return Err("these aren't files to import".to_owned());
        }
        let (mut segments, deltas) = (self.by_segment(insert).await, self.by_segment(delta).await);
        if segments.is_empty() {
            return Err("no binlog to import".to_owned());
        }
        let is_after = |event: &Event| match self.line.has_hybrid_end() {
            true => event.timestamp > options.end,
            // A hybrid timestamp overflows 64 bits here.
            false => event.timestamp >= options.end << 18,
        };
        if self.line.has_hybrid_end() && options.end < EARLIEST {
            return Err(format!("end_ts is not a valid hybrid timestamp, value={}", options.end));
        }
        let mut found = Vec::new();
        for (segment, logs) in &mut segments {
            let mut deletes = Vec::new();
            for log in deltas.get(segment).into_iter().flatten() {
                deletes.extend(self.log(&log.key).await.events.into_iter().filter(|delete| !is_after(delete)));
            }
            // Every field has all rows: one field is enough.
            let first = logs.first().map(|log| folder(&log.key).to_owned()).unwrap_or_default();
            let mut rows = Vec::new();
            for log in logs.iter().filter(|log| folder(&log.key) == first) {
                let log = self.log(&log.key).await;
                // Otherwise a segment in storage v2 seems to lack fields (`verify` in `importutilv2/binlog/util.go`).
                if log.storage_version != options.storage_version {
                    return Err("no insert binlogs of the schema's fields".to_owned());
                }
                rows.extend(log.events);
            }
            rows.retain(|row| !is_after(row) && !is_deleted(row, &deletes));
            found.push(rows);
        }
        Ok(found)
    }

    /// The logs below a prefix, by the folder right below it: a segment's rows meet only the deletes in the folder of
    /// the same name (`ListBinlogsAndGroupBySegment` in `internal/datacoord/import_util.go`; in 2.3,
    /// `internal/util/importutil/binlog_parser.go`).
    async fn by_segment(&self, prefix: &str) -> BTreeMap<String, Vec<ObjectMeta>> {
        let DataBucket { objects, bucket, .. } = &self.data;
        let mut found: BTreeMap<String, Vec<ObjectMeta>> = BTreeMap::new();
        let mut listed = pin!(milvault_ports::objects(objects.as_ref(), bucket, prefix));
        while let Some(object) = listed.try_next().await.expect("the fake's bucket is readable") {
            let segment = object.key[prefix.len()..].split('/').next().unwrap_or_default().to_owned();
            found.entry(segment).or_default().push(object);
        }
        found
    }

    async fn log(&self, key: &str) -> Log {
        let DataBucket { objects, bucket, .. } = &self.data;
        let body = objects.get(bucket, key).await.expect("the fake's bucket is readable");
        Log::read(&body.expect("what was listed is there"))
    }
}

/// The folder that a log is in.
fn folder(key: &str) -> &str {
    key.rsplit('/').nth(1).unwrap_or_default()
}
