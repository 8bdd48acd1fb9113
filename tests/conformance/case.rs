//! A case, and how it is run.

use std::{any::Any, panic::AssertUnwindSafe, str::FromStr};

use futures::{FutureExt, future::LocalBoxFuture};

/// Something that AWS does and an endpoint that stands in for it may lack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Capability {
    /// `CopyObject` heeds `If-None-Match`.
    ConditionalCopy,
}

impl FromStr for Capability {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "conditional-copy" => Ok(Self::ConditionalCopy),
            _ => Err(format!("'{text}' is no capability; there is 'conditional-copy'")),
        }
    }
}

/// One promise, tried on a fixture.
pub struct Case<F> {
    /// The promise, as the name of the function that tries it.
    pub name: &'static str,
    /// What the endpoint must be able to do.
    pub needs: Option<Capability>,
    /// Tries it; panics where it isn't kept.
    pub run: for<'a> fn(&'a F) -> LocalBoxFuture<'a, ()>,
}

/// How a case went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The promise was kept.
    Kept,
    /// It wasn't; with what was found instead.
    Broken(String),
    /// It wasn't, and the endpoint was declared to lack what it takes.
    Lacking(Capability),
    /// It was, although the endpoint was declared to lack what it takes: the declaration is out of date.
    NotLacking(Capability),
}

/// A case and how it went.
#[derive(Debug)]
pub struct Report {
    /// The case's name.
    pub name: &'static str,
    /// How it went.
    pub outcome: Outcome,
}

impl Report {
    /// Whether the endpoint is what it was declared to be.
    pub fn is_fine(&self) -> bool {
        matches!(self.outcome, Outcome::Kept | Outcome::Lacking(_))
    }
}

/// Runs a case. One whose capability is declared to be lacking is run all the same, and expected to fail.
pub async fn run<F>(case: &Case<F>, fixture: &F, lacking: &[Capability]) -> Report {
    let result = AssertUnwindSafe((case.run)(fixture)).catch_unwind().await;
    let outcome = match (result, case.needs.filter(|needed| lacking.contains(needed))) {
        (Ok(()), None) => Outcome::Kept,
        (Ok(()), Some(capability)) => Outcome::NotLacking(capability),
        (Err(_), Some(capability)) => Outcome::Lacking(capability),
        (Err(panic), None) => Outcome::Broken(message(panic.as_ref())),
    };
    Report { name: case.name, outcome }
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("a panic without a message").to_owned()
}

/// The cases made of these functions, each of which takes a reference to the fixture.
macro_rules! cases {
    ($($name:ident $(needs $capability:ident)?),+ $(,)?) => {
        &[$($crate::conformance::Case {
            name: stringify!($name),
            needs: $crate::conformance::case::needs!($($capability)?),
            run: |fixture| Box::pin($name(fixture)),
        }),+]
    };
}

macro_rules! needs {
    () => {
        None
    };
    ($capability:ident) => {
        Some($crate::conformance::Capability::$capability)
    };
}

pub(crate) use {cases, needs};
