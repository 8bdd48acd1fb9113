//! Connections to instances, which are shared while they are used, for a few minutes at most.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use milvault_model::{AllowedEndpoints, Instance};
use milvault_ports::{Connector, Milvus, MilvusError};
use tonic::transport::{ClientTlsConfig, Endpoint};

use crate::{
    authorized::Authorized,
    credentials::{Login, SecretSource},
    resolver::Resolver,
    rest::Rest,
    server::Server,
    timeouts::{CALL_TIMEOUT, CONNECT_TIMEOUT},
};

/// The maximum age of a connection. A changed secret or a name that resolves to another address is noticed within this
/// time, even if no call fails.
const MAX_AGE: Duration = Duration::from_secs(300);
/// The maximum time that a connection may be unused. After it, the connection may have been cut unnoticed, because the
/// process is frozen between two invocations.
const MAX_IDLE: Duration = Duration::from_secs(60);

/// Connects to instances. Callers of the same instance share a connection, so that its secret is read once, and again
/// when the server rejects the credentials.
pub struct MilvusConnector {
    secrets: Arc<dyn SecretSource>,
    allowed: Arc<AllowedEndpoints>,
    connections: Mutex<HashMap<Target, Arc<Slot>>>,
}

/// Everything that a connection depends on.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Target {
    endpoint: String,
    management: Option<String>,
    secret_arn: Option<String>,
}

impl Target {
    fn of(instance: &Instance) -> Self {
        Self {
            endpoint: instance.endpoint.clone(),
            management: instance.management_endpoint.clone(),
            secret_arn: instance.auth.as_ref().map(|auth| auth.secret_arn.clone()),
        }
    }
}

/// A place for a connection. While one caller opens the connection, the others wait for it.
type Slot = tokio::sync::Mutex<Option<Connection>>;

struct Connection {
    server: Arc<Server>,
    login: Option<Arc<Login>>,
    times: Times,
}

/// Times of the system clock, because a monotonic clock may stand still while the process is frozen.
#[derive(Debug, Clone, Copy)]
struct Times {
    made: SystemTime,
    used: SystemTime,
}

impl Times {
    fn are_recent(self, now: SystemTime) -> bool {
        let is_within = |time, limit| now.duration_since(time).is_ok_and(|passed| passed < limit);
        is_within(self.made, MAX_AGE) && is_within(self.used, MAX_IDLE)
    }
}

impl Connection {
    fn is_usable(&self, now: SystemTime) -> bool {
        self.times.are_recent(now) && self.login.as_ref().is_none_or(|login| !login.is_refused())
    }
}

impl MilvusConnector {
    /// Makes a connector that reads credentials from `secrets` and connects only to allowed endpoints.
    pub fn new(secrets: Arc<dyn SecretSource>, allowed: AllowedEndpoints) -> Self {
        Self { secrets, allowed: Arc::new(allowed), connections: Mutex::default() }
    }

    fn slot(&self, target: &Target) -> Arc<Slot> {
        let mut connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = connections.get(target) {
            return slot.clone();
        }
        let now = SystemTime::now();
        // A slot that is locked is in use.
        connections.retain(|_, slot| {
            slot.try_lock().map_or(true, |held| held.as_ref().is_some_and(|held| held.is_usable(now)))
        });
        connections.entry(target.clone()).or_default().clone()
    }

    async fn open(&self, target: &Target, now: SystemTime) -> Result<Connection, MilvusError> {
        let login = match &target.secret_arn {
            Some(arn) => Some(Arc::new(Login::read(self.secrets.clone(), arn).await?)),
            None => None,
        };
        let resolver = Resolver::new(self.allowed.clone());
        let bad = |error: tonic::transport::Error| MilvusError::Refused(format!("{}: {error}", target.endpoint));
        let endpoint = Endpoint::from_shared(target.endpoint.clone()).map_err(bad)?;
        let mut endpoint = endpoint.timeout(CALL_TIMEOUT).connect_timeout(CONNECT_TIMEOUT);
        if target.endpoint.starts_with("https:") {
            endpoint = endpoint.tls_config(ClientTlsConfig::new().with_native_roots()).map_err(bad)?;
        }
        let rest = Rest::new(&target.endpoint, target.management.as_deref(), login.clone(), resolver.clone());
        let channel = endpoint.connect_with_connector_lazy(resolver.connector());
        let server = Arc::new(Server::new(Authorized::new(channel, login.clone()), login.clone(), rest));
        Ok(Connection { server, login, times: Times { made: now, used: now } })
    }
}

#[async_trait]
impl Connector for MilvusConnector {
    async fn connect(&self, instance: &Instance) -> Result<Arc<dyn Milvus>, MilvusError> {
        // Checked at each use, because the list may be narrower than when the instance was registered.
        for endpoint in [Some(&instance.endpoint), instance.management_endpoint.as_ref()].into_iter().flatten() {
            if !self.allowed.may_allow(endpoint) {
                return Err(MilvusError::Refused(format!("the deployment doesn't connect to {endpoint}")));
            }
        }
        let target = Target::of(instance);
        let slot = self.slot(&target);
        let mut slot = slot.lock().await;
        let now = SystemTime::now();
        let connection = match slot.take().filter(|connection| connection.is_usable(now)) {
            Some(connection) => Connection { times: Times { used: now, ..connection.times }, ..connection },
            None => self.open(&target, now).await?,
        };
        Ok(slot.insert(connection).server.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_kept_while_it_is_used_for_minutes_at_most() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let ago = |seconds| now - Duration::from_secs(seconds);
        for (made, used, expected) in [(0, 0, true), (299, 59, true), (299, 60, false), (300, 0, false)] {
            assert_eq!(Times { made: ago(made), used: ago(used) }.are_recent(now), expected, "{made} {used}");
        }
        // The clock was set back, so the connection's age is unknown.
        assert!(!Times { made: now + Duration::from_secs(1), used: now }.are_recent(now));
    }
}
