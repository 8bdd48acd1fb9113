//! Preconditions of a change: the caller requires that the object to replace is still the version that it has read.

use milvault_model::{AutoBackup, Instance, Switch};
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::Error;

/// Identifies the version of an object that a PUT replaces, so that another PUT in between is noticed.
///
/// It is a hash of the fields that a PUT sets. Fields that change by themselves, such as the version that the server
/// reports or the last run of automatic backups, don't change the tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tag(String);

impl Tag {
    /// Returns the tag of an instance's registration. It changes if the instance is removed and registered again.
    pub fn for_instance(instance: &Instance) -> Self {
        Self::from_value(&Instance { reported_engine_version: None, ..instance.clone() })
    }

    /// Returns the tag of the settings of automatic backups.
    pub fn for_auto_backup(record: &AutoBackup) -> Self {
        Self::from_value(&(&record.plan, matches!(record.switch, Switch::On { .. })))
    }

    /// Returns the tag as an `ETag` header has it, with quotes.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn from_value(value: &impl Serialize) -> Self {
        // Records consist of strings, numbers and times, so their serialisation can't fail.
        let digest = Sha256::digest(serde_json::to_vec(value).unwrap_or_default());
        Self(format!("\"{}\"", hex::encode(&digest[..16])))
    }
}

/// The condition that the present state has to meet for a change. It is checked in every attempt at the change, and the
/// commit requires the version that was checked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Precondition {
    /// No condition.
    #[default]
    None,
    /// The object exists.
    Exists,
    /// The object doesn't exist.
    Absent,
    /// The object has one of these tags, as the caller wrote them.
    Matches(Vec<String>),
}

impl Precondition {
    /// Checks that the object with this tag, or no object, meets the condition.
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
    use milvault_model::{Plan, RequestedSwitch};

    use super::*;

    fn record() -> AutoBackup {
        AutoBackup::off("orders".parse().unwrap())
    }

    #[test]
    fn a_condition_holds_for_the_tags_that_it_names_and_for_no_others() {
        let tag = Tag::for_auto_backup(&record());
        let matching = Precondition::Matches(vec!["\"other\"".into(), tag.as_str().into()]);
        let cases = [
            (Precondition::None, true, true),
            (Precondition::Exists, true, false),
            (Precondition::Absent, false, true),
            (matching, true, false),
            (Precondition::Matches(vec!["\"other\"".into()]), false, false),
        ];
        for (condition, if_present, if_absent) in cases {
            assert_eq!(condition.check(Some(&tag)).is_ok(), if_present, "{condition:?}");
            assert_eq!(condition.check(None).is_ok(), if_absent, "{condition:?}");
        }
    }

    #[test]
    fn a_tag_changes_with_the_put_fields_and_not_with_the_time() {
        let at = |seconds| chrono::DateTime::from_timestamp(seconds, 0).unwrap();
        let on = |plan: Plan, seconds| Tag::for_auto_backup(&record().changed(plan, RequestedSwitch::On, at(seconds)));
        let other = Plan { timezone: "Asia/Tokyo".parse().unwrap(), ..Plan::default() };
        assert_eq!(on(Plan::default(), 5), on(Plan::default(), 50_000));
        assert_ne!(on(Plan::default(), 5), on(other, 5));
        assert_ne!(on(Plan::default(), 5), Tag::for_auto_backup(&record()));
    }
}
