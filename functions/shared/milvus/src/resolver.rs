//! Name resolution that returns only addresses that the deployment may connect to.

use std::{
    io,
    net::SocketAddr,
    sync::Arc,
    task::{Context, Poll},
    vec,
};

use futures::future::BoxFuture;
use hyper_util::client::legacy::connect::{HttpConnector, dns::Name};
use milvault_model::AllowedEndpoints;
use tower_service::Service;

/// A resolver for gRPC and HTTP. An address that it omits can't be connected to by that name, even if the name resolves
/// differently the next time.
#[derive(Debug, Clone)]
pub(crate) struct Resolver(Arc<AllowedEndpoints>);

impl Resolver {
    pub(crate) fn new(allowed: Arc<AllowedEndpoints>) -> Self {
        Self(allowed)
    }

    async fn resolve(self, host: String) -> io::Result<vec::IntoIter<SocketAddr>> {
        let found: Vec<SocketAddr> = tokio::net::lookup_host((host.as_str(), 0)).await?.collect();
        let allowed: Vec<SocketAddr> = found.iter().copied().filter(|found| self.0.allows(&host, found.ip())).collect();
        if allowed.is_empty() && !found.is_empty() {
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                "the deployment doesn't connect to its address",
            ));
        }
        Ok(allowed.into_iter())
    }

    /// The connector for gRPC, with or without TLS on top.
    pub(crate) fn connector(self) -> HttpConnector<Self> {
        let mut connector = HttpConnector::new_with_resolver(self);
        connector.enforce_http(false);
        connector.set_nodelay(true);
        connector
    }
}

impl Service<Name> for Resolver {
    type Response = vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<Self::Response>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        Box::pin(self.clone().resolve(name.as_str().to_owned()))
    }
}

impl reqwest::dns::Resolve for Resolver {
    fn resolve(&self, name: reqwest::dns::Name) -> reqwest::dns::Resolving {
        let resolver = self.clone();
        Box::pin(async move {
            let found: reqwest::dns::Addrs = Box::new(Resolver::resolve(resolver, name.as_str().to_owned()).await?);
            Ok(found)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_name_leads_only_where_the_deployment_connects_to() {
        let resolve = async |allowed: &str| {
            let resolver = Resolver::new(Arc::new(allowed.parse().unwrap()));
            Resolver::resolve(resolver, "localhost".to_owned()).await
        };
        assert_eq!(resolve("*").await.unwrap_err().kind(), io::ErrorKind::PermissionDenied);
        assert!(resolve("10.0.0.0/8").await.is_err());
        assert!(resolve("127.0.0.0/8,::1").await.unwrap().next().is_some());
        assert!(resolve("localhost").await.unwrap().next().is_some());
    }
}
