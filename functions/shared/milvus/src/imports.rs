//! The files and options of an import request.

use milvault_model::{Capabilities, Capability, StorageVersion};
use milvault_ports::{ImportData, ImportRequest, MilvusError};
use milvus::proto::common::KeyValuePair;

/// The paths and the options of an import. The options' names are those of `internal/util/importutilv2/option.go`.
///
/// # Errors
/// [`MilvusError::Refused`] if the server can't import such data.
pub(crate) fn import_files(
    capabilities: Capabilities,
    request: &ImportRequest<'_>,
) -> Result<(Vec<String>, Vec<KeyValuePair>), MilvusError> {
    let lacking = |what: &str| Err(MilvusError::Refused(format!("it can't import {what}: an older version")));
    let option = |key: &str, value: String| KeyValuePair { key: key.to_owned(), value };
    let mut options = vec![option("end_ts", capabilities.import_end(request.end_timestamp).to_string())];
    options.push(option("backup", "true".to_owned()));
    if capabilities.has(Capability::SkipDiskQuota) {
        options.push(option("skip_disk_quota_check", "true".to_owned()));
    }
    let ImportData { insert_prefix, delta_prefix, storage } = request.data;
    match storage {
        StorageVersion::V1 => {}
        StorageVersion::V2 if capabilities.has(Capability::StorageV2) => {
            options.push(option("storage_version", i64::from(storage).to_string()));
        }
        StorageVersion::V2 => return lacking("storage version 2"),
        StorageVersion::Other(other) => return lacking(&format!("logs of storage version {other}")),
    }
    Ok((vec![insert_prefix.to_owned(), delta_prefix.to_owned()], options))
}

#[cfg(test)]
mod tests {
    use milvault_model::CollectionName;

    use super::*;

    type Pairs = Vec<(String, String)>;

    fn import(version: &str, data: ImportData<'_>) -> Result<(Vec<String>, Pairs), MilvusError> {
        let collection = CollectionName::new("default", "items");
        let request = ImportRequest { collection: &collection, partition: "_default", data, end_timestamp: 5 << 18 };
        let (files, options) = import_files(Capabilities::for_reported_version(version), &request)?;
        Ok((files, options.into_iter().map(|pair| (pair.key, pair.value)).collect()))
    }

    fn segments(storage: StorageVersion) -> ImportData<'static> {
        ImportData { insert_prefix: "i/", delta_prefix: "d/", storage }
    }

    fn owned(pairs: &[(&str, &str)]) -> Pairs {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn the_options_of_an_import_are_those_of_the_servers_line() {
        let (files, options) = import("v2.3.5-lite", segments(StorageVersion::V1)).unwrap();
        assert_eq!(files, ["i/", "d/"]);
        let [backup, skip] = [("backup", "true"), ("skip_disk_quota_check", "true")];
        assert_eq!(options, owned(&[("end_ts", "6"), backup]));
        let (_, options) = import("2.6.4", segments(StorageVersion::V2)).unwrap();
        assert_eq!(options, owned(&[("end_ts", "1310720"), backup, skip, ("storage_version", "2")]));
        let (_, options) = import("2.4.22", segments(StorageVersion::V1)).unwrap();
        assert_eq!(options, owned(&[("end_ts", "6"), backup, skip]));
    }

    #[test]
    fn what_a_server_cannot_import_it_is_not_asked_to() {
        for (version, data) in [("2.5.8", segments(StorageVersion::V2)), ("3.0.0", segments(StorageVersion::Other(3)))]
        {
            assert!(matches!(import(version, data), Err(MilvusError::Refused(_))), "{version} {data:?}");
        }
    }
}
