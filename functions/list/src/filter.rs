//! Filters of listings, which decide on each record, newest first, until the page is full or no older record can match.

use milvault_gateway::{Filters, Findings, Paging};
use milvault_jobs::{Error, FieldError};
use milvault_model::{Backup, BackupKind, BackupStatus, Restore, RestoreStatus, Time};

/// A filter's decision about a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Show,
    PassOver,
    /// The record is skipped, and so is every older one.
    End,
}

/// Whether deleted backups are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Deleted {
    Hidden,
    Shown,
}

#[derive(Debug)]
pub(crate) struct BackupFilter {
    statuses: Vec<BackupStatus>,
    kind: Option<BackupKind>,
    period: Period,
    deleted: Deleted,
}

#[derive(Debug)]
pub(crate) struct RestoreFilter {
    statuses: Vec<RestoreStatus>,
    period: Period,
}

/// The period in which a record was created: at or after `from`, and before `to`.
#[derive(Debug)]
struct Period {
    from: Option<Time>,
    to: Option<Time>,
}

impl BackupFilter {
    pub(crate) fn read(filters: &Filters) -> Result<Self, Error> {
        let mut findings = Findings::default();
        let statuses: Vec<BackupStatus> = findings.keep(filters.value_list("status"));
        let kind = findings.keep(filters.value("type"));
        let shown = findings.keep(filters.switch("includeDeleted"));
        let period = Period::read(filters, &mut findings);
        findings.report()?;
        // A caller who asks for the status DELETED wants to see deleted backups.
        let shown = shown || statuses.contains(&BackupStatus::Deleted);
        let deleted = if shown { Deleted::Shown } else { Deleted::Hidden };
        Ok(Self { statuses, kind, period, deleted })
    }

    pub(crate) fn judge(&self, backup: &Backup) -> Verdict {
        let status = backup.state.status();
        let hidden = status == BackupStatus::Deleted && self.deleted == Deleted::Hidden;
        let wanted = (self.statuses.is_empty() || self.statuses.contains(&status))
            && self.kind.is_none_or(|kind| kind == backup.kind);
        self.period.judge(backup.created_at, if wanted && !hidden { Verdict::Show } else { Verdict::PassOver })
    }
}

impl RestoreFilter {
    pub(crate) fn read(filters: &Filters) -> Result<Self, Error> {
        let mut findings = Findings::default();
        let statuses = findings.keep(filters.value_list("status"));
        let period = Period::read(filters, &mut findings);
        findings.report()?;
        Ok(Self { statuses, period })
    }

    pub(crate) fn judge(&self, restore: &Restore) -> Verdict {
        let wanted = self.statuses.is_empty() || self.statuses.contains(&restore.state.status());
        self.period.judge(restore.created_at, if wanted { Verdict::Show } else { Verdict::PassOver })
    }
}

impl Period {
    fn read(filters: &Filters, findings: &mut Findings) -> Self {
        let (from, to) = (findings.keep(filters.time("from")), findings.keep(filters.time("to")));
        if let (Some(from), Some(to)) = (from, to)
            && to < from
        {
            findings.note(Some(FieldError::new("to", "is before 'from'")));
        }
        Self { from, to }
    }

    /// Ids sort by creation time, so the first record before the period ends the search.
    fn judge(&self, created_at: Time, otherwise: Verdict) -> Verdict {
        if self.from.is_some_and(|from| created_at < from) {
            Verdict::End
        } else if self.to.is_some_and(|to| created_at >= to) {
            Verdict::PassOver
        } else {
            otherwise
        }
    }
}

/// A page that is being filled.
#[derive(Debug)]
pub(crate) struct Sifted<T> {
    /// The records found so far.
    pub(crate) items: Vec<T>,
    limit: usize,
    progress: Progress,
}

/// How far the catalog's listing has been read.
#[derive(Debug)]
enum Progress {
    /// Read up to this sort key; the page isn't full.
    Looking(Option<String>),
    /// The page is full, and more records may follow after this sort key.
    Full(String),
    /// There are no more records.
    End,
}

impl<T> Sifted<T> {
    pub(crate) fn begin(paging: &Paging) -> Self {
        Self { items: Vec::new(), limit: paging.limit, progress: Progress::Looking(paging.after.clone()) }
    }

    /// The sort key after which to read on, if the page isn't full; the inner `None` is the listing's beginning.
    pub(crate) fn looks_on_after(&self) -> Option<Option<String>> {
        match &self.progress {
            Progress::Looking(after) => Some(after.clone()),
            Progress::Full(_) | Progress::End => None,
        }
    }

    /// The sort key after which the next page begins, if there is one.
    pub(crate) fn goes_on_after(&self) -> Option<&str> {
        match &self.progress {
            Progress::Full(last) => Some(last),
            Progress::Looking(_) | Progress::End => None,
        }
    }
}

/// Filters the next page of a listing; `next` is the position after the page.
pub(crate) fn sift<T>(
    sifted: &mut Sifted<T>,
    records: impl IntoIterator<Item = T>,
    next: Option<String>,
    judge: impl Fn(&T) -> (String, Verdict),
) {
    let mut records = records.into_iter().peekable();
    while let Some(record) = records.next() {
        let (key, verdict) = judge(&record);
        match verdict {
            Verdict::PassOver => {}
            Verdict::Show => sifted.items.push(record),
            Verdict::End => {
                sifted.progress = Progress::End;
                return;
            }
        }
        if sifted.items.len() == sifted.limit {
            let follows = next.is_some() || records.peek().is_some();
            sifted.progress = if follows { Progress::Full(key) } else { Progress::End };
            return;
        }
    }
    sifted.progress = match next {
        Some(next) => Progress::Looking(Some(next)),
        None => Progress::End,
    };
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, TimeDelta};
    use milvault_gateway::PageSize;
    use milvault_jobs::CursorKey;

    use super::*;

    fn even(number: &u32) -> (String, Verdict) {
        (number.to_string(), if number.is_multiple_of(2) { Verdict::Show } else { Verdict::PassOver })
    }

    fn next(last: u32) -> Option<String> {
        Some(last.to_string())
    }

    fn page(limit: usize) -> Sifted<u32> {
        let size = PageSize { default: limit, ..PageSize::LISTING };
        Sifted::begin(&Paging::first("GET /numbers", &[], size, &CursorKey::new("of a test")))
    }

    #[test]
    fn a_page_is_filled_through_several_parts_of_the_listing_and_goes_on_after_the_last_one_examined() {
        let mut sifted = page(2);
        sift(&mut sifted, [9, 8, 7], next(7), even);
        assert_eq!(sifted.looks_on_after(), Some(Some("7".into())));
        sift(&mut sifted, [5, 4, 3, 2], next(2), even);
        assert_eq!(sifted.items, [8, 4]);
        assert_eq!(sifted.looks_on_after(), None);
        assert_eq!(sifted.goes_on_after(), Some("4"));
    }

    #[test]
    fn an_empty_page_does_not_end_a_listing() {
        let mut sifted = page(2);
        sift(&mut sifted, [], next(7), even);
        assert_eq!(sifted.looks_on_after(), Some(Some("7".into())));
    }

    #[test]
    fn the_last_page_has_no_cursor_even_when_it_is_full() {
        let mut sifted = page(2);
        sift(&mut sifted, [4, 2], None, even);
        assert_eq!((sifted.looks_on_after(), sifted.goes_on_after()), (None, None));
        let mut sifted = page(2);
        sift(&mut sifted, [3, 1], None, even);
        assert_eq!((sifted.looks_on_after(), sifted.goes_on_after()), (None, None));
    }

    #[test]
    fn nothing_is_looked_for_before_the_period() {
        let at = |seconds| DateTime::UNIX_EPOCH + TimeDelta::seconds(seconds);
        let period = Period { from: Some(at(10)), to: Some(at(20)) };
        assert_eq!(period.judge(at(20), Verdict::Show), Verdict::PassOver);
        assert_eq!(period.judge(at(19), Verdict::Show), Verdict::Show);
        assert_eq!(period.judge(at(10), Verdict::Show), Verdict::Show);
        assert_eq!(period.judge(at(9), Verdict::Show), Verdict::End);
        let mut sifted = page(5);
        sift(&mut sifted, [19, 9, 8], next(8), |second| {
            (second.to_string(), period.judge(at((*second).into()), Verdict::Show))
        });
        assert_eq!(sifted.items, [19]);
        assert_eq!(sifted.looks_on_after(), None);
    }
}
