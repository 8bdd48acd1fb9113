//! Collections of an earlier capture, captured again because their source changed.

use std::collections::BTreeSet;

use futures::{StreamExt, TryStreamExt, stream};
use milvault_model::{CollectionCapture, Failure, FailureCode, Pass};

use super::{
    capture::{Captured, Capturing, FLUSHES_IN_FLIGHT},
    found::{Found, Taken, dropped, troubled},
    survey::{Asked, Wanted},
    work::Work,
};
use crate::{
    Error,
    engine::halt::{Step, fatal},
    snapshot::{layout::PageKind, pages::Folder},
};

/// The most collections that a message names.
const NAMED: usize = 5;

/// Which ids belong to a page.
pub(super) struct Range {
    pub(super) after: Option<String>,
    pub(super) until: Option<String>,
}

impl Range {
    fn has(&self, id: i64) -> bool {
        let id = id.to_string();
        self.after.as_ref().is_none_or(|after| id > *after) && self.until.as_ref().is_none_or(|until| id <= *until)
    }
}

pub(super) async fn recapture(
    work: &Work<'_>,
    capturing: &Capturing<'_>,
    lines: &mut Vec<Found>,
    again: &Pass,
    range: &Range,
) -> Step {
    let mut kept = Vec::new();
    let mut wanted = Vec::new();
    let mut added: BTreeSet<i64> = again.collections.iter().copied().filter(|id| range.has(*id)).collect();
    for line in std::mem::take(lines) {
        let Found::Collection(taken) = line else {
            kept.push(line);
            continue;
        };
        let CollectionCapture { id, name, .. } = &taken.capture;
        added.remove(id);
        if again.superseded.contains(id) {
            continue;
        }
        if let Some(unexplained) = again.unexplained.iter().find(|unexplained| unexplained.collection == *id) {
            let failure = Failure::new(unexplained.code, unexplained.reason.clone());
            kept.push(troubled(*id, name, &taken.asked, &failure)?);
        } else if again.collections.contains(id) {
            wanted.push((Wanted { id: *id, name: name.clone(), asked: taken.asked.clone() }, Before::Captured));
        } else {
            kept.push(Found::Collection(taken));
        }
    }
    for id in added {
        // One that is gone again was never in the backup.
        if let Some(name) = capturing.name_of(id, "").await? {
            let asked = Asked::of(&work.backup.selection, &name);
            wanted.push((Wanted { id, name, asked }, Before::Unknown));
        }
    }
    let captures = stream::iter(wanted)
        .map(|(wanted, before)| async move {
            let captured = capturing.capture(&wanted).await?;
            Ok::<_, Error>((wanted, before, captured))
        })
        .buffered(FLUSHES_IN_FLIGHT);
    for (wanted, before, captured) in captures.try_collect::<Vec<_>>().await? {
        match (captured, before) {
            (Captured::Whole(capture), _) => {
                kept.push(Found::Collection(Box::new(Taken { capture: *capture, asked: wanted.asked })));
            }
            (Captured::Trouble(failure), _) => kept.push(troubled(wanted.id, &wanted.name, &wanted.asked, &failure)?),
            (Captured::Dropped, Before::Unknown) => {}
            // Its name is another collection's, which is added if the backup hasn't got it.
            (Captured::Dropped, Before::Captured) if capturing.is_taken(&wanted.name).await? => {
                kept.push(dropped(
                    &wanted,
                    "dropped while others were captured, and its name given to another collection",
                ));
            }
            (Captured::Dropped, Before::Captured) => {
                let message = "it was dropped after its point in time, and its files were gone before they were copied";
                let failure = Failure::new(FailureCode::CollectionDropped, message);
                kept.push(troubled(wanted.id, &wanted.name, &wanted.asked, &failure)?);
            }
        }
    }
    if range.until.is_none() {
        for out in &again.left_out {
            match Asked::of(&work.backup.selection, &out.collection) {
                Asked::ByPattern => kept.push(Found::LeftOut(out.clone())),
                Asked::ByName(name) => {
                    let code = out.code.unwrap_or(FailureCode::SourceChanged);
                    return Err(fatal(code, format!("{name}: {}", out.reason)));
                }
            }
        }
    }
    kept.sort_by_cached_key(|line| match line {
        Found::Collection(taken) => Some(taken.capture.id.to_string()),
        _ => None,
    });
    *lines = kept;
    Ok(())
}

/// What the earlier capture has of a collection.
enum Before {
    Captured,
    Unknown,
}

/// The names of some of the collections that are captured again, for people.
pub(super) async fn names(folder: &Folder<'_>, again: &Pass) -> Result<Vec<String>, Error> {
    let mut names = Vec::new();
    for number in 0..again.capture.count {
        for line in folder.read(&PageKind::Capture.key(&again.capture, number)).await? {
            match line {
                Found::Collection(taken) if again.collections.contains(&taken.capture.id) => {
                    names.push(taken.capture.name.to_string());
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
