//! The restore object, with what the caller must know before and after, and the request for one.

mod description;
mod request;
mod view;

#[cfg(test)]
mod tests;

pub use description::{CollectionRestoreView, RestoreDescription};
pub use request::RestoreRequest;
pub use view::RestoreView;
