//! Captures collections of an earlier capture again, because their source changed.

use std::collections::BTreeSet;

use futures::{StreamExt, TryStreamExt, stream};
use milvault_model::{CollectionCapture, Failure, FailureCode, Pass};

use super::{
    capture::{Captured, Capturer, FLUSHES_IN_FLIGHT},
    lines::{self, CaptureLine, dropped, troubled},
    survey::{CaptureTarget, Selected},
    work::Work,
};
use crate::{
    Error,
    engine::halt::{Step, fatal},
    snapshot::{layout::PageKind, pages::Folder},
};

/// The most collections that a message names.
const NAMED: usize = 5;

/// The range of ids that belong to a page.
pub(super) struct Range {
    pub(super) after: Option<String>,
    pub(super) until: Option<String>,
}

impl Range {
    fn contains(&self, id: i64) -> bool {
        let id = id.to_string();
        self.after.as_ref().is_none_or(|after| id > *after) && self.until.as_ref().is_none_or(|until| id <= *until)
    }
}

/// Captures the collections of one page again that `again` names, and adds new ones in `range`.
pub(super) async fn recapture(
    work: &Work<'_>,
    capturer: &Capturer<'_>,
    lines: &mut Vec<CaptureLine>,
    again: &Pass,
    range: &Range,
) -> Step {
    let mut kept = Vec::new();
    let mut targets = Vec::new();
    let mut added: BTreeSet<i64> = again.collections.iter().copied().filter(|id| range.contains(*id)).collect();
    for line in std::mem::take(lines) {
        let CaptureLine::Collection(line) = line else {
            kept.push(line);
            continue;
        };
        let CollectionCapture { id, name, .. } = &line.capture;
        added.remove(id);
        if again.superseded.contains(id) {
            continue;
        }
        if let Some(unexplained) = again.unexplained.iter().find(|unexplained| unexplained.collection == *id) {
            let failure = Failure::new(unexplained.code, unexplained.reason.clone());
            kept.push(troubled(*id, name, &line.selected, &failure)?);
        } else if again.collections.contains(id) {
            let target = CaptureTarget { id: *id, name: name.clone(), selected: line.selected.clone() };
            targets.push((target, Before::Captured));
        } else {
            kept.push(CaptureLine::Collection(line));
        }
    }
    for id in added {
        // A new collection that was already dropped again needn't be in the backup.
        if let Some(name) = capturer.name_of(id, "").await? {
            let selected = Selected::from_selection(&work.backup.selection, &name);
            targets.push((CaptureTarget { id, name, selected }, Before::Unknown));
        }
    }
    let captures = stream::iter(targets)
        .map(|(target, before)| async move {
            let captured = capturer.capture(&target).await?;
            Ok::<_, Error>((target, before, captured))
        })
        .buffered(FLUSHES_IN_FLIGHT);
    for (target, before, captured) in captures.try_collect::<Vec<_>>().await? {
        match (captured, before) {
            (Captured::Whole(capture), _) => {
                kept.push(lines::captured(*capture, target.selected));
            }
            (Captured::Trouble(failure), _) => {
                kept.push(troubled(target.id, &target.name, &target.selected, &failure)?);
            }
            (Captured::Dropped, Before::Unknown) => {}
            // Another collection has its name, and is added if it isn't in the backup.
            (Captured::Dropped, Before::Captured) if capturer.is_name_taken(&target.name).await? => {
                kept.push(dropped(
                    &target,
                    "dropped while others were captured, and its name given to another collection",
                ));
            }
            (Captured::Dropped, Before::Captured) => {
                let message = "it was dropped after its point in time, and its files were gone before they were copied";
                let failure = Failure::new(FailureCode::CollectionDropped, message);
                kept.push(troubled(target.id, &target.name, &target.selected, &failure)?);
            }
        }
    }
    if range.until.is_none() {
        for out in &again.left_out {
            match Selected::from_selection(&work.backup.selection, &out.collection) {
                Selected::ByPattern => kept.push(CaptureLine::LeftOut(out.clone())),
                Selected::ByName(name) => {
                    let code = out.code.unwrap_or(FailureCode::SourceChanged);
                    return Err(fatal(code, format!("{name}: {}", out.reason)));
                }
            }
        }
    }
    kept.sort_by_cached_key(|line| match line {
        CaptureLine::Collection(line) => Some(line.capture.id.to_string()),
        _ => None,
    });
    *lines = kept;
    Ok(())
}

/// Whether the earlier capture has a collection.
enum Before {
    Captured,
    Unknown,
}

/// Returns the names of some of the collections that are captured again, for messages.
pub(super) async fn names(folder: &Folder<'_>, again: &Pass) -> Result<Vec<String>, Error> {
    let mut names = Vec::new();
    for number in 0..again.capture.count {
        for line in folder.read(&PageKind::Capture.key(&again.capture, number)).await? {
            match line {
                CaptureLine::Collection(line) if again.collections.contains(&line.capture.id) => {
                    names.push(line.capture.name.to_string());
                }
                _ => {}
            }
        }
        if names.len() >= NAMED {
            names.truncate(NAMED);
            names.push("others".to_owned());
            break;
        }
    }
    Ok(names)
}
