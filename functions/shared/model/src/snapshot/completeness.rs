//! Whether a snapshot or a restore has everything that was asked for, and what it lacks.

use serde::{Deserialize, Serialize};

use crate::{CollectionName, FailureCode};

/// Whether a backup has everything that was asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "camelCase")]
pub enum Completeness {
    /// The snapshot has everything that existed at its point in time.
    #[default]
    Complete,
    /// Something is missing, or may be missing.
    Incomplete {
        /// The first few reasons, for people.
        reasons: Vec<String>,
    },
}

impl Completeness {
    /// The number of reasons that a record keeps; the manifest, or the ledger, has all of them.
    const SHOWN: usize = 5;

    /// The completeness of a snapshot captured as this principal, with these collections left out.
    pub fn for_snapshot(left_out: &[LeftOut], principal: Option<&Principal>) -> Self {
        let limited = principal.and_then(|principal| match &principal.visibility {
            Visibility::Everything => None,
            Visibility::Unsure { reason } => Some(reason.clone()),
        });
        let missed = left_out.iter().filter(|left_out| left_out.cause == LeftOutCause::Trouble);
        let missed = missed.map(|left_out| format!("{}: {}", left_out.collection, left_out.reason));
        Self::lacking(limited, missed, "backup")
    }

    /// The completeness of a restore that gave up collections for these reasons, one per collection.
    pub fn for_restore(given_up: impl Iterator<Item = String>) -> Self {
        Self::lacking(None, given_up, "restore")
    }

    /// The completeness without the collections of these reasons. `whole` is the resource whose description names all
    /// of them.
    fn lacking(in_general: Option<String>, mut collections: impl Iterator<Item = String>, whole: &str) -> Self {
        let named = collections.by_ref().take(Self::SHOWN);
        let mut reasons: Vec<String> = in_general.into_iter().chain(named).collect();
        match collections.count() {
            0 => {}
            more => reasons.push(format!("and {more} more collections, which describing the {whole} names")),
        }
        if reasons.is_empty() { Self::Complete } else { Self::Incomplete { reasons } }
    }

    /// Whether nothing is missing.
    pub fn is_complete(&self) -> bool {
        *self == Self::Complete
    }

    /// Why something is missing, for people; `None` if nothing is.
    pub fn reasons(&self) -> Option<&[String]> {
        match self {
            Self::Complete => None,
            Self::Incomplete { reasons } => Some(reasons),
        }
    }
}

/// The user that a Milvus server answers requests as.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Principal {
    /// The user's name; `None` if the server asks for no credentials, or if the credentials are a token without a name.
    pub user: Option<String>,
    /// Whether that user sees every collection.
    pub visibility: Visibility,
}

/// What a principal can see: with authorization on, Milvus lists only the objects that a user has privileges for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "sees", rename_all = "camelCase")]
pub enum Visibility {
    /// Every database and collection.
    Everything,
    /// Possibly not everything.
    Unsure {
        /// The reason, for people.
        reason: String,
    },
}

/// A collection that existed in the source and isn't in the snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LeftOut {
    /// The collection's name.
    pub collection: CollectionName,
    /// The collection's id; `None` in snapshots made before this was recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<i64>,
    /// The reason, for people.
    pub reason: String,
    /// The reason, for this service.
    #[serde(default)]
    pub cause: LeftOutCause,
    /// For [`LeftOutCause::Trouble`]: the code that a backup that selected the collection by name would have failed
    /// with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<FailureCode>,
}

/// Why a collection isn't in a snapshot.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum LeftOutCause {
    /// A restore made it, or keeps it for a rollback: it isn't a user's collection.
    #[default]
    Restores,
    /// It was dropped before its point in time, so nothing of it is missing.
    Dropped,
    /// It existed and couldn't be captured, so the snapshot is incomplete.
    Trouble,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn left_out(cause: LeftOutCause, number: usize) -> LeftOut {
        LeftOut {
            collection: format!("default.c{number}").parse().unwrap(),
            id: None,
            reason: "it is broken".into(),
            cause,
            code: None,
        }
    }

    #[test]
    fn only_trouble_and_a_user_who_may_not_see_all_make_a_backup_incomplete() {
        let everything = Principal { user: None, visibility: Visibility::Everything };
        let harmless = [left_out(LeftOutCause::Restores, 0), left_out(LeftOutCause::Dropped, 1)];
        assert!(Completeness::for_snapshot(&harmless, Some(&everything)).is_complete());
        let reason = "the user 'backup' may not see all".to_owned();
        let limited = Principal { user: None, visibility: Visibility::Unsure { reason: reason.clone() } };
        let of_limited = Completeness::for_snapshot(&harmless, Some(&limited));
        assert_eq!(of_limited.reasons(), Some([reason].as_slice()));
        let troubled: Vec<LeftOut> = (0..7).map(|number| left_out(LeftOutCause::Trouble, number)).collect();
        let of_troubled = Completeness::for_snapshot(&troubled, Some(&everything));
        let reasons = of_troubled.reasons().unwrap();
        assert_eq!((reasons.len(), reasons[0].as_str()), (6, "default.c0: it is broken"));
        assert!(reasons[5].contains("2 more"), "{reasons:?}");
    }
}
