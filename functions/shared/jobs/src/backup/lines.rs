//! The lines of a capture's pages: captured collections, and collections that are left out with the reason.

use milvault_model::{CollectionCapture, CollectionName, DatabaseCapture, Failure, LeftOut, LeftOutCause, Principal};
use serde::{Deserialize, Serialize};

use super::survey::{CaptureTarget, Selected};
use crate::engine::halt::{Step, fatal};

/// A line of a capture's pages.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum CaptureLine {
    Principal(Principal),
    Database(DatabaseCapture),
    AccessControl(String),
    Collection(Box<CollectionLine>),
    LeftOut(LeftOut),
}

/// A captured collection.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct CollectionLine {
    pub(super) capture: CollectionCapture,
    #[serde(rename = "asked")]
    pub(super) selected: Selected,
}

pub(super) fn captured(capture: CollectionCapture, selected: Selected) -> CaptureLine {
    CaptureLine::Collection(Box::new(CollectionLine { capture, selected }))
}

pub(super) fn dropped(target: &CaptureTarget, reason: &str) -> CaptureLine {
    left_out(target.name.clone(), target.id, reason.to_owned(), LeftOutCause::Dropped)
}

/// Leaves out a collection that can't be captured. If it was selected by name, the backup fails instead.
pub(super) fn troubled(id: i64, name: &CollectionName, selected: &Selected, failure: &Failure) -> Step<CaptureLine> {
    match selected {
        Selected::ByPattern => Ok(CaptureLine::LeftOut(LeftOut {
            collection: name.clone(),
            id: Some(id),
            reason: failure.message.clone(),
            cause: LeftOutCause::Trouble,
            code: Some(failure.code),
        })),
        Selected::ByName(_) => Err(fatal(failure.code, format!("{name}: {}", failure.message))),
    }
}

pub(super) fn left_out(collection: CollectionName, id: i64, reason: String, cause: LeftOutCause) -> CaptureLine {
    CaptureLine::LeftOut(LeftOut { collection, id: Some(id), reason, cause, code: None })
}
