//! What FLUSH finds: captured collections, and those that are left out with the reason.

use milvault_model::{CollectionCapture, CollectionName, DatabaseCapture, Failure, LeftOut, LeftOutCause, Principal};
use serde::{Deserialize, Serialize};

use super::survey::{Asked, Wanted};
use crate::engine::halt::{Step, fatal};

/// A line of a capture's pages: what FLUSH found.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Found {
    Principal(Principal),
    Database(DatabaseCapture),
    AccessControl(String),
    Collection(Box<Taken>),
    LeftOut(LeftOut),
}

/// A captured collection.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Taken {
    pub(super) capture: CollectionCapture,
    pub(super) asked: Asked,
}

pub(super) fn dropped(wanted: &Wanted, reason: &str) -> Found {
    left_out(wanted.name.clone(), wanted.id, reason.to_owned(), LeftOutCause::Dropped)
}

/// A collection that can't be captured is left out, unless it was asked for by name: then the backup fails.
pub(super) fn troubled(id: i64, name: &CollectionName, asked: &Asked, failure: &Failure) -> Step<Found> {
    match asked {
        Asked::ByPattern => Ok(Found::LeftOut(LeftOut {
            collection: name.clone(),
            id: Some(id),
            reason: failure.message.clone(),
            cause: LeftOutCause::Trouble,
            code: Some(failure.code),
        })),
        Asked::ByName(_) => Err(fatal(failure.code, format!("{name}: {}", failure.message))),
    }
}

pub(super) fn left_out(collection: CollectionName, id: i64, reason: String, cause: LeftOutCause) -> Found {
    Found::LeftOut(LeftOut { collection, id: Some(id), reason, cause, code: None })
}
