//! Query parameters: named, typed, and none that the operation doesn't know.

use std::{collections::BTreeMap, ops::RangeInclusive, str::FromStr};

use chrono::{DateTime, Utc};
use milvault_jobs::{CursorKey, Error, FieldError};
use milvault_model::Time;
use milvault_ports::PageRequest;
use serde::de::{DeserializeOwned, IntoDeserializer, value::Error as ValueError};

use crate::cursor;

/// The parameters of one listing.
#[derive(Debug, Clone)]
pub struct Filters {
    /// The place, so that a cursor of one resource's listing isn't taken for another's.
    of: String,
    values: BTreeMap<String, String>,
}

/// How many items a page may have.
#[derive(Debug, Clone)]
pub struct PageSize {
    /// Where the caller doesn't say.
    pub default: usize,
    /// What the caller may say.
    pub allowed: RangeInclusive<usize>,
}

impl PageSize {
    /// Of lists of instances, backups and restores.
    pub const LISTING: Self = Self { default: 50, allowed: 1..=1000 };
    /// Of the collections within one backup or restore.
    pub const COLLECTIONS: Self = Self { default: 1000, allowed: 1..=1000 };
}

/// Which page of a listing is asked for.
#[derive(Debug, Clone)]
pub struct Paging {
    /// At most so many items, at least one.
    pub limit: usize,
    /// Begin after this sort key.
    pub after: Option<String>,
    listing: String,
    key: CursorKey,
}

/// What there is to list where: a route, and what its placeholders stand for.
pub(crate) fn place<'a>(route: &str, path: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    path.into_iter().fold(route.to_owned(), |place, (name, value)| format!("{place}\n{name}={value}"))
}

impl Filters {
    pub(crate) fn new(of: String, values: BTreeMap<String, String>, known: &[&str]) -> Result<Self, Error> {
        let unknown: Vec<FieldError> = values
            .keys()
            .filter(|name| !known.contains(&name.as_str()))
            .map(|name| FieldError::new(name, "there is no such parameter here"))
            .collect();
        if unknown.is_empty() { Ok(Self { of, values }) } else { Err(Error::Invalid(unknown)) }
    }

    /// A parameter of any value that has a name, such as a status.
    ///
    /// # Errors
    /// For a value that isn't one of them.
    pub fn named<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, FieldError> {
        self.values.get(name).map(|text| named(name, text)).transpose()
    }

    /// The same with several values, separated by commas; empty where the parameter is absent.
    ///
    /// # Errors
    /// For a value that isn't one of them.
    pub fn any_named<T: DeserializeOwned>(&self, name: &str) -> Result<Vec<T>, FieldError> {
        self.values.get(name).map_or(Ok(Vec::new()), |text| text.split(',').map(|text| named(name, text)).collect())
    }

    /// A time.
    ///
    /// # Errors
    /// For what isn't RFC 3339.
    pub fn time(&self, name: &str) -> Result<Option<Time>, FieldError> {
        let parse = |text: &String| {
            DateTime::parse_from_rfc3339(text)
                .map(|time| time.with_timezone(&Utc))
                .map_err(|_| FieldError::new(name, "is not a time such as '2026-01-31T03:00:00Z' (RFC 3339)"))
        };
        self.values.get(name).map(parse).transpose()
    }

    /// A switch, off where the parameter is absent.
    ///
    /// # Errors
    /// For anything but `true` and `false`.
    pub fn switch(&self, name: &str) -> Result<bool, FieldError> {
        match self.values.get(name).map(String::as_str) {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(_) => Err(FieldError::new(name, "is either 'true' or 'false'")),
        }
    }

    /// The page, from `limit` and `cursor`, in a listing whose sort keys are written as `K`.
    ///
    /// # Errors
    /// For a limit out of range, and a cursor that isn't one of this listing.
    pub fn paging<K: FromStr>(&self, size: PageSize, key: &CursorKey) -> Result<Paging, Error> {
        let listing = self.listing();
        let limit = match self.values.get("limit") {
            None => Ok(size.default),
            Some(text) => text.parse().ok().filter(|limit| size.allowed.contains(limit)).ok_or_else(|| {
                FieldError::new("limit", format!("is a number from {} to {}", size.allowed.start(), size.allowed.end()))
            }),
        };
        let after = match self.values.get("cursor") {
            None => Ok(None),
            Some(text) => cursor::decode(text, &listing, key).and_then(|after| match after.parse::<K>() {
                Ok(_) => Ok(Some(after)),
                Err(_) => Err(cursor::unknown("is not a cursor that a listing gave")),
            }),
        };
        match (limit, after) {
            (Ok(limit), Ok(after)) => Ok(Paging { limit, after, listing, key: key.clone() }),
            (limit, after) => Err(Error::Invalid(limit.err().into_iter().chain(after.err()).collect())),
        }
    }

    /// What a cursor is bound to: everything but the page itself.
    fn listing(&self) -> String {
        let mut listing = self.of.clone();
        for (name, value) in self.values.iter().filter(|(name, _)| !["limit", "cursor"].contains(&name.as_str())) {
            // Lengths keep apart what a separator within a value would make look the same.
            listing.push_str(&format!("\n{name} {} {value}", value.len()));
        }
        listing
    }
}

fn named<T: DeserializeOwned>(name: &str, text: &str) -> Result<T, FieldError> {
    T::deserialize(text.into_deserializer()).map_err(|cause: ValueError| FieldError::new(name, cause.to_string()))
}

impl Paging {
    /// The first page of what a route lists, where its placeholders stand for these.
    pub fn first(route: &str, path: &[(&str, &str)], size: PageSize, key: &CursorKey) -> Self {
        Self { limit: size.default, after: None, listing: place(route, path.iter().copied()), key: key.clone() }
    }

    /// The same page, as the catalog is asked for it.
    pub fn request(&self) -> PageRequest {
        PageRequest { after: self.after.clone(), limit: self.limit }
    }

    /// The cursor of the page that goes on after `last`.
    pub fn cursor(&self, last: &str) -> String {
        cursor::encode(last, &self.listing, &self.key)
    }
}

#[cfg(test)]
mod tests {
    use milvault_model::{BackupId, BackupStatus};

    use super::*;

    const KNOWN: [&str; 6] = ["status", "from", "to", "limit", "cursor", "includeDeleted"];
    const ID: &str = "bk-01ARZ3NDEKTSV4RRFFQ69G5FAV";

    fn filters(values: &[(&str, &str)]) -> Filters {
        read(values).unwrap()
    }

    fn read(values: &[(&str, &str)]) -> Result<Filters, Error> {
        let values = values.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        Filters::new("list/orders".into(), values, &KNOWN)
    }

    fn refused(result: Result<Paging, Error>) -> Vec<String> {
        match result {
            Err(Error::Invalid(found)) => found.into_iter().map(|found| found.pointer).collect(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_unknown_parameter_is_refused_by_name() {
        match read(&[("limit", "5"), ("colour", "red")]) {
            Err(Error::Invalid(found)) => assert_eq!(found[0].pointer, "colour"),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn statuses_times_and_switches_are_read_or_refused() {
        let good = filters(&[("status", "AVAILABLE,DAMAGED"), ("from", "2026-01-31T03:00:00+09:00")]);
        assert_eq!(good.any_named::<BackupStatus>("status").unwrap(), [BackupStatus::Available, BackupStatus::Damaged]);
        assert_eq!(good.time("from").unwrap().unwrap().to_rfc3339(), "2026-01-30T18:00:00+00:00");
        assert!(!good.switch("includeDeleted").unwrap());
        let bad = filters(&[("status", "available"), ("from", "yesterday"), ("includeDeleted", "1")]);
        assert!(bad.any_named::<BackupStatus>("status").unwrap_err().detail.contains("AVAILABLE"));
        assert_eq!(bad.time("from").unwrap_err().pointer, "from");
        assert!(bad.switch("includeDeleted").is_err());
    }

    #[test]
    fn a_limit_is_bounded_and_has_a_default() {
        let limit =
            |text| filters(&[("limit", text)]).paging::<BackupId>(PageSize::LISTING, &CursorKey::new("of a test"));
        assert_eq!(filters(&[]).paging::<BackupId>(PageSize::LISTING, &CursorKey::new("of a test")).unwrap().limit, 50);
        assert_eq!(limit("1").unwrap().limit, 1);
        assert_eq!(limit("1000").unwrap().limit, 1000);
        for bad in ["0", "1001", "-1", "1.5", "", "ten", "99999999999999999999999"] {
            assert_eq!(refused(limit(bad)), ["limit"], "{bad}");
        }
    }

    #[test]
    fn a_cursor_survives_another_limit_but_not_another_filter_path_or_key() {
        let first = filters(&[("status", "FAILED")])
            .paging::<BackupId>(PageSize::LISTING, &CursorKey::new("of a test"))
            .unwrap();
        let cursor = first.cursor(ID);
        let next = filters(&[("status", "FAILED"), ("limit", "7"), ("cursor", &cursor)]);
        assert_eq!(
            next.paging::<BackupId>(PageSize::LISTING, &CursorKey::new("of a test")).unwrap().after.as_deref(),
            Some(ID)
        );
        let other = filters(&[("cursor", &cursor)]);
        assert_eq!(refused(other.paging::<BackupId>(PageSize::LISTING, &CursorKey::new("of a test"))), ["cursor"]);
        let forged = first.cursor(&"z".repeat(5000));
        let forged = filters(&[("status", "FAILED"), ("cursor", &forged), ("limit", "0")]);
        assert_eq!(
            refused(forged.paging::<BackupId>(PageSize::LISTING, &CursorKey::new("of a test"))),
            ["limit", "cursor"]
        );
    }
}
