//! Tests of jobs on the fake Milvus, through the adapter that the functions use.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "an unexpected result fails the test")]

mod automatic;
mod backup;
mod give_up;
mod grants;
mod identity;
mod object_lock;
mod restore;
mod source;
mod users;
mod writes;
