//! Connections, and the credentials that they carry.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use base64::{Engine, prelude::BASE64_STANDARD};
use milvault_jobs::ports::{Connector, Milvus, MilvusError};
use milvault_model::{AllowedEndpoints, Instance};
use tonic::{
    metadata::{Ascii, MetadataValue},
    transport::{ClientTlsConfig, Endpoint},
};

use crate::{
    resolver::Resolver,
    rest::{Credentials, Rest},
    server::Server,
};

/// A call that takes longer has gone wrong: what takes long in Milvus is asked for and then polled.
pub(crate) const CALL: Duration = Duration::from_secs(20);
pub(crate) const CONNECT: Duration = Duration::from_secs(5);

/// Where credentials are kept.
#[async_trait]
pub trait SecretSource: Send + Sync {
    /// The secret's text.
    ///
    /// # Errors
    /// Why it can't be read, without anything of its content.
    async fn secret(&self, arn: &str) -> Result<String, String>;
}

/// Connects to instances; reads their credentials at each connection and keeps none.
pub struct MilvusConnector {
    secrets: Arc<dyn SecretSource>,
    allowed: Arc<AllowedEndpoints>,
}

impl MilvusConnector {
    /// A connector that finds credentials in `secrets`, and connects to allowed endpoints only.
    pub fn new(secrets: Arc<dyn SecretSource>, allowed: AllowedEndpoints) -> Self {
        Self { secrets, allowed: Arc::new(allowed) }
    }

    async fn credentials(&self, instance: &Instance) -> Result<Option<Credentials>, MilvusError> {
        let Some(auth) = &instance.auth else { return Ok(None) };
        let bad = |reason: &str| MilvusError::Unauthenticated(format!("secret {}: {reason}", auth.secret_arn));
        let text = self.secrets.secret(&auth.secret_arn).await.map_err(|reason| bad(&reason))?;
        let secret: Credentials = serde_json::from_str(&text)
            .map_err(|_| bad("is neither {\"username\": …, \"password\": …} nor {\"token\": …}"))?;
        if header(&secret).is_none() {
            return Err(bad("can't be sent in a header"));
        }
        Ok(Some(secret))
    }
}

/// The header of a gRPC call: the server decodes either form, `user:password` or an API key.
fn header(credentials: &Credentials) -> Option<MetadataValue<Ascii>> {
    let mut value: MetadataValue<Ascii> = BASE64_STANDARD.encode(credentials.token()).parse().ok()?;
    value.set_sensitive(true);
    Some(value)
}

#[async_trait]
impl Connector for MilvusConnector {
    async fn connect(&self, instance: &Instance) -> Result<Arc<dyn Milvus>, MilvusError> {
        // Looked at again at each use: the list may be narrower than when the instance was registered.
        for endpoint in [Some(&instance.endpoint), instance.management_endpoint.as_ref()].into_iter().flatten() {
            if !self.allowed.may_be(endpoint) {
                return Err(MilvusError::Refused(format!("the deployment doesn't connect to {endpoint}")));
            }
        }
        let resolver = Resolver::new(self.allowed.clone());
        let credentials = self.credentials(instance).await?;
        let authorization = credentials.as_ref().and_then(header);
        let user = credentials.as_ref().and_then(Credentials::user);
        let bad = |error: tonic::transport::Error| MilvusError::Refused(format!("{}: {error}", instance.endpoint));
        let endpoint = Endpoint::from_shared(instance.endpoint.clone()).map_err(bad)?;
        let mut endpoint = endpoint.timeout(CALL).connect_timeout(CONNECT);
        if instance.endpoint.starts_with("https:") {
            endpoint = endpoint.tls_config(ClientTlsConfig::new().with_native_roots()).map_err(bad)?;
        }
        let management = instance.management_endpoint.as_deref();
        let rest = Rest::new(&instance.endpoint, management, credentials, resolver.clone());
        let channel = endpoint.connect_with_connector_lazy(resolver.connector());
        Ok(Arc::new(Server::new(channel, authorization, user, rest)))
    }
}
