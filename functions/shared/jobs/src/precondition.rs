//! Conditions that a caller puts on a change: that what it replaces is still what the caller has seen.

use milvault_model::{AutoBackup, Instance, Switch};
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::Error;

/// Names what a PUT replaces, so that another PUT in between is noticed.
///
/// It is made of what was put and of nothing that changes by itself: that a server reports another version, or that an
/// automatic backup has run, takes no caller's change away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tag(String);

impl Tag {
    /// Of an instance's registration. One that was removed and registered anew is another.
    pub fn of_instance(instance: &Instance) -> Self {
        Self::of(&Instance { reported_engine_version: None, ..instance.clone() })
    }

    /// Of what is asked for of automatic backups.
    pub fn of_auto_backup(record: &AutoBackup) -> Self {
        Self::of(&(&record.plan, matches!(record.switch, Switch::On { .. })))
    }

    /// As `ETag` has it, quotes included.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn of(put: &impl Serialize) -> Self {
        // Records are structs of texts, numbers and times, which always serialise.
        let digest = Sha256::digest(serde_json::to_vec(put).unwrap_or_default());
        Self(format!("\"{}\"", hex::encode(&digest[..16])))
    }
}

/// What must hold of the present state for a change to be made. It is looked at again whenever a change is decided anew,
/// and the commit that follows requires the version that was looked at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Precondition {
    /// Nothing.
    #[default]
    None,
    /// There is something to replace.
    Exists,
    /// There is nothing to replace.
    Absent,
    /// What is replaced has one of these tags, as the caller wrote them.
    Matches(Vec<String>),
}

impl Precondition {
    /// Refuses a change of what isn't as the caller wants it to be.
    ///
    /// # Errors
    /// [`Error::PreconditionFailed`].
    pub fn check(&self, present: Option<&Tag>) -> Result<(), Error> {
        let holds = match self {
            Self::None => true,
            Self::Exists => present.is_some(),
            Self::Absent => present.is_none(),
            Self::Matches(tags) => present.is_some_and(|present| tags.iter().any(|tag| tag == present.as_str())),
        };
        if holds { Ok(()) } else { Err(Error::PreconditionFailed) }
    }
}

#[cfg(test)]
mod tests {
    use milvault_model::{Plan, Wanted};

    use super::*;

    fn record() -> AutoBackup {
        AutoBackup::off("orders".parse().unwrap())
    }

    #[test]
    fn a_condition_holds_for_what_it_names_and_for_nothing_else() {
        let tag = Tag::of_auto_backup(&record());
        let matching = Precondition::Matches(vec!["\"other\"".into(), tag.as_str().into()]);
        let cases = [
            (Precondition::None, true, true),
            (Precondition::Exists, true, false),
            (Precondition::Absent, false, true),
            (matching, true, false),
            (Precondition::Matches(vec!["\"other\"".into()]), false, false),
        ];
        for (condition, with_something, with_nothing) in cases {
            assert_eq!(condition.check(Some(&tag)).is_ok(), with_something, "{condition:?}");
            assert_eq!(condition.check(None).is_ok(), with_nothing, "{condition:?}");
        }
    }

    #[test]
    fn a_tag_changes_with_what_is_put_and_not_with_when() {
        let at = |seconds| chrono::DateTime::from_timestamp(seconds, 0).unwrap();
        let on = |plan: Plan, seconds| Tag::of_auto_backup(&record().changed(plan, Wanted::On, at(seconds)));
        let other = Plan { timezone: "Asia/Tokyo".parse().unwrap(), ..Plan::default() };
        assert_eq!(on(Plan::default(), 5), on(Plan::default(), 50_000));
        assert_ne!(on(Plan::default(), 5), on(other, 5));
        assert_ne!(on(Plan::default(), 5), Tag::of_auto_backup(&record()));
    }
}
