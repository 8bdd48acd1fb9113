//! Milvus's root path: the prefix of its bucket below which it keeps its data.

use std::str::FromStr;

use crate::{Invalid, text::text_type};

text_type! {
    /// Milvus's `minio.rootPath` in canonical form: without slashes at either end, and empty if the data is at the top of
    /// the bucket.
    ///
    /// Milvus removes the slashes in front (`NewRemoteChunkManager` in `internal/storage/remote_chunk_manager.go`) and
    /// joins the rest with the names of its folders (`path.Join` in `pkg/util/metautil/binlog.go`), which removes the
    /// slashes at the end. So `a/b`, `/a/b` and `a/b/` are the same place, and no key begins with a slash. Milvus has no
    /// default of its own (`MinioConfig` in `pkg/util/paramtable/service_param.go`): a root path that isn't given is empty.
    #[derive(Default)]
    RootPath
}

/// The maximum length of a root path in bytes. An object's key has at most 1,024.
const LONGEST: usize = 512;

impl RootPath {
    /// The prefix of the keys below the root path: empty for the empty root path, otherwise ending with a slash.
    pub fn prefix(&self) -> String {
        match self.0.as_str() {
            "" => String::new(),
            path => format!("{path}/"),
        }
    }
}

impl FromStr for RootPath {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        if text.len() > LONGEST || text.chars().any(char::is_control) {
            return Err(Invalid::new("a root path has at most 512 bytes and no control characters"));
        }
        let path = text.trim_matches('/');
        // Milvus would resolve these parts; S3 takes them literally.
        let is_plain = |part: &str| !matches!(part, "" | "." | "..");
        if path.is_empty() || path.split('/').all(is_plain) {
            Ok(Self(path.to_owned()))
        } else {
            Err(Invalid::new(
                "a root path is Milvus's 'minio.rootPath', such as 'files', without '.', '..' and '//' in it",
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_path_is_stored_in_one_form() {
        for (given, stored, prefix) in [
            ("", "", ""),
            ("/", "", ""),
            ("///", "", ""),
            ("files", "files", "files/"),
            ("/files", "files", "files/"),
            ("files/", "files", "files/"),
            ("/a/b/c//", "a/b/c", "a/b/c/"),
            ("a.b/..c", "a.b/..c", "a.b/..c/"),
        ] {
            let path: RootPath = given.parse().unwrap();
            assert_eq!((path.as_str(), path.prefix().as_str()), (stored, prefix), "{given}");
            assert_eq!(serde_json::to_string(&path).unwrap(), format!("\"{stored}\""));
        }
        assert_eq!(RootPath::default(), "/".parse().unwrap());
    }

    #[test]
    fn what_milvus_would_resolve_is_refused() {
        for bad in ["a//b", ".", "..", "/..", "a/../b", "./a", "a/.", "a\nb", &"x".repeat(513)] {
            assert!(bad.parse::<RootPath>().is_err(), "{bad}");
        }
    }
}
