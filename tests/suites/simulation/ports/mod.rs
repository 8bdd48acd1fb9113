//! The ports of an invocation: in-memory ones behind a network on which everything may happen.

mod catalog;
mod invocations;
mod milvus;
mod objects;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use chrono::TimeDelta;
use futures::FutureExt;
use milvault_model::{InstanceId, Time};
use milvault_ports::{Catalog, Clock, Objects};

use crate::{
    audit::Audit,
    calls::{Call, Nature, Network},
    server::Server,
    world::WorkerId,
};

/// The name of a call, made only if anybody follows the history: much of the time would go into it.
macro_rules! title {
    ($port:expr, $($words:tt)*) => {
        $port.network.world.title(|| format!($($words)*))
    };
}

use title;

pub(crate) use invocations::Report;

/// Milvus servers by the instance that each is registered as.
pub(crate) type Servers = Arc<Mutex<BTreeMap<InstanceId, Server>>>;

/// An invocation's adapter of every port.
#[derive(Clone)]
pub(crate) struct Port {
    pub(crate) network: Arc<Network>,
    pub(crate) worker: WorkerId,
    pub(crate) catalog: Arc<dyn Catalog>,
    pub(crate) objects: Arc<dyn Objects>,
    pub(crate) servers: Servers,
    pub(crate) audit: Arc<Audit>,
}

impl Port {
    pub(crate) fn outgoing(&self, nature: Nature, name: String) -> Call {
        Call { worker: self.worker, nature, name }
    }
}

/// The answer of an in-memory port, which never waits.
pub(crate) fn at_once<T>(answer: impl Future<Output = T>) -> T {
    answer.now_or_never().expect("a port in memory answers at once")
}

#[async_trait]
impl Clock for Port {
    fn now(&self) -> Time {
        self.network.world.now()
    }

    async fn sleep(&self, duration: Duration) {
        let duration = TimeDelta::from_std(duration).unwrap_or(TimeDelta::days(365));
        self.network.world.pause(duration).await;
    }
}
