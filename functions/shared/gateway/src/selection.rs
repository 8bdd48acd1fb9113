//! The collections that a request selects and renames.

use std::collections::{BTreeMap, BTreeSet};

use milvault_jobs::FieldError;
use milvault_model::{CollectionName, CollectionPattern};

/// The maximum number of bytes of all names in one field. They are stored in the job's record, which has at most 400
/// KB.
const LIMIT: usize = 100_000;

/// Checks the patterns in `collections` and removes duplicates. An absent field gives an empty list, which selects all.
///
/// # Errors
/// The list is empty, which could mean nothing or everything, or it is too long for a record.
pub fn patterns(given: Option<Vec<CollectionPattern>>) -> Result<Vec<CollectionPattern>, FieldError> {
    const FIELD: &str = "/collections";
    let Some(given) = given else { return Ok(Vec::new()) };
    if given.is_empty() {
        return Err(FieldError::new(FIELD, "is empty; omit it to select all collections"));
    }
    let patterns: Vec<CollectionPattern> = given.into_iter().collect::<BTreeSet<_>>().into_iter().collect();
    bounded(FIELD, patterns.iter().map(|pattern| pattern.to_string().len()).sum())?;
    Ok(patterns)
}

/// Checks the names in `rename`.
///
/// # Errors
/// They are too long for a record.
pub fn renames(
    given: BTreeMap<CollectionName, CollectionName>,
) -> Result<BTreeMap<CollectionName, CollectionName>, FieldError> {
    bounded("/rename", given.iter().map(|(from, to)| from.to_string().len() + to.to_string().len()).sum())?;
    Ok(given)
}

fn bounded(field: &str, size: usize) -> Result<(), FieldError> {
    if size <= LIMIT {
        return Ok(());
    }
    Err(FieldError::new(
        field,
        format!("has names of more than {LIMIT} bytes in total; 'database.*' selects a whole database"),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(count: usize) -> Vec<CollectionPattern> {
        (0..count).map(|number| format!("default.items_{number:010}").parse().unwrap()).collect()
    }

    #[test]
    fn an_absent_selection_selects_all_and_an_empty_one_is_refused() {
        assert_eq!(patterns(None).unwrap(), []);
        assert_eq!(patterns(Some(vec![])).unwrap_err().pointer, "/collections");
    }

    #[test]
    fn a_pattern_given_twice_counts_once() {
        assert_eq!(patterns(Some([named(2), named(2)].concat())).unwrap(), named(2));
    }

    #[test]
    fn names_that_are_too_long_for_a_record_are_refused() {
        assert!(patterns(Some(named(4_000))).is_ok());
        assert!(patterns(Some(named(5_000))).unwrap_err().detail.contains("database.*"));
        let twice =
            |name: CollectionPattern| name.to_string().parse::<CollectionName>().map(|name| (name.clone(), name));
        assert!(renames(named(5_000).into_iter().filter_map(|name| twice(name).ok()).collect()).is_err());
    }
}
