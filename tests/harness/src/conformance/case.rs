//! Cases and how they are run.

use std::{any::Any, panic::AssertUnwindSafe, str::FromStr};

use futures::{FutureExt, future::LocalBoxFuture};

/// A capability of AWS that an endpoint in its place may lack.
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

/// One promise, tested on a fixture.
pub struct Case<F> {
    /// The promise: the name of the function that tests it.
    pub name: &'static str,
    /// What the endpoint must be able to do.
    pub needs: Option<Capability>,
    /// Tests the promise; panics if it is broken.
    pub run: for<'a> fn(&'a F) -> LocalBoxFuture<'a, ()>,
}

/// The outcome of a case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The promise was kept.
    Kept,
    /// The promise was broken; with what was found instead.
    Broken(String),
    /// The promise was broken, and the endpoint was declared to lack the capability.
    Lacking(Capability),
    /// The promise was kept although the endpoint was declared to lack the capability: the declaration is out of date.
    NotLacking(Capability),
}

/// A case and its outcome.
#[derive(Debug)]
pub struct Report {
    /// The case's name.
    pub name: &'static str,
    /// The case's outcome.
    pub outcome: Outcome,
}

impl Report {
    /// Whether the outcome is as declared.
    pub fn is_fine(&self) -> bool {
        matches!(self.outcome, Outcome::Kept | Outcome::Lacking(_))
    }
}

/// Runs a case. A case whose capability is declared to be lacking runs too, and is expected to fail.
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
