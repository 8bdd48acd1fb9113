//! The gateway between HTTP and the jobs: it turns events into typed calls, and results into answers and problems.
//!
//! A function is called over HTTP or with a plain JSON event that has the same fields. [`Call`] represents both, so
//! that a function handles them alike, and [`reply`] gives each caller the answer in its own form.
#![forbid(unsafe_code)]

mod answer;
mod call;
mod cursor;
mod event;
mod filters;
mod findings;
mod idempotency_key;
mod parse;
mod precondition_headers;
mod problem;
mod selection;
pub mod show;

pub use answer::{Answer, Status, reply};
pub use call::{Call, Route};
pub use event::{BODY_LIMIT, Body, Caller, Event, Headers, HttpRequest, Subject};
pub use filters::{Filters, PageSize, Paging};
pub use findings::Findings;
pub use parse::{invalid, object};
pub use problem::code_of;
pub use selection::{patterns, renames};
