//! What is promised of a backup that became AVAILABLE.

use std::collections::BTreeSet;

use milvault_harness::locked;
use milvault_model::{Backup, CollectionName, CollectionPattern, is_restore_name};

use super::{Audit, Breach, Living, Points};
use crate::{
    belongings::Backed,
    content,
    format::{self, Cause, Entry, Stored},
    journal::Span,
    rules::Rule,
};

impl Audit {
    /// What is promised of a backup that became AVAILABLE.
    pub(super) fn inspect(&self, backup: &Backup) -> Result<(Living, Points), Breach> {
        let instance = backup.instance_id.as_str();
        let stored = format::read(&format::folder(instance, backup.id.as_str()), |key| self.get(key))?;
        let living = Living::of(instance, &stored);
        living.is_whole(&self.list(""), |key| self.get(key))?;
        let says = |breach: Breach| self.report(breach.of(&format!("{} is AVAILABLE, but", backup.id)));
        for check in [
            are_totals_right(backup, &stored),
            self.is_added_right(backup, &stored),
            self.is_of_what_it_says(backup, &stored),
            self.is_complete(backup, &stored),
            self.is_what_it_leaves_out_right(backup, &stored),
            self.is_its_content_right(backup, &stored),
        ] {
            check.unwrap_or_else(says);
        }
        locked(&self.seen).belongings.insert(backup.id.clone(), Backed::read(&stored));
        let points = stored.collections.iter().map(|captured| (captured.id, captured.flush_timestamp)).collect();
        Ok((living, points))
    }

    /// The bytes that a backup added are those of the copies made for it, whoever got the answers.
    pub(super) fn is_added_right(&self, backup: &Backup, stored: &Stored) -> Result<(), Breach> {
        let seen = locked(&self.seen);
        let is_own = |entry: &&Entry| {
            let key = format::data_key(backup.instance_id.as_str(), &entry.key);
            seen.copied_for.get(&key).is_some_and(|by| by == backup.id.as_str())
        };
        let added: u64 = stored.entries.iter().filter(is_own).map(|entry| entry.size).sum();
        let of_record = backup.state.snapshot().map(|snapshot| snapshot.totals.added_bytes).unwrap_or_default();
        let claimed = [stored.added_bytes, of_record];
        let is_right = claimed == [added; 2];
        if is_right {
            Ok(())
        } else {
            Err(Breach::new(Rule::Added, format!("it added {added} bytes and claims {claimed:?}")))
        }
    }

    pub(super) fn is_its_content_right(&self, backup: &Backup, stored: &Stored) -> Result<(), Breach> {
        let servers = locked(&self.servers);
        let server = servers.get(&backup.instance_id).ok_or_else(|| "it is of no instance".to_owned())?;
        let instance = backup.instance_id.as_str();
        content::compare(stored, server, |entry| self.get(&format::data_key(instance, entry)))
    }

    /// Each collection has a name that it had while the backup was made, and one of its names then was selected.
    pub(super) fn is_of_what_it_says(&self, backup: &Backup, stored: &Stored) -> Result<(), Breach> {
        let servers = locked(&self.servers);
        let server = servers.get(&backup.instance_id).ok_or_else(|| "it is of no instance".to_owned())?;
        let span = Span { from: backup.created_at, until: self.world.now() };
        let mut names = BTreeSet::new();
        for captured in &stored.collections {
            let name: CollectionName = captured.name.parse().map_err(|_| format!("{} is no name", captured.name))?;
            let wrong = |what: &str| Err(Breach::new(Rule::Identity, format!("{name} ({}) {what}", captured.id)));
            let held = server.journal.names_of(captured.id, span);
            if !held.contains(&&name) {
                return wrong("is in it, and never had that name");
            }
            if !held.iter().any(|name| CollectionPattern::selects(&backup.selection, name)) {
                return wrong("is in it, and nobody asked for it");
            }
            if !names.insert(name.clone()) {
                return wrong("is in it, and so is another one of that name");
            }
        }
        Ok(())
    }

    /// Every selected collection and name that existed throughout is in the backup or named as missing.
    pub(super) fn is_complete(&self, backup: &Backup, stored: &Stored) -> Result<(), Breach> {
        let servers = locked(&self.servers);
        let server = servers.get(&backup.instance_id).ok_or_else(|| "it is of no instance".to_owned())?;
        let span = Span { from: backup.created_at, until: self.world.now() };
        let is_selected = |name: &CollectionName| {
            !is_restore_name(&name.collection) && CollectionPattern::selects(&backup.selection, name)
        };
        let troubled = || stored.left_out.iter().filter(|left_out| left_out.cause == Cause::Trouble);
        let is_left_out = |name: &CollectionName| troubled().any(|left_out| left_out.name == name.to_string());
        let is_named = |id: &i64| troubled().any(|left_out| left_out.id == *id);
        let is_incomplete = !server.shows_all() || stored.left_out.iter().any(|of| of.cause == Cause::Trouble);
        let completeness = backup.state.snapshot().map(|snapshot| &snapshot.completeness);
        if completeness.is_none_or(|completeness| completeness.is_complete() == is_incomplete) {
            let what = format!("it says that it is {completeness:?}, with {:?}", stored.left_out);
            return Err(Breach::new(Rule::Complete, what));
        }
        let is_in = |id: &i64| stored.collections.iter().any(|captured| captured.id == *id);
        if !server.shows_all() {
            return Ok(());
        }
        let missing = |what: String| Err(Breach::new(Rule::Complete, format!("{what} is not in it")));
        for (id, names) in server.journal.all_the_while(span) {
            // A collection with one name that isn't selected may have had that name when it mattered.
            let is_asked_for = names.iter().all(|name| is_selected(name));
            if is_asked_for && !is_in(&id) && !is_named(&id) {
                let name = server.name_of(id).map(|name| name.to_string()).unwrap_or_default();
                return missing(format!("{name} ({id})"));
            }
        }
        for name in server.journal.names_all_the_while(span) {
            let ids = server.journal.ids_of(name, span);
            if is_selected(name) && !ids.iter().any(|id| is_in(id) || is_named(id)) && !is_left_out(name) {
                return missing(format!("{name}, which was {ids:?},"));
            }
        }
        if let Some(ghost) = &server.ghost
            && is_selected(&ghost.name)
            && !is_left_out(&ghost.name)
        {
            return missing(format!("{}, which can't be described,", ghost.name));
        }
        Ok(())
    }

    /// Whatever the backup leaves out is missing for the reason that it gives.
    pub(super) fn is_what_it_leaves_out_right(&self, backup: &Backup, stored: &Stored) -> Result<(), Breach> {
        let servers = locked(&self.servers);
        let server = servers.get(&backup.instance_id).ok_or_else(|| "it is of no instance".to_owned())?;
        let span = Span { from: backup.created_at, until: self.world.now() };
        for left_out in &stored.left_out {
            let name: CollectionName = left_out.name.parse().map_err(|_| format!("{} is no name", left_out.name))?;
            let is_right = match left_out.cause {
                Cause::Restores => is_restore_name(&name.collection),
                Cause::Dropped => server.journal.was_dropped(&name, span),
                Cause::Trouble => {
                    locked(&self.seen).troubles += 1;
                    // A network that lets nothing through for long is a valid reason.
                    let is_of_the_weather = !self.is_calm && left_out.reason.contains("Milvus doesn't answer");
                    // So is a server that starts again and again: one start hides a collection for ten seconds at most, and a
                    // backup waits for thirty.
                    let starts = server.starts.iter().filter(|at| (span.from..=span.until).contains(at)).count();
                    let is_starting = starts > 2 && left_out.reason.contains("is listed, but");
                    !server.is_sound()
                        || is_starting
                        || server.ghost.as_ref().is_some_and(|ghost| ghost.name == name)
                        || server.journal.was_dropped(&name, span)
                        || is_of_the_weather
                }
            };
            if !is_right {
                let what = format!("{name} is left out for {:?}: {}", left_out.cause, left_out.reason);
                let rule = if left_out.cause == Cause::Trouble { Rule::Unharmed } else { Rule::Complete };
                return Err(Breach::new(rule, what));
            }
        }
        Ok(())
    }
}

fn are_totals_right(backup: &Backup, stored: &Stored) -> Result<(), Breach> {
    let size: u64 = stored.entries.iter().map(|entry| entry.size).sum();
    let of_record = backup.state.snapshot().map(|snapshot| snapshot.totals).unwrap_or_default();
    let claimed = [stored.size_bytes, of_record.size_bytes];
    let is_right = claimed == [size; 2] && of_record.objects == stored.entries.len() as u64;
    if is_right {
        Ok(())
    } else {
        Err(Breach::new(Rule::Totals, format!("it has {size} bytes and claims {claimed:?}")))
    }
}
