//! What belongs to a collection's name: aliases and grants.

use std::collections::{BTreeMap, BTreeSet};

use milvault_model::CollectionName;
use milvault_ports::MilvusError;

use super::{Lie, Server};
use crate::belongings::{Belongings, Right};

impl Server {
    pub(crate) fn point_alias(&mut self, alias: &str, at: &CollectionName) -> Result<(), MilvusError> {
        let id = self.found(at)?.id;
        self.aliases.insert(alias.to_owned(), id);
        Ok(())
    }

    /// From 2.4 on, a collection that has an alias can't be dropped.
    pub(crate) fn keeps_from_dropping(&self, id: i64) -> bool {
        self.habits.has_l0 && self.aliases.values().any(|of| *of == id)
    }

    pub(crate) fn drop_alias(&mut self, alias: &str) {
        self.aliases.remove(alias);
    }

    pub(crate) fn alias_target(&self, alias: &str) -> Option<String> {
        self.name_of(*self.aliases.get(alias)?).map(|name| name.collection)
    }

    /// The aliases of a collection.
    pub(crate) fn aliases_of(&self, id: i64) -> Vec<String> {
        self.aliases.iter().filter(|(_, of)| **of == id).map(|(alias, _)| alias.clone()).collect()
    }

    /// The aliases in the collection's description.
    pub(super) fn described_aliases(&mut self, name: &CollectionName, id: i64) -> Vec<String> {
        let now = self.aliases_of(id);
        if !self.habits.caches_aliases {
            return now;
        }
        let (of, aliases) = self.described_aliases.entry(id).or_insert_with(|| (name.clone(), now.clone()));
        if of != name {
            (*of, *aliases) = (name.clone(), now);
        }
        aliases.clone()
    }

    /// A user points an alias at a collection.
    pub(crate) fn point_believed(&mut self, alias: &str, at: &CollectionName) -> Result<(), MilvusError> {
        self.takes_changes()?;
        self.point_alias(alias, at)?;
        self.changes.of_alias(alias);
        Ok(())
    }

    /// A user drops an alias.
    pub(crate) fn drop_believed_alias(&mut self, alias: &str) -> Result<(), MilvusError> {
        self.takes_changes()?;
        self.drop_alias(alias);
        self.changes.of_alias(alias);
        Ok(())
    }

    /// A user grants a right.
    pub(crate) fn give_believed(&mut self, right: Right) -> Result<(), MilvusError> {
        self.takes_changes()?;
        self.changes.of_right(right.clone(), Wanted::Given);
        self.rights.insert(right);
        Ok(())
    }

    /// A user revokes a right.
    pub(crate) fn revoke_believed(&mut self, right: Right) -> Result<(), MilvusError> {
        self.takes_changes()?;
        self.rights.remove(&right);
        self.changes.of_right(right, Wanted::Open);
        Ok(())
    }

    pub(crate) fn roles(&self) -> Result<Vec<String>, MilvusError> {
        match self.habits.tells_roles {
            true => Ok(Right::ROLES.iter().take(self.habits.roles).map(|role| (*role).to_owned()).collect()),
            false => Err(MilvusError::Forbidden("roles are an administrator's".to_owned())),
        }
    }

    /// The grants of a role, or of all.
    pub(crate) fn rights(&self, role: Option<&str>) -> Vec<Right> {
        let rights = self.rights.union(&self.wanted_rights);
        rights.filter(|right| role.is_none_or(|role| right.role == role)).cloned().collect()
    }

    pub(crate) fn give(&mut self, right: Right) -> Result<(), MilvusError> {
        if self.habits.refuses_grants && right.role == Right::ROLES[1] {
            return Err(MilvusError::Refused("it may not".to_owned()));
        }
        match self.lie {
            Some(Lie::Grants) => self.wanted_rights.insert(right),
            _ => self.rights.insert(right),
        };
        Ok(())
    }

    /// Which roles there are.
    pub(crate) fn has_role(&self, role: &str) -> bool {
        Right::ROLES.iter().take(self.habits.roles).any(|known| *known == role)
    }

    /// What belongs to each name now.
    pub(crate) fn belongings(&self) -> Belongings {
        let aliases = self.aliases.iter().filter_map(|(alias, of)| Some((alias.clone(), self.name_of(*of)?)));
        Belongings { change: self.changes.last, aliases: aliases.collect(), rights: self.rights.clone() }
    }
}

/// What a user's last change of a grant asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    Given,
    /// The grant may exist or not.
    Open,
}

/// Users' changes of aliases and grants, numbered in order.
#[derive(Debug, Clone, Default)]
pub(crate) struct Changes {
    last: u64,
    aliases: BTreeMap<String, u64>,
    rights: BTreeMap<Right, (u64, Wanted)>,
}

impl Changes {
    pub(crate) fn of_alias(&mut self, alias: &str) {
        self.last += 1;
        self.aliases.insert(alias.to_owned(), self.last);
    }

    pub(crate) fn of_right(&mut self, right: Right, wanted: Wanted) {
        self.last += 1;
        self.rights.insert(right, (self.last, wanted));
    }

    /// Whether no user has changed an alias since that change.
    pub(crate) fn leave_alias(&self, alias: &str, since: u64) -> bool {
        self.aliases.get(alias).is_none_or(|last| *last <= since)
    }

    pub(crate) fn leave_right(&self, right: &Right, since: u64) -> bool {
        self.rights.get(right).is_none_or(|(last, _)| *last <= since)
    }

    /// The grants that must exist now, given those that existed at that change.
    pub(crate) fn wanted(&self, before: &Belongings) -> BTreeSet<Right> {
        let mut wanted = before.rights.clone();
        for (right, (_, wants)) in self.rights.iter().filter(|(_, (at, _))| *at > before.change) {
            match wants {
                Wanted::Given => wanted.insert(right.clone()),
                Wanted::Open => wanted.remove(right),
            };
        }
        wanted
    }
}
