//! What roles may do.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::CollectionName;

/// What a role may do with an object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Grant {
    /// The role.
    pub role: String,
    /// In which database; `*` is all.
    pub database: String,
    /// With what kind of object: `Global`, `Collection` or `User`. A group of privileges for collections is granted on
    /// `Global` (`GetObjectType` in `pkg/util/constant.go`, 2.6).
    pub object: String,
    /// With which object; `*` is all.
    pub name: String,
    /// The privilege or the group of privileges, as the API names it.
    pub privilege: String,
}

impl Grant {
    /// Whether it is on this very collection, and not on all of them.
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
