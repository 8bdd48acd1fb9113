//! Privileges that roles have on objects.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::CollectionName;

/// A privilege that a role has on an object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Grant {
    /// The role's name.
    pub role: String,
    /// The database; `*` means all.
    pub database: String,
    /// The kind of object: `Global`, `Collection` or `User`. A group of privileges for collections is granted on
    /// `Global` (`GetObjectType` in `pkg/util/constant.go`, 2.6).
    pub object: String,
    /// The object's name; `*` means all.
    pub name: String,
    /// The privilege, or the group of privileges, by its name in the API.
    pub privilege: String,
}

impl Grant {
    /// Whether the grant is on this collection by name, and not on all collections.
    pub fn is_on(&self, name: &CollectionName) -> bool {
        self.object != "User" && self.database == name.database && self.name == name.collection
    }
}

impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { role, database, name, privilege, .. } = self;
        write!(f, "{privilege} on {database}.{name} to role {role}")
    }
}
