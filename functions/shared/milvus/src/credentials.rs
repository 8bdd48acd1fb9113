//! The credentials for a server, read from a secret, and read again when the server rejects them.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use async_trait::async_trait;
use base64::{Engine, prelude::BASE64_STANDARD};
use milvault_ports::MilvusError;
use serde::Deserialize;
use tonic::codegen::http::HeaderValue;

/// The reason why a secret can't be used. It never contains any of the secret's content.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// The secret store doesn't answer, or asks to retry later. A retry may succeed.
    #[error("can't be read now: {0}")]
    Unavailable(String),
    /// The secret doesn't exist, or access to it is denied.
    #[error("can't be read: {0}")]
    Refused(String),
    /// The secret's content can't be used as credentials.
    #[error("can't be used: {0}")]
    Malformed(String),
}

impl SecretError {
    /// The error for the caller that wants to connect.
    fn of(self, arn: &str) -> MilvusError {
        let reason = format!("secret {arn} {self}");
        match self {
            Self::Unavailable(_) => MilvusError::Unreachable(reason),
            Self::Refused(_) | Self::Malformed(_) => MilvusError::Unauthenticated(reason),
        }
    }
}

/// A store of credentials.
#[async_trait]
pub trait SecretSource: Send + Sync {
    /// The secret's text.
    ///
    /// # Errors
    /// The reason why it can't be read, and whether a retry may succeed.
    async fn secret(&self, arn: &str) -> Result<String, SecretError>;
}

/// The content of a secret.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub(crate) enum Credentials {
    Password { username: String, password: String },
    Token { token: String },
}

impl Credentials {
    /// The credentials as one text, as gRPC (in base64) and REST (`Bearer`) expect it.
    pub(crate) fn token(&self) -> String {
        match self {
            Self::Password { username, password } => format!("{username}:{password}"),
            Self::Token { token } => token.clone(),
        }
    }

    /// The user's name; `None` for an API key. The server also reads a token with a colon as a name and a password
    /// (`AuthenticationInterceptor` in `internal/proxy/authentication_interceptor.go`).
    pub(crate) fn user(&self) -> Option<String> {
        match self {
            Self::Password { username, .. } => Some(username.clone()),
            Self::Token { token } => token.split_once(':').map(|(user, _)| user.to_owned()),
        }
    }

    /// The header of a gRPC call. The server decodes both forms, `user:password` and an API key.
    fn header(&self) -> Option<HeaderValue> {
        let mut value: HeaderValue = BASE64_STANDARD.encode(self.token()).parse().ok()?;
        value.set_sensitive(true);
        Some(value)
    }
}

/// Credentials with their header.
pub(crate) struct Known {
    pub(crate) credentials: Credentials,
    pub(crate) header: HeaderValue,
}

/// The credentials of a connection. All of its calls see a change at once.
pub(crate) struct Login {
    secrets: Arc<dyn SecretSource>,
    arn: String,
    known: Mutex<Arc<Known>>,
    /// Held while the secret is read again; other rejected calls wait for the result.
    renewing: tokio::sync::Mutex<()>,
    is_refused: AtomicBool,
}

impl Login {
    /// Reads the secret.
    ///
    /// # Errors
    /// [`MilvusError::Unreachable`] if it can't be read now, [`MilvusError::Unauthenticated`] if it can never be read.
    pub(crate) async fn read(secrets: Arc<dyn SecretSource>, arn: &str) -> Result<Self, MilvusError> {
        let known = read(secrets.as_ref(), arn).await.map_err(|error| error.of(arn))?;
        Ok(Self {
            secrets,
            arn: arn.to_owned(),
            known: Mutex::new(Arc::new(known)),
            renewing: tokio::sync::Mutex::default(),
            is_refused: AtomicBool::new(false),
        })
    }

    pub(crate) fn known(&self) -> Arc<Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether the server rejects the known credentials, so that a new connection has to read the secret again.
    pub(crate) fn is_refused(&self) -> bool {
        self.is_refused.load(Ordering::Relaxed)
    }

    pub(crate) fn refuse(&self) {
        self.is_refused.store(true, Ordering::Relaxed);
    }

    /// The credentials to use after the server has rejected `used`; `None` if the secret hasn't changed.
    ///
    /// # Errors
    /// The secret can't be read now, so it is unknown whether the rejection is final.
    pub(crate) async fn renewed(&self, used: &Arc<Known>) -> Result<Option<Arc<Known>>, MilvusError> {
        let _alone = self.renewing.lock().await;
        let known = self.known();
        if !Arc::ptr_eq(&known, used) {
            return Ok(Some(known));
        }
        if self.is_refused() {
            return Ok(None);
        }
        match read(self.secrets.as_ref(), &self.arn).await {
            Ok(read) if read.credentials != used.credentials => {
                let read = Arc::new(read);
                *self.known.lock().unwrap_or_else(PoisonError::into_inner) = read.clone();
                Ok(Some(read))
            }
            Err(error @ SecretError::Unavailable(_)) => Err(error.of(&self.arn)),
            // The credentials read before are rejected, and there are no others.
            Ok(_) | Err(_) => {
                self.refuse();
                Ok(None)
            }
        }
    }
}

async fn read(secrets: &dyn SecretSource, arn: &str) -> Result<Known, SecretError> {
    let text = secrets.secret(arn).await?;
    let credentials: Credentials = serde_json::from_str(&text).map_err(|_| {
        SecretError::Malformed("it is neither {\"username\": …, \"password\": …} nor {\"token\": …}".to_owned())
    })?;
    let header = credentials.header();
    let header = header.ok_or_else(|| SecretError::Malformed("it can't be sent in a header".to_owned()))?;
    Ok(Known { credentials, header })
}
