//! Flushes and the segments after them.

use std::{collections::HashMap, time::Instant};

use milvus::proto::{
    common::{SegmentLevel, SegmentState},
    milvus::{self as api},
    msg::MsgPosition,
};
use tonic::Request;

use super::{
    Service,
    reply::{Answer, answer, database, done, known, longs, permit, rate_limited, ready, refuse, status},
};
use crate::{FlushNames, faults::strikes, state::Segment};

impl Service {
    pub(super) async fn flush(&self, request: Request<api::FlushRequest>) -> Answer<api::FlushResponse> {
        let mut state = ready!(self, api::FlushResponse);
        let database = database(&request, &request.get_ref().db_name);
        let Some(name) = request.get_ref().collection_names.first() else {
            refuse!(api::FlushResponse, status(1100, 1, "no collection name"));
        };
        permit!(state, request, &database, "Collection", name, "Flush");
        for change in std::mem::take(&mut state.faults.before_flush) {
            state.change(&database, &change);
        }
        let every = state.faults.flush_every;
        let collection = known!(state, &database, name, api::FlushResponse);
        if let (Some(every), Some(at)) = (every, collection.flushed_at)
            && at.elapsed() < every
        {
            refuse!(api::FlushResponse, rate_limited());
        }
        collection.flushed_at = Some(Instant::now());
        collection.rows_at_flush = collection.found();
        let checkpoint = state.timestamp();
        let by_policy = match state.line.seals_by_policy() && strikes(&mut state.faults.sealed_by_policy) {
            true => state.seal_by_policy(&database, name).await,
            false => Vec::new(),
        };
        let sealed = state.seal(&database, name).await;
        let timestamp = state.timestamp();
        state.flushes += 1;
        let (names, has_l0) = (state.faults.flush_names, state.line.has_l0());
        let seals_by_policy = state.line.seals_by_policy();
        let collection = known!(state, &database, name, api::FlushResponse);
        collection.in_flush = true;
        let is_named = |level: SegmentLevel| match level {
            SegmentLevel::L1 => true,
            SegmentLevel::Legacy | SegmentLevel::L2 => names == FlushNames::All,
            SegmentLevel::L0 => false,
        };
        // `flushCollection` in `internal/datacoord/services.go`, 2.5: what is flushed, and what was sealed just now.
        // Before streaming, also what was sealed by then and isn't flushed yet (`SealAllSegments` in
        // `internal/datacoord/segment_manager.go`).
        let is_unflushed = |s: &&Segment| !seals_by_policy && s.is_data() && s.stored_at.is_some();
        let is_sealed = |s: &&Segment| sealed.contains(&s.id) || is_unflushed(s);
        let sealed: Vec<i64> = collection.segments.iter().filter(is_sealed).map(|segment| segment.id).collect();
        let earlier = collection.segments.iter().filter(|s| is_named(s.level) && s.stored_at.is_none());
        let earlier = earlier.filter(|s| !sealed.contains(&s.id) && !by_policy.contains(&s.id));
        let earlier = earlier.map(|segment| segment.id).collect();
        let channel = format!("by-dev-rootcoord-dml_0_{}v0", collection.id);
        let position = MsgPosition { channel_name: channel.clone(), timestamp: checkpoint, ..Default::default() };
        answer(api::FlushResponse {
            status: done(),
            db_name: database,
            coll_seg_i_ds: longs(sealed, name),
            flush_coll_seg_i_ds: longs(earlier, name),
            coll_flush_ts: HashMap::from([(name.clone(), timestamp)]),
            channel_cps: if has_l0 { HashMap::from([(channel, position)]) } else { HashMap::new() },
            ..Default::default()
        })
    }

    pub(super) async fn get_flush_state(
        &self,
        request: Request<api::GetFlushStateRequest>,
    ) -> Answer<api::GetFlushStateResponse> {
        let mut state = ready!(self, api::GetFlushStateResponse);
        let database = database(&request, &request.get_ref().db_name);
        let name = &request.get_ref().collection_name;
        permit!(state, request, &database, "Collection", name, "GetFlushState");
        if state.faults.never_flushed.as_ref() == Some(name) {
            return answer(api::GetFlushStateResponse { status: done(), flushed: false });
        }
        let collection = known!(state, &database, name, api::GetFlushStateResponse);
        // Not at the first time of asking: the channels have to be read up to the flush, and everything stored by then.
        let moment = request.get_ref().flush_ts;
        let is_waiting = collection.segments.iter().any(|s| s.stored_at.is_some() && s.sealed <= moment);
        let flushed = !std::mem::take(&mut collection.in_flush) && !is_waiting;
        collection.flushed_since_listing |= flushed;
        if flushed {
            for change in std::mem::take(&mut state.faults.after_flush) {
                state.change(&database, &change);
            }
        }
        if flushed && strikes(&mut state.faults.compact_after_flush) {
            state.compact(&database, name, SegmentLevel::L1).await;
        }
        answer(api::GetFlushStateResponse { status: done(), flushed })
    }

    pub(super) async fn get_persistent_segment_info(
        &self,
        request: Request<api::GetPersistentSegmentInfoRequest>,
    ) -> Answer<api::GetPersistentSegmentInfoResponse> {
        let mut state = ready!(self, api::GetPersistentSegmentInfoResponse);
        if strikes(&mut state.faults.segment_lost_while_listing) {
            refuse!(api::GetPersistentSegmentInfoResponse, status(600, 1, "segment not found[segment=1]"));
        }
        let database = database(&request, &request.get_ref().db_name);
        let name = &request.get_ref().collection_name;
        if strikes(&mut state.faults.delete_before_listing) {
            if let Some(keys) = state.collection(&database, name).map(|collection| collection.first_keys(-1, 1)) {
                state.delete(&database, name, -1, &keys);
            }
            state.seal(&database, name).await;
        }
        let storage_version = state.storage_version();
        let collection = known!(state, &database, name, api::GetPersistentSegmentInfoResponse);
        let stored = |segment: &&Segment| segment.stored_at.is_none();
        let infos = collection.segments.iter().filter(stored).map(|segment| api::PersistentSegmentInfo {
            segment_id: segment.id,
            collection_id: collection.id,
            partition_id: segment.partition,
            num_rows: i64::try_from(segment.rows.len()).unwrap_or_default(),
            state: segment.state as i32,
            level: segment.level as i32,
            is_sorted: segment.is_sorted,
            storage_version,
            ..Default::default()
        });
        let infos = infos.collect();
        for segment in collection.segments.iter_mut().filter(|segment| segment.stored_at.is_none()) {
            segment.state = SegmentState::Flushed;
        }
        let follows_a_flush = std::mem::take(&mut collection.flushed_since_listing);
        if follows_a_flush && strikes(&mut state.faults.collect_after_listing) {
            state.compact_and_collect(&database, name, "").await;
        }
        answer(api::GetPersistentSegmentInfoResponse { status: done(), infos })
    }
}
