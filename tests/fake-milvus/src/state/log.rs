//! Logs in object storage.

use milvault_harness::binlog::{self, Column, Nullability, Of};
use serde::{Deserialize, Serialize};

use super::{collection::FIRST_FIELD, event::Event};

/// The content of a log.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Log {
    pub(crate) storage_version: i64,
    /// Rows or deletes.
    pub(crate) events: Vec<Event>,
}

impl Log {
    /// A log as the server writes it, with a note for tests that begins with the log's key, to identify copies.
    pub(super) fn write(&self, key: &str, nullability: Nullability) -> Vec<u8> {
        let ids: Vec<i64> = key.split('/').filter_map(|part| part.parse().ok()).collect();
        let id = |at: usize| ids.get(at).copied().unwrap_or_default();
        let of = Of { collection: id(0), partition: id(1), segment: id(2), field: id(3) };
        let times: Vec<u64> = self.events.iter().map(|event| event.timestamp).collect();
        let events: Vec<(i64, u64)> = self.events.iter().map(|event| (event.key, event.timestamp)).collect();
        let columns = match (key.starts_with("delta_log/"), self.storage_version, of.field) {
            (true, ..) => vec![(None, Column::of_deletes(&events))],
            (false, 2, 0) => [0, 1, FIRST_FIELD].map(|id| (Some(id), Column::of_field(id, &events))).to_vec(),
            (false, ..) => vec![(None, Column::of_field(of.field, &events))],
        };
        let log = serde_json::to_string(self).expect("numbers can be written");
        binlog::encode(of, nullability, &times, &columns, format!("the content of {key}\n{log}").as_bytes())
    }

    pub(crate) fn read(body: &[u8]) -> Self {
        let note = binlog::note(body).expect("logs have a note");
        let text = std::str::from_utf8(note).expect("logs are text");
        let (_, log) = text.split_once('\n').expect("a log has two lines");
        serde_json::from_str(log).expect("the second has its rows or deletes")
    }
}
