//! Snapshots in object storage: the layout, the reading of documents, and the ownership of objects.

pub(crate) mod layout;
pub(crate) mod ownership;
pub(crate) mod pages;
mod reader;
pub(crate) mod removable_objects;

pub(crate) use reader::ObjectReader;
