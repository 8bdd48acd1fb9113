//! The restore object, its description, and the request for a restore.

mod description;
mod request;
mod view;

#[cfg(test)]
mod tests;

pub use description::{CollectionRestoreView, RestoreDescription};
pub use request::RestoreRequest;
pub use view::RestoreView;
