//! Typed query parameters. Unknown parameters are refused.

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
    /// The listed resource, so that a cursor isn't valid for another resource's listing.
    place: String,
    values: BTreeMap<String, String>,
}

/// The number of items that a page may have.
#[derive(Debug, Clone)]
pub struct PageSize {
    /// The number if the caller gives none.
    pub default: usize,
    /// The numbers that the caller may give.
    pub allowed: RangeInclusive<usize>,
}

impl PageSize {
    /// The size for lists of instances, backups and restores.
    pub const LISTING: Self = Self { default: 50, allowed: 1..=1000 };
    /// The size for the collections within one backup or restore.
    pub const COLLECTIONS: Self = Self { default: 1000, allowed: 1..=1000 };
}

/// The requested page of a listing.
#[derive(Debug, Clone)]
pub struct Paging {
    /// The maximum number of items, at least one.
    pub limit: usize,
    /// The sort key after which the page begins; `None` for the first page.
    pub after: Option<String>,
    listing: String,
    key: CursorKey,
}

/// Identifies a listing by its route and the values of the route's placeholders.
pub(crate) fn place<'a>(route: &str, path: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    path.into_iter().fold(route.to_owned(), |place, (name, value)| format!("{place}\n{name}={value}"))
}

impl Filters {
    pub(crate) fn new(place: String, values: BTreeMap<String, String>, known: &[&str]) -> Result<Self, Error> {
        let unknown: Vec<FieldError> = values
            .keys()
            .filter(|name| !known.contains(&name.as_str()))
            .map(|name| FieldError::new(name, "is not a parameter of this request"))
            .collect();
        if unknown.is_empty() { Ok(Self { place, values }) } else { Err(Error::Invalid(unknown)) }
    }

    /// Reads a parameter as a `T`, such as a status.
    ///
    /// # Errors
    /// The text isn't a valid `T`.
    pub fn value<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, FieldError> {
        self.values.get(name).map(|text| parse(name, text)).transpose()
    }

    /// Reads a parameter with several values, separated by commas; empty if the parameter is absent.
    ///
    /// # Errors
    /// One of the texts isn't a valid `T`.
    pub fn value_list<T: DeserializeOwned>(&self, name: &str) -> Result<Vec<T>, FieldError> {
        self.values.get(name).map_or(Ok(Vec::new()), |text| text.split(',').map(|text| parse(name, text)).collect())
    }

    /// Reads a time.
    ///
    /// # Errors
    /// The value isn't a time in RFC 3339.
    pub fn time(&self, name: &str) -> Result<Option<Time>, FieldError> {
        let parse = |text: &String| {
            DateTime::parse_from_rfc3339(text)
                .map(|time| time.with_timezone(&Utc))
                .map_err(|_| FieldError::new(name, "is not a time such as '2026-01-31T03:00:00Z' (RFC 3339)"))
        };
        self.values.get(name).map(parse).transpose()
    }

    /// Reads a switch, which is off if the parameter is absent.
    ///
    /// # Errors
    /// The value is neither `true` nor `false`.
    pub fn switch(&self, name: &str) -> Result<bool, FieldError> {
        match self.values.get(name).map(String::as_str) {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(_) => Err(FieldError::new(name, "is either 'true' or 'false'")),
        }
    }

    /// Reads the requested page from `limit` and `cursor`, in a listing whose sort keys parse as `K`.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the limit is out of range or the cursor isn't of this listing.
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
                Err(_) => Err(cursor::unknown("is not a cursor that a listing returned")),
            }),
        };
        match (limit, after) {
            (Ok(limit), Ok(after)) => Ok(Paging { limit, after, listing, key: key.clone() }),
            (limit, after) => Err(Error::Invalid(limit.err().into_iter().chain(after.err()).collect())),
        }
    }

    /// Returns the text that a cursor is bound to: everything except `limit` and `cursor`.
    fn listing(&self) -> String {
        let mut listing = self.place.clone();
        for (name, value) in self.values.iter().filter(|(name, _)| !["limit", "cursor"].contains(&name.as_str())) {
            // The lengths make the text unambiguous if a value contains a separator.
            listing.push_str(&format!("\n{name} {} {value}", value.len()));
        }
        listing
    }
}

fn parse<T: DeserializeOwned>(name: &str, text: &str) -> Result<T, FieldError> {
    T::deserialize(text.into_deserializer()).map_err(|cause: ValueError| FieldError::new(name, cause.to_string()))
}

impl Paging {
    /// Makes the first page of a route's listing, with these values of its placeholders.
    pub fn first(route: &str, path: &[(&str, &str)], size: PageSize, key: &CursorKey) -> Self {
        Self { limit: size.default, after: None, listing: place(route, path.iter().copied()), key: key.clone() }
    }

    /// Makes the request for this page to the catalog.
    pub fn request(&self) -> PageRequest {
        PageRequest { after: self.after.clone(), limit: self.limit }
    }

    /// Makes the cursor of the page that continues after the sort key `last`.
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
        assert_eq!(
            good.value_list::<BackupStatus>("status").unwrap(),
            [BackupStatus::Available, BackupStatus::Damaged]
        );
        assert_eq!(good.time("from").unwrap().unwrap().to_rfc3339(), "2026-01-30T18:00:00+00:00");
        assert!(!good.switch("includeDeleted").unwrap());
        let bad = filters(&[("status", "available"), ("from", "yesterday"), ("includeDeleted", "1")]);
        assert!(bad.value_list::<BackupStatus>("status").unwrap_err().detail.contains("AVAILABLE"));
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
    fn a_cursor_is_valid_with_another_limit_but_not_with_another_filter_or_key() {
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
