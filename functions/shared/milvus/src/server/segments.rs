//! Flushes and segments.

use std::time::Duration;

use milvault_model::{Capability, CollectionName, SegmentLevel, StorageVersion};
use milvault_ports::{FlushResult, MilvusError, OnRateLimit, Segment, SegmentFiles};
use milvus::proto::{
    common::{self, SegmentState},
    milvus as api,
    schema::LongArray,
};
use tokio::time::{Instant, sleep};

use super::{Client, Server, answer::Answer, unexpected};
use crate::errors::SEGMENT_NOT_FOUND;

/// How long a flush is retried while its rate is limited.
const RATE_LIMIT: Duration = Duration::from_secs(120);
/// The first pause before a rate-limited flush is retried. It doubles up to the longest pause. By default, a collection
/// may be flushed once in ten seconds, from 2.3.9 on (`pkg/util/paramtable/quota_param.go`).
const RATE_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_RATE_PAUSE: Duration = Duration::from_secs(8);

/// How often the list of segments is requested if a segment is dropped while the server makes the list.
const SEGMENT_TRIES: u32 = 20;
const SEGMENT_PAUSE: Duration = Duration::from_millis(100);

impl Server {
    pub(super) async fn flush(&self, name: &CollectionName, on_limit: OnRateLimit) -> Result<FlushResult, MilvusError> {
        let began = Instant::now();
        let mut pause = RATE_PAUSE;
        loop {
            match self.seal(name).await {
                Err(MilvusError::RateLimited(_)) if on_limit == OnRateLimit::Wait && began.elapsed() < RATE_LIMIT => {
                    sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_RATE_PAUSE);
                }
                result => return result,
            }
        }
    }

    /// Requests a flush, and returns the segments that have to be in object storage before it is over.
    async fn seal(&self, name: &CollectionName) -> Result<FlushResult, MilvusError> {
        let message = api::FlushRequest {
            db_name: name.database.clone(),
            collection_names: vec![name.collection.clone()],
            ..Default::default()
        };
        let mut answer = self.call_for(name, message, Client::flush).await?;
        // The timestamp up to which the named segments hold all rows (`internal/datacoord/services.go` and, in 2.6,
        // `internal/proxy/task_flush_streaming.go`). `channel_cps`, from 2.4 on, are the channels' checkpoints before
        // the sealing. They are earlier, and only useful for reading the channels from there on.
        let timestamp = answer.coll_flush_ts.get(&name.collection).copied();
        let timestamp = match timestamp.ok_or_else(|| unexpected("flush timestamp"))? {
            // This happens while data nodes of 2.2 are being replaced, according to the same source.
            0 => {
                return Err(MilvusError::Unreachable("the flush has no timestamp: an upgrade is under way".to_owned()));
            }
            timestamp => timestamp,
        };
        let take = |ids: Option<LongArray>| ids.map(|ids| ids.data).unwrap_or_default();
        Ok(FlushResult {
            timestamp,
            sealed: take(answer.coll_seg_i_ds.remove(&name.collection)),
            flushed: take(answer.flush_coll_seg_i_ds.remove(&name.collection)),
        })
    }

    /// A flush is over when its segments are in object storage and every channel has been read and stored up to its
    /// timestamp, so that L0 segments with earlier deletes are stored too.
    pub(super) async fn is_flushed(&self, name: &CollectionName, flush: &FlushResult) -> Result<bool, MilvusError> {
        let message = api::GetFlushStateRequest {
            segment_i_ds: flush.named().collect(),
            flush_ts: flush.timestamp,
            db_name: name.database.clone(),
            collection_name: name.collection.clone(),
        };
        Ok(self.call_for(name, message, Client::get_flush_state).await?.flushed)
    }

    pub(super) async fn segments(&self, name: &CollectionName) -> Result<Vec<Segment>, MilvusError> {
        for _ in 1..SEGMENT_TRIES {
            let message = api::GetPersistentSegmentInfoRequest {
                db_name: name.database.clone(),
                collection_name: name.collection.clone(),
                ..Default::default()
            };
            let answer = self.ask(&name.database, message, Client::get_persistent_segment_info).await?;
            // The server first lists the ids and then looks up each one (`GetPersistentSegmentInfo` in
            // `internal/proxy/impl.go`). If a segment is dropped in between, the whole answer fails.
            if answer.status().is_some_and(|status| status.code == SEGMENT_NOT_FOUND) {
                sleep(SEGMENT_PAUSE).await;
                continue;
            }
            self.check_for(answer.status(), name).await?;
            let infos = answer.infos.iter().filter(|info| info.state() != SegmentState::Dropped);
            return Ok(infos.map(segment).collect());
        }
        Err(MilvusError::NotReady(format!("the segments of {name} change while they are listed")))
    }

    pub(super) async fn segment_files(
        &self,
        database: &str,
        collection_id: i64,
        segments: &[i64],
    ) -> Result<Option<Vec<SegmentFiles>>, MilvusError> {
        if !self.capabilities().await?.has(Capability::SegmentFiles) {
            return Ok(None);
        }
        self.rest.segment_files(database, collection_id, segments).await
    }
}

/// Converts a segment for the jobs.
///
/// A segment that is "flushing" counts as flushed, as it does in the server's own check whether a flush is over: its
/// logs are stored and in the metadata (`isFlushState` in `internal/datacoord/meta.go`, used by `GetFlushState` in
/// `services.go`).
fn segment(info: &api::PersistentSegmentInfo) -> Segment {
    Segment {
        id: info.segment_id,
        collection_id: info.collection_id,
        partition_id: info.partition_id,
        rows: u64::try_from(info.num_rows).unwrap_or_default(),
        is_flushed: matches!(info.state(), SegmentState::Flushed | SegmentState::Flushing),
        is_sorted: info.is_sorted,
        level: match info.level() {
            common::SegmentLevel::L0 => SegmentLevel::L0,
            // Servers without levels answer "Legacy".
            common::SegmentLevel::Legacy | common::SegmentLevel::L1 | common::SegmentLevel::L2 => SegmentLevel::Data,
        },
        storage: StorageVersion::from(info.storage_version),
    }
}
