//! The progress of each phase of a backup.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::{CollectionName, FailureCode, LeftOut, ObjectKey, PageSet, Time};

/// The progress of the FLUSH phase.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Flushing {
    /// Pages of the collections captured so far.
    pub capture: PageSet,
    /// The id of the last collection that is done. Collections are flushed in the order of
    /// [`crate::ObjectKey::collection`].
    pub after: Option<String>,
    /// Collections that can't be captured for now.
    #[serde(default)]
    pub troubled: Vec<CaptureTrouble>,
    /// The number of collections whose name at capture differed from their name in the survey.
    #[serde(default)]
    pub renamed: u32,
    /// How often the captures were compared with the server's names after all of them were done.
    #[serde(default)]
    pub reconciled: u32,
    /// Names that led to other collections than those captured, in every comparison so far.
    #[serde(default)]
    pub restless: Vec<Unsettled<CollectionName>>,
    /// What has to be repeated, if this isn't the first pass.
    pub again: Option<Pass>,
}

/// Something that has to be repeated because the source keeps changing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Unsettled<T> {
    /// The thing that is repeated.
    pub what: T,
    /// How often it had to be repeated.
    pub rounds: u32,
    /// When it first had to be repeated.
    pub since: Time,
}

/// A further pass, in which some collections are captured and planned again, or left out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Pass {
    /// The captures of the pass before.
    pub capture: PageSet,
    /// The plan of the pass before; without pages if nothing was planned yet.
    pub plan: PageSet,
    /// The collections to capture again, by id. Collections that weren't captured before are added.
    pub collections: BTreeSet<i64>,
    /// The collections to leave out.
    #[serde(default)]
    pub unexplained: Vec<Unexplained>,
    /// Collections, by id, that no longer match the selection because their names now belong to others.
    #[serde(default)]
    pub superseded: BTreeSet<i64>,
    /// Collections that couldn't be captured.
    #[serde(default)]
    pub left_out: Vec<LeftOut>,
}

/// A collection that can't be captured for now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaptureTrouble {
    /// The collection's id.
    pub collection: i64,
    /// When it first couldn't be captured.
    pub since: Time,
    /// When it was last tried.
    pub tried: Time,
}

/// A collection whose files don't account for its rows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unexplained {
    /// The collection's id.
    pub collection: i64,
    /// What is wrong, as a code for programs.
    pub code: FailureCode,
    /// What is wrong, as a sentence for people.
    pub reason: String,
}

/// The progress of the PLAN phase.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Planning {
    /// The captured collections.
    pub capture: PageSet,
    /// The page of the capture that is being planned.
    pub page: u32,
    /// The plan so far.
    pub plan: PageSet,
    /// The plan's last object.
    pub after: Option<ObjectKey>,
    /// The number of objects in the plan.
    pub objects: u64,
    /// The bytes of the objects in the plan.
    pub bytes: u64,
    /// Collections some of whose objects no longer existed.
    pub gone: BTreeSet<i64>,
    /// Collections whose files don't account for their rows.
    #[serde(default)]
    pub unexplained: Vec<Unexplained>,
    /// What is planned again, if this isn't the first pass.
    pub again: Option<Pass>,
}

/// The progress of the COPY phase.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Copying {
    /// The captured collections.
    pub capture: PageSet,
    /// The plan of the objects to copy.
    pub plan: PageSet,
    /// The first page that isn't done.
    pub next: u32,
    /// Pages after `next` that are done.
    pub ahead: BTreeSet<u32>,
    /// Sums over the pages that are done.
    pub done: Copied,
    /// Collections some of whose objects no longer existed.
    pub gone: BTreeSet<i64>,
    /// See [`Planning::unexplained`].
    #[serde(default)]
    pub unexplained: Vec<Unexplained>,
}

/// The progress of the PUBLISH phase, which counts the bytes that the backup owns.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Publishing {
    /// The first of the manifest's object pages that isn't counted.
    #[serde(default)]
    pub next: u32,
    /// The bytes owned on the pages before it.
    #[serde(default)]
    pub owned_bytes: u64,
}

/// Sums over copied pages.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Copied {
    /// Stored objects, whichever backup stored them.
    pub objects: u64,
    /// The bytes of these objects.
    pub bytes: u64,
    /// The bytes of the objects that this backup stored.
    pub added_bytes: u64,
}

impl Copied {
    /// Adds another sum.
    pub fn add(&mut self, other: Self) {
        self.objects += other.objects;
        self.bytes += other.bytes;
        self.added_bytes += other.added_bytes;
    }
}

impl Copying {
    /// Marks a page as done.
    pub fn finish(&mut self, page: u32, copied: Copied) {
        self.done.add(copied);
        self.ahead.insert(page);
        while self.ahead.remove(&self.next) {
            self.next += 1;
        }
    }
}

/// The progress of the VERIFY phase.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Verifying {
    /// The captured collections.
    pub capture: PageSet,
    /// The plan of the copied objects.
    pub plan: PageSet,
    /// The first page that isn't compared.
    pub next: u32,
}
