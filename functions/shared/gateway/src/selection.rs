//! Which collections a request means.

use std::collections::{BTreeMap, BTreeSet};

use milvault_jobs::FieldError;
use milvault_model::{CollectionName, CollectionPattern};

/// How many bytes the names of one field may take: they are kept in the job's record, which has room for 400 KB.
const LIMIT: usize = 100_000;

/// The patterns of `collections`, each once; none, which means all, where the field is absent.
///
/// # Errors
/// For an empty list, which might be meant as nothing or as everything, and for more than a record holds.
pub fn patterns(given: Option<Vec<CollectionPattern>>) -> Result<Vec<CollectionPattern>, FieldError> {
    const FIELD: &str = "/collections";
    let Some(given) = given else { return Ok(Vec::new()) };
    if given.is_empty() {
        return Err(FieldError::new(FIELD, "selects nothing; leave it out to select everything"));
    }
    let patterns: Vec<CollectionPattern> = given.into_iter().collect::<BTreeSet<_>>().into_iter().collect();
    bounded(FIELD, patterns.iter().map(|pattern| pattern.to_string().len()).sum())?;
    Ok(patterns)
}

/// The names of `rename`.
///
/// # Errors
/// For more than a record holds.
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
        format!("has names of over {LIMIT} bytes in all; a database is selected as 'database.*'"),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(count: usize) -> Vec<CollectionPattern> {
        (0..count).map(|number| format!("default.items_{number:010}").parse().unwrap()).collect()
    }

    #[test]
    fn an_absent_selection_is_everything_and_an_empty_one_is_refused() {
        assert_eq!(patterns(None).unwrap(), []);
        assert_eq!(patterns(Some(vec![])).unwrap_err().pointer, "/collections");
    }

    #[test]
    fn a_pattern_given_twice_counts_once() {
        assert_eq!(patterns(Some([named(2), named(2)].concat())).unwrap(), named(2));
    }

    #[test]
    fn more_names_than_a_record_holds_are_refused() {
        assert!(patterns(Some(named(4_000))).is_ok());
        assert!(patterns(Some(named(5_000))).unwrap_err().detail.contains("database.*"));
        let twice =
            |name: CollectionPattern| name.to_string().parse::<CollectionName>().map(|name| (name.clone(), name));
        assert!(renames(named(5_000).into_iter().filter_map(|name| twice(name).ok()).collect()).is_err());
    }
}
