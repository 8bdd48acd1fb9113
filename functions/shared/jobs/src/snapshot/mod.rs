//! Snapshots in object storage: the layout, the reading of documents, and the ownership of objects.

pub(crate) mod claims;
pub(crate) mod layout;
pub(crate) mod ownership;
pub(crate) mod pages;
mod reader;

pub(crate) use reader::{ObjectReader, folder, manifest_if_exists};
pub use reader::{collections, manifest};
