//! Ids: newtypes that hold only text that is safe in a URL, a DynamoDB key and an S3 key.

use std::str::FromStr;

use ulid::Ulid;

use crate::{Invalid, Time, text::text_type};

text_type! {
    /// An instance's id, chosen by the caller: 1 to 63 letters, digits, `-` and `_`, starting with a letter or digit.
    InstanceId
}

text_type! {
    /// A backup's id: `bk-` and a ULID, so that ids sort by creation time.
    BackupId
}

text_type! {
    /// A restore's id: `rs-` and a ULID, so that ids sort by creation time.
    RestoreId
}

impl FromStr for InstanceId {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        let starts_well = text.starts_with(|c: char| c.is_ascii_alphanumeric());
        if starts_well && text.len() <= 63 && text.chars().all(allowed) {
            Ok(Self(text.to_owned()))
        } else {
            Err(Invalid::new(
                "an instance id is 1 to 63 letters, digits, '-' and '_', and starts with a letter or a digit",
            ))
        }
    }
}

/// Parses `prefix` followed by a ULID in its canonical spelling, the only spelling that this service hands out.
fn parse_prefixed(text: &str, prefix: &str) -> Result<String, Invalid> {
    let canonical =
        text.strip_prefix(prefix).and_then(|rest| Ulid::from_string(rest).ok().filter(|ulid| ulid.to_string() == rest));
    match canonical {
        Some(_) => Ok(text.to_owned()),
        None => Err(Invalid::new(format!("an id of this kind is '{prefix}' and a ULID"))),
    }
}

impl BackupId {
    /// Makes the id from a ULID.
    pub fn new(ulid: Ulid) -> Self {
        Self(format!("bk-{ulid}"))
    }

    /// When the backup was requested, to the millisecond, read from the id.
    pub fn created_at(&self) -> Option<Time> {
        let ulid = Ulid::from_string(self.0.strip_prefix("bk-")?).ok()?;
        Time::from_timestamp_millis(ulid.timestamp_ms().try_into().ok()?)
    }
}

impl FromStr for BackupId {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        parse_prefixed(text, "bk-").map(Self)
    }
}

impl RestoreId {
    /// Makes the id from a ULID.
    pub fn new(ulid: Ulid) -> Self {
        Self(format!("rs-{ulid}"))
    }

    /// Ten lower-case characters of the random part, which the names of the restore's own collections contain.
    pub fn short(&self) -> String {
        self.0[self.0.len() - 10..].to_ascii_lowercase()
    }
}

impl FromStr for RestoreId {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        parse_prefixed(text, "rs-").map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_id_is_safe_in_urls_and_keys() {
        for good in ["a", "orders", "Orders-2_eu", "0", &"x".repeat(63)] {
            assert_eq!(good.parse::<InstanceId>().unwrap().as_str(), good);
        }
        for bad in ["", "-a", "_a", "a/b", "a b", "ä", "a#b", "a%2Fb", "..", &"x".repeat(64)] {
            assert!(bad.parse::<InstanceId>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn backup_and_restore_ids_have_one_spelling_and_sort_by_time() {
        let early = BackupId::new(Ulid::from_parts(1, 0xABCDEF));
        let late = BackupId::new(Ulid::from_parts(2, 1));
        assert!(early < late);
        assert_eq!(early.as_str().parse::<BackupId>().unwrap(), early);
        assert!(early.as_str().to_lowercase().parse::<BackupId>().is_err());
        assert!(early.as_str().parse::<RestoreId>().is_err());
        assert!("bk-".parse::<BackupId>().is_err());
    }

    #[test]
    fn the_short_restore_id_fits_a_collection_name() {
        let id = RestoreId::new(Ulid::from_parts(1, u128::MAX));
        assert_eq!(id.short().len(), 10);
        assert!(id.short().chars().all(|c| c.is_ascii_digit() || c.is_ascii_lowercase()));
    }
}
