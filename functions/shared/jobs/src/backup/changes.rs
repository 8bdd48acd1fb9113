//! What happened to names while collections were captured.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use chrono::TimeDelta;
use milvault_model::{
    CollectionName, CollectionPattern, FailureCode, Flushing, LeftOut, LeftOutCause, Unexplained, Unsettled,
};
use milvault_ports::Milvus;

use super::{
    found::Found,
    patience::{Patience, Verdict},
    survey::{self, Asked},
    work::Work,
};
use crate::{engine::halt::Step, snapshot::layout::PageKind};

/// How often collections that were made while the backup ran are added to it.
pub(super) const ADDITIONS: u32 = 1;

/// For how long a name is followed that goes from one collection to another. Then the collections that had it are left out.
const NAMES: Patience = Patience { rounds: 5, lasts: TimeDelta::seconds(300) };

/// What happened to names while collections were captured.
#[derive(Default)]
pub(super) struct Changes {
    /// Collections to capture, or to capture again.
    pub(super) again: BTreeSet<i64>,
    /// Collections whose names others have, again and again.
    pub(super) homeless: Vec<Unexplained>,
    /// See [`Pass::superseded`].
    pub(super) superseded: BTreeSet<i64>,
    /// What was made again and again.
    pub(super) left_out: Vec<LeftOut>,
    /// See [`Flushing::restless`].
    pub(super) restless: Vec<Unsettled<CollectionName>>,
}

impl Changes {
    pub(super) fn is_none(&self) -> bool {
        self.again.is_empty() && self.homeless.is_empty() && self.superseded.is_empty() && self.left_out.is_empty()
    }

    pub(super) async fn since(work: &Work<'_>, milvus: &dyn Milvus, flushing: &Flushing) -> Step<Self> {
        let folder = work.folder();
        let surveyed: BTreeMap<i64, CollectionName> = match &work.run.survey {
            Some(pages) => survey::read(&folder, pages).await?.into_iter().map(|w| (w.id, w.name)).collect(),
            None => BTreeMap::new(),
        };
        let survey = survey::take(work, milvus).await?;
        let now = survey.names();
        if flushing.renamed == 0 && flushing.reconciled == 0 && now.keys().all(|id| surveyed.contains_key(id)) {
            // Each has the name that it was surveyed with, and nothing is new.
            return Ok(Self::default());
        }
        let mut captured: BTreeMap<CollectionName, Vec<i64>> = BTreeMap::new();
        let mut renamed = Vec::new();
        let (mut dropped, mut given_up) = (BTreeSet::new(), BTreeSet::new());
        let mut done: BTreeSet<i64> = BTreeSet::new();
        for number in 0..flushing.capture.count {
            for line in folder.read(&PageKind::Capture.key(&flushing.capture, number)).await? {
                match line {
                    Found::Collection(taken) => {
                        done.insert(taken.capture.id);
                        if let Asked::ByName(name) = taken.asked
                            && !CollectionPattern::selects(&work.backup.selection, &taken.capture.name)
                        {
                            renamed.push((taken.capture.id, name));
                        }
                        captured.entry(taken.capture.name).or_default().push(taken.capture.id);
                    }
                    Found::LeftOut(out) if out.cause == LeftOutCause::Dropped => drop(dropped.insert(out.collection)),
                    Found::LeftOut(out) => drop(given_up.insert(out.collection)),
                    _ => {}
                }
            }
        }
        let mut changes = Self::default();
        let (mut restless, at) = (flushing.restless.clone(), work.jobs.now());
        let mut moved = HashSet::new();
        let mut judge = |name: &CollectionName| {
            moved.insert(name.clone());
            NAMES.judge(&mut restless, name.clone(), at)
        };
        let made = now.iter().filter(|(id, name)| !done.contains(id) && !given_up.contains(**name));
        for (id, name) in made {
            let is_missed = dropped.contains(*name)
                || surveyed.values().any(|surveyed| surveyed == *name)
                || renamed.iter().any(|(_, asked)| asked == *name);
            let is_remade = is_missed && !captured.contains_key(*name);
            let is_new = flushing.reconciled < ADDITIONS && !surveyed.contains_key(id);
            if !is_remade && !is_new {
                continue;
            }
            match judge(name) {
                Verdict::Again => drop(changes.again.insert(*id)),
                Verdict::GiveUp(_) if is_remade => changes.left_out.push(remade(*id, (*name).clone())),
                Verdict::GiveUp(_) => {}
            }
        }
        // Another collection has the name that was asked for, and is in the backup.
        let is_superseded = |name: &CollectionName| captured.contains_key(name);
        changes.superseded.extend(renamed.iter().filter(|(_, name)| is_superseded(name)).map(|(id, _)| *id));
        for (name, ids) in captured.into_iter().filter(|(_, ids)| ids.len() > 1) {
            // The one that has the name keeps it; the others had it before.
            let others = ids.into_iter().filter(|id| now.get(id) != Some(&&name));
            match judge(&name) {
                Verdict::Again => changes.again.extend(others),
                Verdict::GiveUp(_) => changes.homeless.extend(others.map(|collection| Unexplained {
                    collection,
                    code: FailureCode::SourceChanged,
                    reason: "its name went to other collections all the while it was captured".to_owned(),
                })),
            }
        }
        // A name that was found in its place this time is counted from the beginning if it moves later.
        restless.retain(|restless| moved.contains(&restless.what));
        changes.restless = restless;
        Ok(changes)
    }
}

fn remade(id: i64, collection: CollectionName) -> LeftOut {
    LeftOut {
        collection,
        id: Some(id),
        reason: "it was dropped and made again all the while it was captured".to_owned(),
        cause: LeftOutCause::Trouble,
        code: Some(FailureCode::SourceChanged),
    }
}
