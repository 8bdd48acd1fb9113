//! Snapshots in object storage: where their documents and objects are, how they are read, and whose the objects are.

pub(crate) mod claims;
pub(crate) mod layout;
pub(crate) mod ownership;
pub(crate) mod pages;
mod reader;

pub(crate) use reader::{ObjectReader, folder, manifest_if_there};
pub use reader::{collections, manifest};
