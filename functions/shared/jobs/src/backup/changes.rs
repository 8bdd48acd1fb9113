//! Changes of collections' names during FLUSH.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use chrono::TimeDelta;
use milvault_model::{
    CollectionName, CollectionPattern, FailureCode, Flushing, LeftOut, LeftOutCause, Unexplained, Unsettled,
};
use milvault_ports::Milvus;

use super::{
    lines::CaptureLine,
    patience::{Patience, Verdict},
    survey::{self, Selected},
    work::Work,
};
use crate::{engine::halt::Step, snapshot::layout::PageKind};

/// How often collections that are created while the backup runs are added to it.
pub(super) const ADDITIONS: u32 = 1;

/// How long a name that moves from one collection to another is followed. Then the collections that had it are left
/// out.
const NAME_PATIENCE: Patience = Patience { rounds: 5, lasts: TimeDelta::seconds(300) };

/// Changes of names since the survey.
#[derive(Default)]
pub(super) struct Changes {
    /// Collections to capture, or to capture again.
    pub(super) again: BTreeSet<i64>,
    /// Collections whose names repeatedly moved to other collections.
    pub(super) nameless: Vec<Unexplained>,
    /// See [`Pass::superseded`].
    pub(super) superseded: BTreeSet<i64>,
    /// Collections that were repeatedly dropped and created again.
    pub(super) left_out: Vec<LeftOut>,
    /// See [`Flushing::restless`].
    pub(super) restless: Vec<Unsettled<CollectionName>>,
}

impl Changes {
    pub(super) fn is_empty(&self) -> bool {
        self.again.is_empty() && self.nameless.is_empty() && self.superseded.is_empty() && self.left_out.is_empty()
    }

    /// Compares the captures with the names that the server lists now.
    pub(super) async fn find(work: &Work<'_>, milvus: &dyn Milvus, flushing: &Flushing) -> Step<Self> {
        let folder = work.folder();
        let surveyed: BTreeMap<i64, CollectionName> = match &work.run.survey {
            Some(pages) => {
                survey::read(&folder, pages).await?.into_iter().map(|target| (target.id, target.name)).collect()
            }
            None => BTreeMap::new(),
        };
        let survey = survey::take(work, milvus).await?;
        let now = survey.names();
        if flushing.renamed == 0 && flushing.reconciled == 0 && now.keys().all(|id| surveyed.contains_key(id)) {
            // Every collection has its name from the survey, and none is new.
            return Ok(Self::default());
        }
        let mut captured: BTreeMap<CollectionName, Vec<i64>> = BTreeMap::new();
        let mut renamed = Vec::new();
        let (mut dropped, mut given_up) = (BTreeSet::new(), BTreeSet::new());
        let mut done: BTreeSet<i64> = BTreeSet::new();
        for number in 0..flushing.capture.count {
            for line in folder.read(&PageKind::Capture.key(&flushing.capture, number)).await? {
                match line {
                    CaptureLine::Collection(line) => {
                        done.insert(line.capture.id);
                        if let Selected::ByName(name) = line.selected
                            && !CollectionPattern::selects(&work.backup.selection, &line.capture.name)
                        {
                            renamed.push((line.capture.id, name));
                        }
                        captured.entry(line.capture.name).or_default().push(line.capture.id);
                    }
                    CaptureLine::LeftOut(out) if out.cause == LeftOutCause::Dropped => {
                        dropped.insert(out.collection);
                    }
                    CaptureLine::LeftOut(out) => drop(given_up.insert(out.collection)),
                    _ => {}
                }
            }
        }
        let mut changes = Self::default();
        let (mut restless, at) = (flushing.restless.clone(), work.jobs.now());
        let mut moved = HashSet::new();
        let mut judge = |name: &CollectionName| {
            moved.insert(name.clone());
            NAME_PATIENCE.judge(&mut restless, name.clone(), at)
        };
        let uncaptured = now.iter().filter(|(id, name)| !done.contains(id) && !given_up.contains(**name));
        for (id, name) in uncaptured {
            let is_missed = dropped.contains(*name)
                || surveyed.values().any(|surveyed| surveyed == *name)
                || renamed.iter().any(|(_, selected)| selected == *name);
            let is_recreated = is_missed && !captured.contains_key(*name);
            let is_new = flushing.reconciled < ADDITIONS && !surveyed.contains_key(id);
            if !is_recreated && !is_new {
                continue;
            }
            match judge(name) {
                Verdict::Again => drop(changes.again.insert(*id)),
                Verdict::GiveUp(_) if is_recreated => changes.left_out.push(recreated(*id, (*name).clone())),
                Verdict::GiveUp(_) => {}
            }
        }
        // Another collection now has the selected name, and is in the backup.
        let is_superseded = |name: &CollectionName| captured.contains_key(name);
        changes.superseded.extend(renamed.iter().filter(|(_, name)| is_superseded(name)).map(|(id, _)| *id));
        for (name, ids) in captured.into_iter().filter(|(_, ids)| ids.len() > 1) {
            // Only the collection that has the name now keeps it.
            let others = ids.into_iter().filter(|id| now.get(id) != Some(&&name));
            match judge(&name) {
                Verdict::Again => changes.again.extend(others),
                Verdict::GiveUp(_) => changes.nameless.extend(others.map(|collection| Unexplained {
                    collection,
                    code: FailureCode::SourceChanged,
                    reason: "its name repeatedly moved to other collections while it was captured".to_owned(),
                })),
            }
        }
        // A name that didn't move this time is counted from the beginning if it moves later.
        restless.retain(|restless| moved.contains(&restless.what));
        changes.restless = restless;
        Ok(changes)
    }
}

/// Leaves out a collection that was repeatedly dropped and created again.
fn recreated(id: i64, collection: CollectionName) -> LeftOut {
    LeftOut {
        collection,
        id: Some(id),
        reason: "it was repeatedly dropped and created again while it was captured".to_owned(),
        cause: LeftOutCause::Trouble,
        code: Some(FailureCode::SourceChanged),
    }
}
